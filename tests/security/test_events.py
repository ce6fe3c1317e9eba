"""Security events in the log: who was let in and by what, who was turned away and why, and no flood of either."""

from __future__ import annotations

import json
import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from invoice import signatures
from invoice.services import partners
from invoice.services.jobs import Services
from invoice.web import logs
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish
from tests.fakes import FakePayments, FakeSms
from tests.web import proofs
from tests.web.bad_bodies import GOOD, basic
from tests.web.isolation import registered
from tests.web.visiting import receipt_of

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
EVENTS = "/api/events"


def said(caplog: pytest.LogCaptureFixture, begins: str) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.name.startswith("invoice")]
    caplog.clear()
    return [line for line in found if line.startswith(begins)]


def test_every_proof_that_was_right_is_written_down_once_with_its_partner_and_its_kind(
    client: FlaskClient, time: StandingClock, caplog: pytest.LogCaptureFixture
):
    a_partner()
    key, secret = partners.add_key(10295), partners.turn_hmac_on(10295, takes_short=True)
    full = proofs.full(10295, secret, "GET", EVENTS, at=time.at, nonce="one")
    short = proofs.short(10295, secret, "GET", EVENTS, at=time.at, nonce="two")

    answers = [
        client.get(EVENTS, environ_overrides={"HTTP_AUTHORIZATION": given, "REMOTE_ADDR": "192.0.2.7"}).status_code
        for given in (basic()["Authorization"], f"Bearer {key}", full, short)
    ]

    assert answers == [200] * 4
    by = ["its password or key", "its password or key", signatures.FULL, signatures.SHORT]
    lines = said(caplog, "Admitted")
    assert lines == [f"Admitted: partner 10295 from 192.0.2.7 by {how}." for how in by]
    assert key not in "".join(lines)


def test_a_genuine_webhook_and_a_genuine_receipt_are_written_down(
    client: FlaskClient, services: Services, payments: FakePayments, caplog: pytest.LogCaptureFixture
):
    services.subscriptions.request(a_partner(), a_wish(send_sms=True))
    hook = registered("R")

    client.post(f"/hooks/vipps/{hook}", data=json.dumps({"eventType": "x"}))
    client.post(receipt_of(1), data={"MessageSid": "SM1", "MessageStatus": "delivered"})

    assert said(caplog, "Admitted") == [
        "Admitted: a webhook of account 23456R from 127.0.0.1.",
        "Admitted: a receipt of message 1 from 127.0.0.1.",
    ]


def test_what_is_another_partners_and_looks_like_nothing_is_written_down_with_who_asked(
    client: FlaskClient, services: Services, caplog: pytest.LogCaptureFixture
):
    services.subscriptions.request(a_partner(), a_wish())
    a_partner(20000)
    caplog.clear()

    answer = client.delete("/api/recurring/cancel/1", headers=basic("20000"))

    assert answer.status_code == 404
    assert said(caplog, "Refused") == ["Refused: partner 20000 from 127.0.0.1: 404 at mobile_invoice.cancel."]


REFUSED = {
    "wrong input": ("POST", "/api/recurring/subscribe", GOOD | {"amount": "x"}, "400"),
    "another content": ("POST", "/api/recurring/subscribe", b"x", "415"),
    "too long": ("POST", "/api/recurring/subscribe", {"name": "x" * 70_000}, "413"),
    "another method": ("PUT", "/api/recurring/subscribe", None, "405"),
    "no such thing": ("GET", "/api/events/evt_7", None, "404"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_written_down_once_a_minute_with_how_many_there_were(
    client: FlaskClient, time: StandingClock, caplog: pytest.LogCaptureFixture, what: str
):
    a_partner()
    method, path, body, kind = REFUSED[what]

    def ask() -> int:
        sent = {"data": body, "content_type": "text/plain"} if isinstance(body, bytes) else {"json": body}
        return client.open(path, method=method, headers=basic(), **sent).status_code

    assert {ask() for _ in range(50)} == {int(kind)}
    first = said(caplog, "Refused")
    time.move(seconds=61)
    ask()

    who = "somebody" if kind == "405" else "partner 10295"
    assert len(first) == 1
    assert first[0].startswith(f"Refused: {who} from 127.0.0.1: {kind} at ")
    assert said(caplog, "Refused") == [first[0].removesuffix(".") + ", and 49 more like it before."]


def test_what_is_over_a_limit_is_written_down_once_a_minute(client: FlaskClient, caplog: pytest.LogCaptureFixture):
    a_partner(request_limit=3)

    answers = [client.get(EVENTS, headers=basic()).status_code for _ in range(9)]
    guesses = [client.get(f"/s/guess-{n}").status_code for n in range(110)]

    assert (answers.count(429), guesses.count(429)) == (6, 10)
    assert said(caplog, "Refused") == [
        "Refused: partner 10295 from 127.0.0.1: 429 at events.pull.",
        "Refused: somebody from 127.0.0.1: 404 at pages.show_offer.",
        "Refused: somebody from 127.0.0.1: 429 at pages.show_offer.",
    ]


def test_one_partners_refusals_do_not_hide_anothers(client: FlaskClient, caplog: pytest.LogCaptureFixture):
    for number in (10295, 20000):
        a_partner(number)
        client.get("/api/events/evt_7", headers=basic(str(number)))

    assert len(said(caplog, "Refused")) == 2


def test_an_item_of_a_list_that_is_refused_is_written_down_though_the_answer_is_200(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
):
    a_partner()
    items = [{"agreement_id": "agr_of_another", "price": 100}, {"agreement_id": "agr_2"}]

    answer = client.post("/vipps-recurring-payments/charge/make", json=items, headers=basic())

    assert (answer.status_code, len(answer.json["errors"])) == (200, 2)
    assert said(caplog, "Refused") == [
        "Refused: partner 10295 from 127.0.0.1: NotFound at recurring_payments.make_charges.",
        "Refused: partner 10295 from 127.0.0.1: Invalid at recurring_payments.make_charges.",
    ]


def test_forged_receipts_fill_no_log(client: FlaskClient, sms: FakeSms, caplog: pytest.LogCaptureFixture):
    sms.genuine = False

    assert {client.post(f"/hooks/twilio/{n}", data={"To": "+4799887766"}).status_code for n in range(1, 40)} == {403}

    lines = said(caplog, "Refused")
    assert lines == ["Refused: somebody from 127.0.0.1: a receipt that is not genuine at hooks.twilio."]


def test_who_was_let_in_is_written_where_nobody_said_how_logs_are_written(
    app: Flask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    monkeypatch.setattr(logging.getLogger("invoice"), "level", logging.NOTSET)
    logging.getLogger("invoice")._cache.clear()  # type: ignore[attr-defined]
    logs.prepare()

    logging.getLogger("invoice.services.credentials").info("Admitted: partner 10295.")

    assert "INFO invoice.services.credentials [-] Admitted: partner 10295." in capsys.readouterr().err
