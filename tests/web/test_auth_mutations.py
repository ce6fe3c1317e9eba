"""Changed signatures, headers, addresses and bodies of the four signed schemes: none is taken, and none is a 500.

Each comes by HTTP, on both databases, to the application with the providers' own clients. By default a few thousand in
all; the whole hundred thousand, with a line for each scheme, by
`pytest -n0 -s tests/web/test_auth_mutations.py --mutations 100000`.
"""

from __future__ import annotations

import json
import random
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from email.utils import format_datetime
from hashlib import sha256

import pytest
from flask import Flask
from flask.testing import FlaskClient
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from invoice import signatures
from invoice.providers.twilio import TwilioClient
from invoice.providers.vipps_webhooks import Webhooks, sign
from invoice.services import partners
from invoice.services.jobs import Services
from invoice.store.db import db
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish
from tests.fakes import FakePayments, FakeSms
from tests.web import proofs
from tests.web.bad_bodies import GOOD, everything
from tests.web.isolation import registered, text_of
from tests.web.visiting import receipt_of

TARGET = "/api/recurring/subscribe"
BODY = json.dumps(GOOD).encode()
HOST = "https://pay.example.com"

Request = tuple[str, bytes | dict[str, str], dict[str, str]]  # path with query, body or form, environment


def mutate(chance: random.Random, text: str) -> str:
    """Return a text that differs: a bit turned, signs left out, doubled, put in or changed over."""
    signs = list(text)
    place = chance.randrange(len(signs)) if signs else 0
    match chance.randrange(6) if signs else 4:
        case 0 | 1:
            signs[place] = chr(ord(signs[place]) ^ 1 << chance.randrange(7))
        case 2:
            del signs[place : place + chance.choice([1, 1, 1, 2, 9])]
        case 3:
            signs[place:place] = signs[place : place + chance.choice([1, 1, 2, 20])]
        case 4:
            signs[place:place] = chance.choice(["=", "==", ":", '"', "\xe9", "0", " ", "%00", "A" * 500, "\u0661"])
        case _:
            other = chance.randrange(len(signs))
            signs[place], signs[other] = signs[other], signs[place]
    changed = "".join(sign for sign in signs if sign.isprintable() and ord(sign) < 256)
    return changed if changed != text else mutate(chance, text)


@pytest.fixture(autouse=True)
def _as_in_production(app: Flask, payments: FakePayments, sms: FakeSms) -> None:
    """The providers' own clients look at what the providers sign."""
    app.testing = False
    webhooks, twilio = Webhooks(), TwilioClient("", "AC" + "0" * 32, "token")
    payments.is_genuine, payments.read_webhook = webhooks.is_genuine, webhooks.read_webhook
    sms.is_genuine, sms.read_receipt = twilio.is_genuine, twilio.read_receipt


Prove = Callable[[str, Request, Callable[[random.Random, int], Request]], None]


@pytest.fixture
def prove(client: FlaskClient, request: pytest.FixtureRequest) -> Prove:
    """Send a scheme's share of changed requests and then the right one; say what came of them."""
    share = int(request.config.getoption("--mutations")) // 8  # four schemes, two databases

    def status(asked: Request, number: int) -> int:
        target, body, environ = asked
        # From everywhere, so that nobody is throttled.
        environ = {**environ, "REMOTE_ADDR": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}
        kind = "application/json" if isinstance(body, bytes) else None
        return client.post(target, data=body, content_type=kind, environ_overrides=environ).status_code

    def run(scheme: str, right: Request, changed: Callable[[random.Random, int], Request]) -> None:
        chance, before, bad, outcomes = random.Random(f"{scheme} {share}"), everything(), [], Counter[str]()
        for number in range(share):
            asked = changed(chance, number)
            code = status(asked, number)
            outcome = "refused" if 400 <= code < 500 else "server error" if code >= 500 else "accepted"
            outcomes[outcome] += 1
            if outcome != "refused":
                bad.append((code, asked))
        told = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ("refused", "accepted", "server error"))
        sys.stdout.write(f"\n{scheme} on {db.engine.dialect.name}: {outcomes.total()} changed requests: {told}\n")
        assert bad == []
        assert everything() == before
        assert status(right, share) < 300

    return run


