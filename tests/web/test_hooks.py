"""What the providers tell us: verified first, stored once, and only ever a reason to look."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from twilio.request_validator import RequestValidator
from werkzeug.test import TestResponse

from app import create_app
from invoice.clock import utc_now
from invoice.config import Settings
from invoice.lifecycle import MessageStatus, SubscriptionStatus
from invoice.providers.vipps_webhooks import sign
from invoice.services.inbox import Inbox
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading, set_encryption_keys, transaction
from invoice.store.models import InboundEvent, Message, WebhookRegistration
from invoice.web import services as reach
from tests.conftest import StandingClock, environ_for
from tests.factories import a_partner, a_wish, newest_agreement, settle, subscription
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import everything, what_is_wrong_with
from tests.web.visiting import receipt_of

pytestmark = pytest.mark.usefixtures("as_in_production")

TOKEN = "R" * 22
PATH = f"/hooks/vipps/{TOKEN}"
URL = f"https://pay.example.com{PATH}"
SECRET = "a webhook secret"


@pytest.fixture(autouse=True)
def _a_registration(app: Flask, payments: FakePayments) -> None:
    payments.webhooks["hook-1"] = URL
    with transaction():
        row = {
            "account": "123456",
            "token": TOKEN,
            "provider_webhook_id": "hook-1",
            "url": URL,
            "secret": SECRET,
            "created_at": utc_now(),
        }
        db.session.add(WebhookRegistration(**row))


@pytest.fixture
def outside(app: Flask, database_url: str) -> Iterator[FlaskClient]:
    """The application with the providers' own clients, which verify for themselves."""
    genuine = create_app(Settings.from_environ(environ_for(database_url)))
    client = genuine.test_client()
    yield client
    with genuine.app_context():
        db.engine.dispose()


def call(client: FlaskClient, path: str, **how: Any) -> TestResponse:
    return client.post(path, base_url="https://pay.example.com", **how)


def told(client: FlaskClient, **ring: Any) -> TestResponse:
    """Have the fake provider tell something, in its own shape."""
    body = {"agreement_id": "agr_1", "external_id": None, "charge_name": None, **ring}
    return client.post(PATH, data=json.dumps(body).encode())


def events() -> list[InboundEvent]:
    with reading():
        found = list(db.session.scalars(select(InboundEvent).order_by(InboundEvent.id)))
        db.session.expunge_all()
        return found


def a_request(services: Services, **changes: Any) -> int:
    return services.subscriptions.request(a_partner(), a_wish(**changes)).subscription_id


# Vipps


def test_an_unknown_registration_is_not_found(client: FlaskClient):
    answer = client.post(f"/hooks/vipps/{'A' * 22}", data=b"{}")

    assert answer.status_code == 404
    assert answer.is_json
    assert events() == []


def test_a_webhook_that_is_not_genuine_is_refused_and_not_stored(client: FlaskClient, payments: FakePayments):
    payments.genuine = False

    answer = told(client)

    assert answer.status_code == 401
    assert events() == []
    assert payments.calls == []


def test_a_genuine_webhook_about_an_unknown_agreement_is_stored_and_answered_200(
    client: FlaskClient, payments: FakePayments
):
    answer = told(client, agreement_id="agr_unknown")

    assert answer.status_code == 200
    (event,) = events()
    assert (event.source, event.read_at) == ("vipps", None)
    assert payments.calls == []


def test_a_webhook_is_only_rung_while_vipps_waits(client: FlaskClient, services: Services, payments: FakePayments):
    a_request(services)
    payments.accept("agr_1")

    answer = told(client)

    assert answer.status_code == 200
    assert payments.calls == ["draft"]
    assert events()[0].read_at is not None
    assert subscription(1).status == SubscriptionStatus.PENDING


