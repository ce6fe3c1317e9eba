"""The templated callbacks of the original: what calls them, and what stands in them."""

from __future__ import annotations

import ast
import json
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from sqlalchemy import text

from invoice.errors import Invalid
from invoice.lifecycle import Channel, ChargeStatus, MessageStatus
from invoice.names import transaction_id
from invoice.providers.base import Receipt
from invoice.providers.guard import Guard
from invoice.services import accounts, callbacks, outbox
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading
from invoice.store.models import CallbackLogin
from tests.conftest import Caller, StandingClock, environ_for, opened
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    an_active_subscription,
    charges,
    event_types,
    newest_agreement,
    settle,
    subscription,
)
from tests.fakes import FakePayments, FakeSms
from tests.receivers import Receiver, on_this_machine, receiving
from tests.web.bad_bodies import GOOD, basic
from tests.web.visiting import seal_of

ROOT = Path(__file__).parents[2]
EVERYTHING = "&".join(f"{name}={{{{{name}}}}}" for name in callbacks.PLACEHOLDERS)


@pytest.fixture
def app(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    with on_this_machine(database_url, payments, sms) as app:
        yield app


def query_of(path: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(path).query, keep_blank_values=True).items()}


def request_with(services: Services, **changes: Any) -> int:
    return services.subscriptions.request(a_partner(), a_wish(**changes)).subscription_id


def test_each_change_of_a_payment_calls_the_status_callback(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver
):
    a_partner()
    template = receiver.url + "/api/status-callback?id={{transactionId}}&status={{status}}&code={{statusCode}}"
    number = an_active_subscription(services, payments, status_callback_url=template)
    settle(jobs)
    (paid,) = charges(number)
    payments.settle_charge(paid.name, ChargeStatus.REFUNDED)
    services.charges.refresh(paid.id)
    settle(jobs)

    assert [got.method for got in receiver.got] == ["GET", "GET"]
    assert all(got.body == b"" for got in receiver.got)
    guid = transaction_id(paid.name)
    assert [got.path for got in receiver.got] == [
        f"/api/status-callback?id={guid}&status=CHARGED&code=Captured",
        f"/api/status-callback?id={guid}&status=REFUNDED&code=Annulled",
    ]


def test_the_page_is_accessed_when_the_person_presses_and_not_when_something_looks(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver
):
    template = receiver.url + "/?s={{Status}}&r={{referenceId}}&a={{amount}}"
    number = request_with(services, status_callback_url=template)
    token = subscription(number).link_token
    client = app.test_client()
    for look in (client.get, client.head, client.options):
        look(f"/s/{token}", base_url="http://localhost:8000")
    settle(jobs)
    after_looks = len(receiver.got)

    for _ in range(2):
        client.post(f"/s/{token}", base_url="http://localhost:8000")
    settle(jobs)

    assert after_looks == 0
    name = newest_agreement(number).initial_name
    assert [got.path for got in receiver.got] == [f"/?s=Accessed&r={name}&a=99.00"]
    assert event_types(number).count("consent.opened") == 1


def test_an_acceptance_calls_the_confirm_callback_once(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver
):
    a_partner()
    template = receiver.url + "/confirmed/{{subscriptionId}}?{{agreementStatus}}&{{chargeStatus}}"
    number = an_active_subscription(services, payments, confirm_callback_url=template)

    settle(jobs)

    assert [got.path for got in receiver.got] == [f"/confirmed/{number}?ACTIVE&Active"]


@pytest.mark.parametrize(
    ("status", "told"), [("DELIVERED", "true"), ("UNDELIVERED", "false"), ("FAILED", "false"), ("SENT", None)]
)
def test_a_delivery_report_calls_the_sms_callback(
    services: Services, jobs: Jobs, receiver: Receiver, status: str, told: str | None
):
    placeholders = "id={{PreTransactionId}}&d={{SmsNotificationDelivered}}&n={{smsNotificationParts}}"
    template = f"{receiver.url}/sms?{placeholders}"
    number = request_with(services, sms_callback_url=template, send_sms=True)
    settle(jobs)
    services.inbox.take_receipt(1, Receipt("SM1", MessageStatus(status)), {}, seal=seal_of(1))

    settle(jobs)

    assert [got.path for got in receiver.got] == ([] if told is None else [f"/sms?id={number}&d={told}&n=1"])


