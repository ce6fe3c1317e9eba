"""Texts, sent and found with Twilio's own client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from invoice.simulator.accounts import DEMO_TWILIO
from invoice.simulator.app import Simulator
from invoice.simulator.segments import count_segments
from tests.simulator.conftest import Merchant, Receiver

TO = "+4712457890"


class Redirected(TwilioHttpClient):
    """Twilio's client, sent to another scheme and host."""

    def __init__(self, base: str) -> None:
        super().__init__(timeout=5)
        self.base = base

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        parts = urlsplit(url)
        return super().request(
            method, self.base + parts.path + (f"?{parts.query}" if parts.query else ""), *args, **kwargs
        )


@pytest.fixture
def twilio(server: str) -> Iterator[Client]:
    http = Redirected(server)
    yield Client(DEMO_TWILIO.account_sid, DEMO_TWILIO.auth_token, http_client=http)
    http.session.close()


def path(rest: str = "") -> str:
    return f"/2010-04-01/Accounts/{DEMO_TWILIO.account_sid}/Messages{rest}.json"


AUTH = (DEMO_TWILIO.account_sid, DEMO_TWILIO.auth_token)
FORM = {"To": TO, "From": "Nordavis", "Body": "Hei! https://a.example.com/s/x."}


def test_the_official_client_sends_and_finds_a_text(twilio: Client) -> None:
    sent = twilio.messages.create(to=TO, from_="Nordavis", body="Hei på deg")

    assert sent.sid.startswith("SM")
    assert (sent.status, sent.num_segments, sent.direction) == ("queued", "1", "outbound-api")
    assert sent.date_created.date() == date(2030, 1, 15)
    assert twilio.messages(sent.sid).fetch().body == "Hei på deg"
    assert [row.sid for row in twilio.messages.list(to=TO)] == [sent.sid]


def test_the_official_client_pages_and_filters(twilio: Client) -> None:
    for number in range(5):
        twilio.messages.create(to=TO, from_="Nordavis", body=str(number))
    twilio.messages.create(to="+4790000001", from_="2099", body="other")

    assert [row.body for row in twilio.messages.list(to=TO, page_size=2)] == ["4", "3", "2", "1", "0"]
    assert [row.body for row in twilio.messages.list(from_="2099")] == ["other"]
    assert len(twilio.messages.list(to=TO, date_sent=date(2030, 1, 15))) == 5
    assert len(twilio.messages.list(to=TO, date_sent_after=date(2030, 1, 15))) == 5
    assert twilio.messages.list(to=TO, date_sent_after=date(2030, 1, 16)) == []
    assert twilio.messages.list(to=TO, date_sent_before=date(2030, 1, 14)) == []


def test_the_official_client_reads_an_error(twilio: Client) -> None:
    with pytest.raises(TwilioRestException) as raised:
        twilio.messages.create(to="12", from_="Nordavis", body="x")

    assert (raised.value.code, raised.value.status) == (21211, 400)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"To": ""}, 21604),
        ({"To": "12"}, 21211),
        ({"To": "+15005550001"}, 21211),
        ({"To": "+15005550009"}, 21614),
        ({"From": ""}, 21603),
        ({"From": "much too long a name"}, 21212),
        ({"Body": ""}, 21602),
        ({"Body": "x" * 1601}, 21617),
        ({"StatusCallback": "nowhere"}, 21609),
    ],
)
def test_a_wrong_text_is_refused_with_twilios_code(refused: Merchant, changes: dict[str, str], code: int) -> None:
    answer = refused.client.post(path(), data={**FORM, **changes}, auth=AUTH)

    assert answer.status_code == 400
    assert (answer.get_json()["code"], answer.get_json()["status"]) == (code, 400)
    assert set(answer.get_json()) == {"code", "message", "more_info", "status"}


@pytest.mark.parametrize("auth", [None, ("x", "y"), (DEMO_TWILIO.account_sid, "é"), ("é", "é")])
def test_a_stranger_is_refused(refused: Merchant, auth: Any) -> None:
    answer = refused.client.post(path(), data=FORM, auth=auth)

    assert (answer.status_code, answer.get_json()["code"]) == (401, 20003)