def test_a_genuine_activation_is_looked_at_and_activates(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    number = a_request(services)
    payments.accept("agr_1")

    told(client)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.ACTIVE


def test_an_activation_that_is_not_so_at_vipps_changes_nothing(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    number = a_request(services)

    told(client)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.PENDING
    assert payments.calls.count("find_agreement") == 1


def test_the_same_bytes_again_are_one_row_and_one_look(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    a_request(services)

    answers = [told(client), told(client)]
    settle(jobs)
    answers += [told(client) for _ in range(20)]
    settle(jobs)

    assert {a.status_code for a in answers} == {200}
    assert len(events()) == 1
    assert payments.calls.count("find_agreement") == 1


def test_a_webhook_that_comes_before_its_agreement_is_placed_later(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    told(client)
    number = a_request(services)
    payments.accept("agr_1")

    time.move(seconds=30)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.ACTIVE
    assert events()[0].read_at is not None


# Vipps, with its client's own verification


def signed(body: bytes, *, secret: str = SECRET, url: str = URL, age: timedelta = timedelta(0)) -> dict[str, str]:
    """Return the headers that Vipps would send."""
    sent = format_datetime(utc_now() - age, usegmt=True)
    content = b64encode(sha256(body).digest()).decode()
    signature = sign(url, secret, sent, content)
    return {
        "x-ms-date": sent,
        "x-ms-content-sha256": content,
        "Authorization": f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}",
    }


_BODY = json.dumps({"agreementId": "agr_1", "eventType": "recurring.agreement-activated.v1"}).encode()


def test_what_vipps_signed_is_taken_and_rings(
    outside: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    number = a_request(services)
    payments.accept("agr_1")

    answer = call(outside, PATH, data=_BODY, headers=signed(_BODY))
    settle(jobs)

    assert answer.status_code == 200
    assert subscription(number).status == SubscriptionStatus.ACTIVE


def test_what_was_not_signed_for_us_now_is_refused_and_not_stored(outside: FlaskClient):
    good = signed(_BODY)
    bad: dict[str, dict[str, str]] = {
        "no headers": {},
        "no signature": {k: v for k, v in good.items() if k != "Authorization"},
        "no date": {k: v for k, v in good.items() if k != "x-ms-date"},
        "no digest": {k: v for k, v in good.items() if k != "x-ms-content-sha256"},
        "another secret": signed(_BODY, secret="another"),
        "another address": signed(_BODY, url=URL[:-1] + "S"),
        "another host": signed(_BODY, url=URL.replace("pay.", "evil.")),
        "another body": signed(_BODY + b" "),
        "a replay after nine days": signed(_BODY, age=timedelta(days=9)),
        "a date to come": signed(_BODY, age=timedelta(minutes=-11)),
        "another date": {**good, "x-ms-date": format_datetime(utc_now() - timedelta(seconds=1), usegmt=True)},
        "a date that is none": {**good, "x-ms-date": "yesterday"},
        "an empty signature": {**good, "Authorization": ""},
        "a signature cut off": {**good, "Authorization": good["Authorization"][:-1]},
        "Basic": {**good, "Authorization": "Basic MTox"},
    }

    answers = {what: call(outside, PATH, data=_BODY, headers=headers) for what, headers in bad.items()}

    assert {what: a.status_code for what, a in answers.items() if a.status_code != 401} == {}
    assert len({a.data for a in answers.values()}) == 1
    assert events() == []


def test_a_signature_in_letters_beyond_ascii_is_refused(outside: FlaskClient):
    good = signed(_BODY)
    names = {"HTTP_AUTHORIZATION": "Authorization", "HTTP_X_MS_CONTENT_SHA256": "x-ms-content-sha256"}
    garbled = [{**names, key: "\xe9\xff"} for key in (*names, "HTTP_X_MS_DATE")]

    answers = []
    for change in garbled:
        environ = {"HTTP_X_MS_DATE": good["x-ms-date"]} | {k: good.get(v, v) for k, v in change.items()}
        answers.append(call(outside, PATH, data=_BODY, environ_overrides=environ))

    assert [a.status_code for a in answers] == [401, 401, 401]
    assert events() == []


def test_a_replay_of_this_week_is_harmless(outside: FlaskClient, time: StandingClock):
    headers = signed(_BODY)
    first = call(outside, PATH, data=_BODY, headers=headers)
    time.move(days=7)

    second = call(outside, PATH, data=_BODY, headers=headers)

    assert (first.status_code, second.status_code) == (200, 200)
    assert len(events()) == 1


_UNREADABLE = {
    "nothing": b"",
    "text": b"hello",
    "cut off": _BODY[:-1],
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "no agreement": b"{}",
    "bytes": b"\xff\xfe\x00",
    "raw half pair": b'{"agreementId": "\xed\xa0\x80"}',
    "half pair": b'{"agreementId": "\\ud800"}',
    "NUL": b'{"agreementId": "a\\u0000b"}',
    "NUL in the charge": b'{"agreementId": "agr_1", "chargeId": "a\\u0000b"}',
    "UTF-16": _BODY.decode().encode("utf-16"),
    "very many levels": b"[" * 30_000,
    "a huge number": b'{"agreementId": ' + b"9" * 5000 + b"}",
}


def test_genuine_garbage_is_a_400_and_not_stored(outside: FlaskClient):
    answers = {what: call(outside, PATH, data=raw, headers=signed(raw)) for what, raw in _UNREADABLE.items()}

    assert {what: a.status_code for what, a in answers.items() if a.status_code != 400} == {}
    assert [e.body for e in events()] == []


def test_a_stored_webhook_that_cannot_be_read_does_not_hold_up_those_behind_it(
    outside: FlaskClient, services: Services, time: StandingClock
):
    with transaction():
        for number, body in enumerate(("{}", _BODY.decode())):
            row = {"source": "vipps", "account": "123456", "digest": str(number), "body": body}
            db.session.add(InboundEvent(**row, received_at=utc_now(), next_at=utc_now()))
    a_request(services)
    inbox: Inbox = outside.application.extensions[reach.SERVICES].inbox

    time.move(seconds=10)
    with outside.application.app_context():
        for event_id in inbox.claim_unread():
            inbox.place(event_id)

    assert events()[1].read_at is not None


def test_a_webhook_larger_than_any_is_refused(outside: FlaskClient):
    huge = b" " * (64 * 1024 + 1)

    answer = call(outside, PATH, data=huge, headers=signed(huge))

    assert answer.status_code == 413
    assert events() == []


# Twilio


def receipt(client: FlaskClient, message: int = 1, **form: str) -> TestResponse:
    return client.post(receipt_of(message), data={"MessageSid": "SM1", "MessageStatus": "delivered", **form})


def message() -> Message:
    with reading():
        found = db.session.get_one(Message, 1)
        db.session.expunge(found)
        return found


def a_text(services: Services, jobs: Jobs) -> None:
    a_request(services, send_sms=True)
    settle(jobs)


def test_a_receipt_that_is_not_genuine_is_forbidden(client: FlaskClient, services: Services, jobs: Jobs, sms: FakeSms):
    a_text(services, jobs)
    sms.genuine = False
    before = everything()

    answer = receipt(client)

    assert answer.status_code == 403
    assert everything() == before


def test_a_receipt_for_an_unknown_message_is_not_found(client: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)
    before = everything()

    answers = [
        receipt(client, 2),
        receipt(client, 0),
        receipt(client, 2147483647),
        receipt(client, 1, MessageSid="SM9"),
    ]

    assert [a.status_code for a in answers] == [404, 404, 404, 404]
    assert everything() == before


def test_a_genuine_receipt_moves_the_message(client: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)

    answer = receipt(client)

    assert answer.status_code == 204
    assert message().status == MessageStatus.DELIVERED
    assert newest_agreement(1).status == "PENDING"


def test_receipts_move_a_message_forward_only(client: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)

    seen = []
    for status in ("sent", "accepted", "delivered", "sent", "failed", "delivered"):
        answer = receipt(client, MessageStatus=status)
        seen.append((answer.status_code, message().status.value))

    assert seen == [
        (204, "SENT"),
        (204, "SENT"),
        (204, "DELIVERED"),
        (204, "DELIVERED"),
        (204, "DELIVERED"),
        (204, "DELIVERED"),
    ]


# Twilio, with its client's own verification


def twilio(client: FlaskClient, form: dict[str, str], *, number: int = 1, **change: Any) -> TestResponse:
    path = change.pop("path", receipt_of(number))
    signature = RequestValidator("token").compute_signature(f"https://pay.example.com{path}", form)
    headers = {"X-Twilio-Signature": signature, **change.pop("headers", {})}
    return call(client, path, data={**form, **change}, headers=headers)


_FORM = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+4791234567"}


def test_what_twilio_signed_is_taken(outside: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)

    answer = twilio(outside, _FORM)

    assert answer.status_code == 204
    assert message().status == MessageStatus.DELIVERED


def test_what_twilio_did_not_sign_is_forbidden(outside: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)
    before = everything()

    answers = {
        "no signature": call(outside, "/hooks/twilio/1", data=_FORM),
        "empty": twilio(outside, _FORM, headers={"X-Twilio-Signature": ""}),
        "another": twilio(outside, _FORM, headers={"X-Twilio-Signature": "A" * 28}),
        "another form": twilio(outside, _FORM, MessageStatus="failed"),
        "more form": twilio(outside, _FORM, ErrorCode="30003"),
        "beyond ASCII": call(
            outside, "/hooks/twilio/1", data=_FORM, environ_overrides={"HTTP_X_TWILIO_SIGNATURE": "\xe9"}
        ),
        "no form": call(outside, "/hooks/twilio/1", data=b""),
        "JSON": call(outside, "/hooks/twilio/1", json=_FORM),
    }

    assert {what: a.status_code for what, a in answers.items() if a.status_code != 403} == {}
    assert everything() == before


def test_a_genuine_receipt_without_a_message_sid_is_a_400(outside: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)
    before = everything()

    answers = [twilio(outside, {"MessageStatus": "sent"}), twilio(outside, {"MessageSid": "", "MessageStatus": "sent"})]

    assert [a.status_code for a in answers] == [400, 400]
    assert "MessageSid" in answers[0].text
    assert everything() == before


def test_a_word_that_we_do_not_know_moves_nothing(outside: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)

    answers = [
        twilio(outside, {**_FORM, "MessageStatus": word}) for word in ("teleported", "", "DELIVERED", "sent\x00")
    ]

    assert [a.status_code for a in answers] == [204] * 4
    assert message().status == MessageStatus.ACCEPTED


def test_odd_letters_in_a_genuine_receipt_break_nothing(outside: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)
    odd = ("\x00", "S\x00M", "é" * 100, "\U0001f600", "x" * 5000)

    answers = {
        (field, value[:9]): twilio(outside, {**_FORM, field: value})
        for field in ("MessageSid", "MessageStatus", "ErrorCode", "Body\x00")
        for value in odd
    }

    assert {k: a.status_code for k, a in answers.items() if what_is_wrong_with(a)} == {}


# The seal: our own signature of the message's number, in the address that the text went out with


def _unsealed() -> None:
    """Have the text be one that went out before there were seals."""
    with transaction():
        db.session.get_one(Message, 1).is_sealed = False


_WRONG = ("", "x", "A" * 43, "\xe9", "%00", "A" * 5000)


def test_a_receipt_whose_address_lacks_its_seal_is_forbidden(outside: FlaskClient, services: Services, jobs: Jobs):
    a_text(services, jobs)
    before = everything()
    right = receipt_of(1)
    paths = ["/hooks/twilio/1", "/hooks/twilio/1?x=1", *(f"/hooks/twilio/1?seal={seal}" for seal in _WRONG)]
    paths += [
        right[:-1],
        right + "A",
        right.swapcase(),
        receipt_of(2).replace("/2?", "/1?"),
        right.replace("/1?", "/2?"),
    ]

    answers = {path: twilio(outside, _FORM, path=path).status_code for path in paths}

    assert answers.pop(right.swapcase()) in (403, 404)
    assert answers == dict.fromkeys(answers, 403)
    assert twilio(outside, _FORM, path=f"{right}&seal=x").status_code == 400
    assert everything() == before
    assert twilio(outside, _FORM, path=right).status_code == 204


def test_a_text_from_before_there_were_seals_is_heard_of_without_one(
    outside: FlaskClient, services: Services, jobs: Jobs
):
    a_text(services, jobs)
    _unsealed()

    assert twilio(outside, _FORM, path="/hooks/twilio/1?seal=x").status_code == 403
    assert twilio(outside, _FORM, path="/hooks/twilio/1").status_code == 204
    assert message().status == MessageStatus.DELIVERED


def test_a_seal_outlives_a_change_of_the_key_while_the_older_one_is_there(
    outside: FlaskClient, services: Services, jobs: Jobs
):
    a_text(services, jobs)
    old = environ_for("")["INVOICE_SECRET_KEY"]
    sealed, new = receipt_of(1), "another-secret-key-that-is-just-as-long"
    try:
        set_encryption_keys(new)
        assert twilio(outside, _FORM, path=sealed).status_code == 403
        set_encryption_keys(f"{new},{old}")
        assert twilio(outside, _FORM, path=sealed).status_code == 204
    finally:
        set_encryption_keys(old)