def test_every_placeholder_has_a_value_where_there_is_one(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver
):
    a_partner()
    number = an_active_subscription(
        services, payments, status_callback_url=f"{receiver.url}/?{EVERYTHING}", order_number="o 1&2", member_id="m/ø"
    )
    settle(jobs)

    (got,) = receiver.got
    (charge,) = charges(number)
    agreement = newest_agreement(number)
    assert query_of(got.path) == {
        "transactionId": transaction_id(charge.name),
        "referenceId": charge.name,
        "paymentTransactionId": charge.name,
        "status": "CHARGED",
        "statusCode": "Captured",
        "statusDescription": "",
        "success": "true",
        "paymentType": "Vipps",
        "paymentProvider": "Vipps",
        "partnerId": "10295",
        "subscriptionId": str(number),
        "recurring": str(number),
        "recurringId": str(number),
        "recurringPaymentId": str(number),
        "preTransactionId": str(number),
        "memberId": "m/ø",
        "orderNumber": "o 1&2",
        "msisdn": "+4791234567",
        "amount": "99.00",
        "currency": "NOK",
        "dueDate": charge.due_on.isoformat(),
        "chargeStatus": "Active",
        "agreementStatus": "ACTIVE",
        "agreementId": agreement.provider_agreement_id,
        "smsNotificationSent": "",
        "smsNotificationDelivered": "",
        "smsNotificationParts": "",
        "eventId": got.event,
    }


def test_names_are_read_whatever_their_case_and_unknown_ones_are_empty(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver
):
    a_partner()
    path = "/{{TRANSACTIONID}}/{{transactionid}}"
    template = path + "?a={{CURRENCY}}&b={{nothing}}&c={{}}&d={{status.code}}&e=%7B{{paymenttype}}"
    number = an_active_subscription(services, payments, status_callback_url=receiver.url + template)
    settle(jobs)

    guid = transaction_id(charges(number)[0].name)
    assert [got.path for got in receiver.got] == [f"/{guid}/{guid}?a=NOK&b=&c=&d=&e=%7BVipps"]


@pytest.mark.parametrize(
    "nasty", ["a&b=c", "a/../../b", "a\r\nHost: x", "a?b#c", "ø€😀", "{{msisdn}}", "100%", "a b+c"]
)
def test_a_value_never_changes_where_a_callback_goes(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, nasty: str
):
    a_partner()
    template = receiver.url + "/x/{{memberId}}/y?z={{memberId}}&end=1"
    an_active_subscription(services, payments, status_callback_url=template, member_id=nasty)
    settle(jobs)

    (got,) = receiver.got
    assert re.fullmatch(r"/x/[A-Za-z0-9%._~-]+/y\?z=[A-Za-z0-9%._~-]+&end=1", got.path)
    assert query_of(got.path) == {"z": nasty, "end": "1"}


def test_callbacks_come_in_order_and_again_until_they_are_taken(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, status_callback_url=receiver.url + "/{{status}}")
    (paid,) = charges(number)
    payments.settle_charge(paid.name, ChargeStatus.REFUNDED)
    services.charges.refresh(paid.id)
    receiver.answers.extend([500, 302])

    for _ in range(4):
        settle(jobs)
        time.move(minutes=2)

    assert [got.path for got in receiver.got] == ["/CHARGED"] * 3 + ["/REFUNDED"]
    assert len(set(receiver.events()[:3])) == 1


def test_a_callback_that_fails_does_not_hold_up_the_others(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver
):
    a_partner()
    with receiving() as dead:
        dead.always = 500
        services.endpoints.put(10295, f"{dead.url}/events")
        an_active_subscription(
            services,
            payments,
            status_callback_url=f"{receiver.url}/status",
            confirm_callback_url=f"{receiver.url}/confirm",
        )
        settle(jobs)

    assert sorted(got.path for got in receiver.got) == ["/confirm", "/status"]


# Credentials


def test_credentials_are_taken_out_of_the_address_and_sent_as_basic(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    a_partner()
    address = receiver.url.replace("http://", "http://us%40er:p%3A%C3%B8%2Fw@")
    number = an_active_subscription(services, payments, status_callback_url=address + "/cb?id={{recurring}}")
    settle(jobs)

    (got,) = receiver.got
    assert b64decode(got.headers["authorization"].removeprefix("Basic ")).decode() == "us@er:p:ø/w"
    assert got.path == f"/cb?id={number}"
    assert got.headers["host"] == receiver.url.removeprefix("http://")
    kept = subscription(number).status_callback_url
    assert kept == receiver.url + "/cb?id={{recurring}}"
    said = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert not [secret for secret in ("us%40er", "us@er", "p%3A", "p:ø") if secret in said]


def test_credentials_rest_encrypted_and_move_to_a_newer_key(services: Services, app: Flask):
    request_with(services, status_callback_url="http://name:passphrase@localhost:9/")

    with reading():
        kept = [str(value) for value in db.session.execute(text("SELECT login FROM callback_logins")).scalars()]
        everywhere = str(db.session.execute(text("SELECT * FROM subscriptions")).all())
    moved = accounts.encrypt_anew()
    with reading():
        after = [str(value) for value in db.session.execute(text("SELECT login FROM callback_logins")).scalars()]
        read = db.session.query(CallbackLogin).one().login

    assert len(kept) == 1
    assert "passphrase" not in kept[0] + everywhere
    assert moved >= 1
    assert after != kept
    assert read == "name:passphrase"


def test_a_wish_shows_no_callback_address(services: Services):
    wish = a_wish(status_callback_url="https://name:passphrase@www.example.com/", sms_callback_url="https://a.b/key")

    assert "passphrase" not in repr(wish)
    assert "key" not in repr(wish)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://www.example.com/{{a}}", ("https://www.example.com/{{a}}", None)),
        ("https://www.example.com?{{ a b }}", ("https://www.example.com?{{ a b }}", None)),
        ("https://u:p@www.example.com:8443/@u:p@", ("https://www.example.com:8443/@u:p@", "u:p")),
        ("https://token@www.example.com/", ("https://www.example.com/", "token:")),
        ("https://@www.example.com/", ("https://www.example.com/", None)),
    ],
)
def test_an_address_is_kept_without_its_credentials(url: str, wanted: tuple[str, str | None]):
    target = callbacks.targets(Guard(), {Channel.STATUS: url})[Channel.STATUS]

    assert (target.template, target.login) == wanted
    assert "u:p" not in repr(target).replace("@u:p@", "")


