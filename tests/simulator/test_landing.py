"""The page at a confirmation URL: its token, its ways out, and the app that answers in its stead."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from invoice.simulator.app import Simulator
from tests.simulator.conftest import Merchant, Receiver

PHONE = "/sim/phone/4712457890"
BACK = "http://127.0.0.1:5000/back?recurring=1"


def link(merchant: Merchant, **changes: Any) -> tuple[str, str]:
    """Return (agreement id, path of its landing page)."""
    drafted = merchant.draft(**changes)
    parts = urlsplit(drafted["vippsConfirmationUrl"])
    return drafted["agreementId"], f"{parts.path}?{parts.query}"


def status(merchant: Merchant, agreement_id: str) -> str:
    return str(merchant.agreement(agreement_id)["status"])


def claims(url: str) -> dict[str, Any]:
    token = parse_qs(urlsplit(url).query)["token"][0]
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def test_the_token_in_the_link_lives_600_seconds_and_names_the_agreement(merchant: Merchant) -> None:
    drafted = merchant.draft()

    found = claims(drafted["vippsConfirmationUrl"])

    assert found["exp"] - found["iat"] == 600
    assert found["agreementId"] == drafted["agreementId"]
    assert "4712457890" not in str(found)


@pytest.mark.parametrize("page", ["", "&waiting=1"])
def test_going_back_from_the_page_calls_it_off(
    merchant: Merchant, simulator: Simulator, receiver: Receiver, page: str
) -> None:
    merchant.register(receiver.url)
    agreement_id, path = link(merchant)
    assert "data-back" in merchant.client.get(path + page).text

    answer = merchant.client.post(path + page, data={"action": "back"})
    simulator.run_due()

    assert (answer.status_code, answer.headers["Location"]) == (303, BACK)
    assert status(merchant, agreement_id) == "STOPPED"
    assert receiver.events() == ["agreement-rejected"]


def test_the_browsers_own_way_back_presses_that_button(merchant: Merchant) -> None:
    with merchant.client.get("/sim/static/live.js") as script:
        text = script.text

    assert 'document.querySelector("form[data-back]")' in text
    assert "history.pushState" in text
    assert 'addEventListener("popstate"' in text


@pytest.mark.parametrize("first", ["approve", "reject", "back", "approve-and-close"])
@pytest.mark.parametrize("second", ["approve", "reject", "back", "close", "wait"])
def test_a_link_that_was_answered_does_nothing_more(merchant: Merchant, first: str, second: str) -> None:
    agreement_id, path = link(merchant)
    merchant.client.post(path, data={"action": first})
    before = status(merchant, agreement_id)

    assert merchant.client.get(path).status_code == 410
    assert merchant.client.post(path, data={"action": second}).status_code == 410
    assert status(merchant, agreement_id) == before


def browser(simulator: Simulator) -> FlaskClient:
    return simulator.app.test_client()


def test_a_link_that_opens_once_is_called_off_by_a_second_browser(simulator: Simulator, merchant: Merchant) -> None:
    merchant.switch(link_opens_once=True)
    agreement_id, path = link(merchant)
    mine, another = browser(simulator), browser(simulator)

    assert [mine.get(path).status_code, mine.head(path).status_code, mine.get(path).status_code] == [200, 200, 200]
    assert status(merchant, agreement_id) == "PENDING"
    assert another.get(path).status_code == 410
    assert status(merchant, agreement_id) == "STOPPED"


def test_a_link_may_be_opened_again_unless_the_switch_says_otherwise(simulator: Simulator, merchant: Merchant) -> None:
    agreement_id, path = link(merchant)

    assert [browser(simulator).get(path).status_code for _ in range(2)] == [200, 200]
    assert status(merchant, agreement_id) == "PENDING"


@pytest.mark.parametrize(("decision", "after"), [("approve", "ACTIVE"), ("reject", "STOPPED")])
def test_a_page_that_waits_goes_on_when_the_app_has_answered(merchant: Merchant, decision: str, after: str) -> None:
    agreement_id, path = link(merchant, phoneNumber=None)
    version = f"{path.partition('?')[0]}/version?{path.partition('?')[2]}"

    waiting = merchant.client.post(path, data={"action": "wait", "phone": "+4712457890"}).headers["Location"]
    page = merchant.client.get(waiting)
    assert page.status_code == 200
    assert "Svar i Vipps" in page.text
    assert f"{PHONE}#vipps" in page.text
    assert merchant.client.get(version).get_json()["version"] == "open"
    answered = merchant.client.post(f"{PHONE}/agreements/{agreement_id}/{decision}")

    assert (answered.status_code, answered.headers["Location"]) == (303, f"{PHONE}#vipps")
    assert status(merchant, agreement_id) == after
    assert merchant.client.get(version).get_json()["version"] == "answered"
    gone_on = merchant.client.get(waiting)
    assert (gone_on.status_code, gone_on.headers["Location"]) == (303, BACK)


def test_waiting_does_not_make_it_live_longer(merchant: Merchant) -> None:
    agreement_id, path = link(merchant)
    merchant.client.post(path, data={"action": "wait"})
    merchant.advance(minutes=10)

    assert status(merchant, agreement_id) == "EXPIRED"
    assert merchant.client.post(f"{PHONE}/agreements/{agreement_id}/approve").status_code == 409


def test_whoever_closes_the_page_can_answer_in_the_app(merchant: Merchant) -> None:
    agreement_id, path = link(merchant)
    closed = merchant.client.post(path, data={"action": "close"})

    assert (closed.status_code, closed.headers.get("Location")) == (200, None)
    assert merchant.client.post(f"{PHONE}/agreements/{agreement_id}/approve").status_code == 303
    assert status(merchant, agreement_id) == "ACTIVE"


def test_an_agreement_for_an_app_has_a_link_in_the_apps_scheme(merchant: Merchant) -> None:
    drafted = merchant.draft(isApp=True, merchantRedirectUrl="shop:home", merchantAgreementUrl="shop:manage")
    phone = merchant.client.get(PHONE).text

    assert drafted["vippsConfirmationUrl"].startswith("vippsMT://?token=")
    assert claims(drafted["vippsConfirmationUrl"])["agreementId"] == drafted["agreementId"]
    assert "http://127.0.0.1:8001/dwo-api-application/v1/deeplink/vippsgateway?v=2&amp;token=" in phone


def test_whoever_came_by_push_is_not_sent_back(merchant: Merchant) -> None:
    merchant.switch(skip_landing_page_allowed=True)
    agreement_id, path = link(merchant, skipLandingPage=True)

    answer = merchant.client.post(path, data={"action": "approve"})

    assert (answer.status_code, answer.headers.get("Location")) == (200, None)
    assert status(merchant, agreement_id) == "ACTIVE"


@pytest.mark.parametrize("number", ["12", None, "+4712457890"])
def test_a_push_needs_a_number(merchant: Merchant, number: str | None) -> None:
    merchant.switch(skip_landing_page_allowed=True)
    body = merchant.draft_body(skipLandingPage=True, phoneNumber=number)

    answer = merchant.call("POST", "/recurring/v3/agreements", body)

    assert answer.status_code == 400
    assert {"name": "phoneNumber", "reason": "Invalid phone number"} in answer.get_json()["extraDetails"]