def test_an_unknown_text_is_not_found(merchant: Merchant) -> None:
    answer = merchant.client.get(path("/SMunknown"), auth=AUTH)

    assert (answer.status_code, answer.get_json()["code"]) == (404, 20404)


def test_a_text_is_sent_then_delivered_with_signed_callbacks(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    sid = merchant.client.post(path(), data={**FORM, "StatusCallback": receiver.url}, auth=AUTH).get_json()["sid"]

    simulator.run_due()

    assert [body["MessageStatus"] for body in receiver.bodies] == ["sent", "delivered"]
    assert receiver.bodies[0] == {
        "MessageSid": sid,
        "SmsSid": sid,
        "MessageStatus": "sent",
        "SmsStatus": "sent",
        "To": TO,
        "From": "Nordavis",
        "AccountSid": DEMO_TWILIO.account_sid,
        "ApiVersion": "2010-04-01",
    }
    validator = RequestValidator(DEMO_TWILIO.auth_token)
    for request, body in zip(receiver.requests, receiver.bodies, strict=True):
        assert validator.validate(receiver.url, body, request.headers["X-Twilio-Signature"])
    assert merchant.client.get(path(f"/{sid}"), auth=AUTH).get_json()["status"] == "delivered"


@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [("undelivered", ["sent", "undelivered"]), ("failed", ["sent", "failed"]), ("silent", ["sent"])],
)
def test_the_switch_decides_what_becomes_of_texts(
    merchant: Merchant, simulator: Simulator, receiver: Receiver, outcome: str, statuses: list[str]
) -> None:
    merchant.switch(sms_outcome=outcome)
    merchant.client.post(path(), data={**FORM, "StatusCallback": receiver.url}, auth=AUTH)

    simulator.run_due()

    assert [body["MessageStatus"] for body in receiver.bodies] == statuses


def test_a_phone_that_is_off_gets_nothing(merchant: Merchant, simulator: Simulator) -> None:
    sid = merchant.client.post(path(), data={**FORM, "To": "+4790000003"}, auth=AUTH).get_json()["sid"]

    simulator.run_due()

    shown = merchant.client.get(path(f"/{sid}"), auth=AUTH).get_json()
    assert (shown["status"], shown["error_code"]) == ("undelivered", 30003)


def test_a_messaging_service_may_send(merchant: Merchant) -> None:
    form = {"To": TO, "MessagingServiceSid": "MG" + "0" * 32, "Body": "x"}

    shown = merchant.client.post(path(), data=form, auth=AUTH).get_json()

    assert (shown["status"], shown["from"], shown["messaging_service_sid"]) == ("accepted", None, "MG" + "0" * 32)


def test_the_list_may_lag_behind(merchant: Merchant) -> None:
    merchant.switch(twilio_list_delay_seconds=30)
    merchant.client.post(path(), data=FORM, auth=AUTH)

    assert merchant.client.get(path(), auth=AUTH).get_json()["messages"] == []
    merchant.advance(seconds=31)
    assert len(merchant.client.get(path(), auth=AUTH).get_json()["messages"]) == 1


@pytest.mark.parametrize("query", ["to=%2B4712457890", "to=+4712457890", "to=4712457890", ""])
def test_the_control_api_shows_texts_and_their_links(merchant: Merchant, query: str) -> None:
    merchant.client.post(path(), data=FORM, auth=AUTH)

    (shown,) = merchant.client.get(f"/sim/messages?{query}").get_json()["messages"]

    assert (shown["to"], shown["from"], shown["links"]) == (TO, "Nordavis", ["https://a.example.com/s/x"])
    assert merchant.client.get("/sim/messages?to=+4799999999").get_json() == {"messages": []}


@pytest.mark.parametrize(
    ("body", "segments"),
    [
        ("", 1),
        ("x" * 160, 1),
        ("x" * 161, 2),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("x" * 306, 2),
        ("x" * 307, 3),
        ("ł" * 70, 1),
        ("ł" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("x" * 152 + "€" * 77, 3),
    ],
)
def test_segments_are_counted_as_the_network_does(body: str, segments: int) -> None:
    assert count_segments(body) == segments