@pytest.mark.parametrize(
    "url",
    [
        "https://{{memberId}}.example.com/",
        "https://{{memberId}}/",
        "https://www.example.com:{{amount}}/",
        "https://{{a}}:{{b}}@www.example.com/",
        "{{memberId}}",
        "{{a}}://www.example.com/",
        "https://www.example.com{{a}}/",
        "https://127.0.0.1/{{a}}",
        "https://www.example.com/{{a}",
        "https://www.example.com/#{{a}}",
        "http://www.example.com/",
        f"https://{'u' * 501}@www.example.com/",
        "https://u%0A:p@www.example.com/",
    ],
)
def test_an_address_that_cannot_be_called_is_refused_by_name(url: str):
    with pytest.raises(Invalid) as refused:
        callbacks.targets(Guard(), {Channel.STATUS: "https://www.example.com/", Channel.SMS: url})

    assert list(refused.value.errors) == ["smsStatusCallbackUrl"]
    assert refused.value.errors["smsStatusCallbackUrl"][0].startswith("smsStatusCallbackUrl must ")


# The tables


def test_what_calls_a_callback_is_an_event():
    assert set(callbacks.CALLS) <= set(outbox.EVENTS)
    assert set(callbacks.STATUS_CODES) == {e for e in callbacks.CALLS if e.startswith("charge.")}
    assert set(callbacks.FIELDS) == set(callbacks.CALLS.values()) == set(Channel) - {Channel.EVENTS}


def test_every_fact_that_is_recorded_has_a_name_for_partners():
    recorded = set()
    for path in (ROOT / "invoice" / "services").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "outbox.record":
                recorded |= {keyword.arg for keyword in node.keywords if keyword.arg}

    assert len(recorded) >= 8
    assert recorded <= set(outbox.FACTS)


def table_of(page: str, heading: str) -> list[str]:
    """The first column of the table under a heading."""
    section = (ROOT / "docs" / "api" / page).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip().strip("`") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def test_the_page_for_partners_lists_every_placeholder():
    assert table_of("callbacks.md", "Placeholders") == [f"{{{{{name}}}}}" for name in callbacks.PLACEHOLDERS]


def test_the_page_for_partners_lists_every_event_and_every_fact():
    assert sorted(table_of("events.md", "Types")) == sorted(outbox.EVENTS)
    told = {name for name, _ in outbox.FACTS.values()} | {"transactionId"}
    assert sorted(table_of("events.md", "Data")) == sorted(told)


def test_every_example_on_the_page_is_json():
    page = (ROOT / "docs" / "api" / "events.md").read_text()
    examples = re.findall(r"```json\n(.*?)```", page, re.DOTALL)

    assert len(examples) >= 3
    for example in examples:
        json.loads(example)


def test_accepting_twice_confirms_once(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, time: StandingClock
):
    number = request_with(services, confirm_callback_url=receiver.url + "/{{recurring}}")
    accept(services, payments, number)
    services.consents.refresh(newest_agreement(number).id)
    settle(jobs)

    assert [got.path for got in receiver.got] == [f"/{number}"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_only_the_hosts_that_the_operator_lists_are_taken_as_callbacks(
    database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock
):
    listed = environ_for(database_url) | {"INVOICE_CALLBACK_HOSTS": "*.example.com"}
    with opened(listed, payments=payments, sms=sms) as app:
        a_partner()
        app.test_client_class = Caller
        wish = GOOD | {"statusCallbackUrl": "https://www.example.net/status"}

        refused = app.test_client().post("/api/recurring/subscribe", json=wish, headers=basic())
        taken = app.test_client().post("/api/recurring/subscribe", json=GOOD, headers=basic())

    assert (refused.status_code, taken.status_code) == (400, 200)
    assert "statusCallbackUrl" in refused.text
    assert "operator of this service allows" in refused.text
