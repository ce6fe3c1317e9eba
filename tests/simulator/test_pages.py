"""What a person sees and taps."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from invoice.simulator.accounts import DEMO_TWILIO
from tests.simulator.conftest import Merchant

MSISDN = "4712457890"


def link(merchant: Merchant, **changes: Any) -> tuple[str, str]:
    """Return (agreement id, path of its landing page)."""
    drafted = merchant.draft(**changes)
    parts = urlsplit(drafted["vippsConfirmationUrl"])
    assert (parts.netloc, parts.path) == ("127.0.0.1:8001", "/dwo-api-application/v1/deeplink/vippsgateway")
    assert parts.query.startswith("v=2&token=")
    return drafted["agreementId"], f"{parts.path}?{parts.query}"


def status(merchant: Merchant, agreement_id: str) -> str:
    return str(merchant.agreement(agreement_id)["status"])


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("\u00a0", " ")


def send(merchant: Merchant, body: str, to: str = f"+{MSISDN}") -> None:
    path = f"/2010-04-01/Accounts/{DEMO_TWILIO.account_sid}/Messages.json"
    auth = (DEMO_TWILIO.account_sid, DEMO_TWILIO.auth_token)
    assert merchant.client.post(path, data={"To": to, "From": "Nordavis", "Body": body}, auth=auth).status_code == 201


def test_the_landing_page_says_what_is_asked_in_norwegian(merchant: Merchant) -> None:
    first = {"amount": 4900, "description": "Første måned", "transactionType": "DIRECT_CAPTURE"}
    _, path = link(
        merchant,
        initialCharge=first,
        campaign={"type": "PERIOD_CAMPAIGN", "price": 4900, "period": {"unit": "MONTH", "count": 1}},
    )

    html = merchant.client.get(path).text

    shown = text_of(html)
    for words in (
        "Nordavis Digital",
        "99,00 kr",
        "hver måned",
        "49,00 kr",
        "Første måned",
        "Avvis",
        "Demobutikken",
        "1 måned for 49,00 kr",
    ):
        assert words in shown
    assert f'value="+{MSISDN}"' in html
    for action in ("approve", "reject", "approve-and-close", "close"):
        assert f'name="action" value="{action}"' in html


def test_looking_at_the_landing_page_does_nothing(merchant: Merchant) -> None:
    agreement_id, path = link(merchant)

    for _ in range(3):
        assert merchant.client.get(path).status_code == 200
        assert merchant.client.head(path).status_code == 200

    assert status(merchant, agreement_id) == "PENDING"


@pytest.mark.parametrize(
    ("action", "code", "expected"),
    [
        ("approve", 303, "ACTIVE"),
        ("reject", 303, "STOPPED"),
        ("approve-and-close", 200, "ACTIVE"),
        ("close", 200, "PENDING"),
    ],
)
def test_each_button_does_what_it_says(merchant: Merchant, action: str, code: int, expected: str) -> None:
    agreement_id, path = link(merchant)

    answer = merchant.client.post(path, data={"action": action, "phone": f"+{MSISDN}"})

    assert answer.status_code == code
    assert answer.headers.get("Location") == ("http://127.0.0.1:5000/back?recurring=1" if code == 303 else None)
    assert status(merchant, agreement_id) == expected


def test_a_link_serves_once(merchant: Merchant) -> None:
    _, path = link(merchant)
    merchant.client.post(path, data={"action": "approve"})

    assert merchant.client.get(path).status_code == 410
    assert merchant.client.post(path, data={"action": "reject"}).status_code == 410


def test_a_link_lives_ten_minutes(merchant: Merchant) -> None:
    agreement_id, path = link(merchant)
    merchant.advance(minutes=10)

    assert merchant.client.get(path).status_code == 410
    assert merchant.client.post(path, data={"action": "approve"}).status_code == 410
    assert status(merchant, agreement_id) == "EXPIRED"


@pytest.mark.parametrize("token", ["", "x", "x.y.z", "æ.ø.å", "%00", "eyJ.eyJ."])
def test_a_forged_link_opens_nothing(refused: Merchant, token: str) -> None:
    path = f"/dwo-api-application/v1/deeplink/vippsgateway?v=2&token={token}"

    assert refused.client.get(path).status_code == 410
    assert refused.client.post(path, data={"action": "approve"}).status_code == 410


def test_a_refused_initial_charge_still_leads_back(merchant: Merchant) -> None:
    first = {"amount": 151, "description": "x", "transactionType": "DIRECT_CAPTURE"}
    agreement_id, path = link(merchant, initialCharge=first)

    assert merchant.client.post(path, data={"action": "approve"}).status_code == 303
    assert status(merchant, agreement_id) == "EXPIRED"


@pytest.mark.parametrize("form", [{"action": "dance"}, {}, {"action": "approve", "phone": "x"}])
def test_a_wrong_form_does_nothing(merchant: Merchant, form: dict[str, str]) -> None:
    agreement_id, path = link(merchant)

    assert merchant.client.post(path, data=form).status_code == 400
    assert status(merchant, agreement_id) == "PENDING"


@pytest.mark.parametrize("number", [MSISDN, f"+{MSISDN}"])
def test_the_phone_shows_texts_with_their_links(merchant: Merchant, number: str) -> None:
    send(merchant, "Hei <b>! Les mer: https://a.example.com/s/abc?x=1&y=2. Hilsen oss")
    send(merchant, "Til noen andre", to="+4790000001")

    html = merchant.client.get(f"/sim/phone/{number}").text

    assert '<a href="https://a.example.com/s/abc?x=1&amp;y=2">' in html
    assert "Hei &lt;b&gt;!" in html
    assert "Til noen andre" not in html
    assert "Nordavis" in html


def test_the_phone_shows_requests_agreements_and_payments(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    merchant.charge(agreement_id, due="2030-01-16")
    _, waiting = link(merchant, productName="Noe annet")
    page = merchant.client.get(f"/sim/phone/{MSISDN}").text

    assert "99,00 kr trekkes 16. januar 2030" in text_of(page)
    assert waiting.replace("&", "&amp;") in page
    assert 'href="https://shop.example.com/manage/1"' in page
    merchant.advance(days=1)
    assert "Betalt" in text_of(merchant.client.get(f"/sim/phone/{MSISDN}").text)


def test_the_person_can_stop_on_the_phone(merchant: Merchant) -> None:
    agreement_id = merchant.active()

    answer = merchant.client.post(f"/sim/phone/{MSISDN}/agreements/{agreement_id}/stop")

    assert answer.status_code == 303
    assert status(merchant, agreement_id) == "STOPPED"
    assert merchant.client.post(f"/sim/phone/{MSISDN}/agreements/{agreement_id}/stop").status_code == 409


def test_the_clock_on_the_phone_moves_and_returns(merchant: Merchant) -> None:
    answer = merchant.client.post(f"/sim/phone/{MSISDN}/clock", data={"step": "month"})

    assert (answer.status_code, answer.headers["Location"]) == (303, f"/sim/phone/{MSISDN}")
    assert merchant.client.get("/sim/clock").get_json()["now"].startswith("2030-02-15T09:0")
    assert merchant.client.post(f"/sim/phone/{MSISDN}/clock", data={"step": "x"}).status_code == 400


def test_the_account_on_the_phone_can_be_emptied_and_filled(merchant: Merchant) -> None:
    charge_id = merchant.charge(merchant.active(), due="2030-01-16")
    merchant.client.post(f"/sim/phone/{MSISDN}/funds", data={"available": "no"})
    merchant.advance(days=1)
    assert merchant.status(charge_id) == "DUE"
    assert "kunne ikke trekkes" in merchant.client.get(f"/sim/phone/{MSISDN}").text

    merchant.client.post(f"/sim/phone/{MSISDN}/funds", data={"available": "yes"})
    merchant.advance(days=1)

    assert merchant.status(charge_id) == "CHARGED"


def test_an_open_page_can_notice_a_change(merchant: Merchant) -> None:
    def version() -> str:
        return str(merchant.client.get(f"/sim/phone/{MSISDN}/version").get_json()["version"])

    before = version()
    assert version() == before
    send(merchant, "Hei")

    assert version() != before


def test_the_start_page_names_phones_agreements_and_what_is_magic(merchant: Merchant) -> None:
    agreement_id = merchant.active()

    html = merchant.client.get("/sim/").text

    for words in (
        agreement_id,
        f"/sim/phone/{MSISDN}",
        "4790000018",
        "4790000051",
        "151",
        "draft_ignores_keys",
        "drop_after",
    ):
        assert words in html


@pytest.mark.parametrize("path", ["/sim/", f"/sim/phone/{MSISDN}"])
def test_pages_run_nothing_inline_and_fetch_nothing_from_elsewhere(merchant: Merchant, path: str) -> None:
    merchant.active()
    answer = merchant.client.get(path)

    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
    assert "form-action 'self'" in policy
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/)", answer.text)
    for name in ("simulator.css", "live.js"):
        with merchant.client.get(f"/sim/static/{name}") as file:
            assert file.status_code == 200


def test_something_that_is_no_number_is_told(merchant: Merchant) -> None:
    assert merchant.client.get("/sim/phone/kari").status_code == 404
    answer = merchant.client.get("/sim/phone/?number=%2B47 12 45 78 90")
    assert answer.headers["Location"] == "/sim/phone/+4712457890"