@pytest.mark.parametrize(("scheme", "sign_with"), [("hmac", proofs.short), ("hmac-sha256", proofs.full)])
def test_no_changed_request_is_taken(prove: Prove, time: StandingClock, scheme: str, sign_with: Callable[..., str]):
    a_partner()
    a_partner(10296)
    secret = partners.turn_hmac_on(10295, takes_short=True)

    def right(number: int) -> Request:
        header = sign_with(10295, secret, "POST", TARGET, BODY, at=time.at, nonce=f"n{number}")
        return TARGET, BODY, {"HTTP_AUTHORIZATION": header}

    prove(scheme, right(-1), lambda chance, number: _changed(chance, right(number)))


def _changed(chance: random.Random, right: Request) -> Request:
    """Change the header, the query, or the body of a signed request, so that it means something else."""
    target, _, environ = right
    part = chance.randrange(4)
    if part == 0:
        return target, mutate(chance, BODY.decode()).encode(), environ
    if part == 1:
        return f"{target}?{chance.choice(['api-version=2.0', 'a', '=', '%00', 'x=' + 'y' * 999])}", BODY, environ
    scheme, _, value = environ["HTTP_AUTHORIZATION"].partition(" ")
    while True:
        changed = mutate(chance, value)
        # Blanks around it and quotes do not change what is said.
        if signatures.read(scheme, changed.strip(" ")) != signatures.read(scheme, value):
            return target, BODY, {"HTTP_AUTHORIZATION": f"{scheme} {changed}"}


def test_no_changed_webhook_of_vipps_is_taken(prove: Prove, time: StandingClock):
    path = f"/hooks/vipps/{registered('R')}"
    body = '{"agreementId":"agr_5kSeqz","eventType":"recurring.agreement-activated.v1","msn":"123456"}'
    sent = format_datetime(time.at, usegmt=True)
    content = b64encode(sha256(body.encode()).digest()).decode()
    signed = "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="
    signed += sign(HOST + path, "s", sent, content)
    right = {"X_MS_DATE": sent, "X_MS_CONTENT_SHA256": content, "AUTHORIZATION": signed, "body": body}

    def request(given: dict[str, str]) -> Request:
        return path, given["body"].encode(), {f"HTTP_{name}": v for name, v in given.items() if name != "body"}

    prove("Vipps", request(right), lambda chance, _: request(_one_changed(chance, right)))


def test_no_changed_receipt_of_twilio_is_taken(prove: Prove, services: Services):
    number = services.subscriptions.request(a_partner(), a_wish(send_sms=True)).subscription_id
    path = receipt_of(text_of(number))
    form = {"MessageSid": "SM" + "0" * 32, "MessageStatus": "delivered", "To": "+4791234567", "ErrorCode": ""}
    signature = RequestValidator("token").compute_signature(HOST + path, form)
    right = {**form, "path": path, "signature": signature}

    def request(given: dict[str, str]) -> Request:
        return given["path"], {n: given[n] for n in form}, {"HTTP_X_TWILIO_SIGNATURE": given["signature"]}

    prove("Twilio", request(right), lambda chance, _: request(_one_changed(chance, right)))


def _one_changed(chance: random.Random, right: dict[str, str]) -> dict[str, str]:
    """Return what was said with one value of it changed."""
    name = chance.choice(list(right))
    if name == "path":
        other = chance.choice(["2", "01", "0", "2147483648", "1?x=1", "1%20", "1/", "%31", "-1", "9" * 200])
        return {**right, name: right[name].rpartition("/")[0] + "/" + other}
    return {**right, name: mutate(chance, right[name])}
