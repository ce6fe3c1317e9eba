"""Changed signatures, headers and bodies: none is taken, and none is an error of ours.

By default a few thousand in all; the whole hundred thousand with `pytest -n0 tests/web/test_auth_mutations.py
--mutations 100000`.
"""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Callable, Iterator
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
from tests.conftest import StandingClock
from tests.factories import a_partner
from tests.web import proofs
from tests.web.bad_bodies import GOOD

TARGET = "/api/recurring/subscribe"
BODY = json.dumps(GOOD).encode()
URL = "https://pay.example.com/hooks/x/1"
# Both own schemes run on two databases, the providers' need none.
OWN, PROVIDERS = 8, 4


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--mutations"))


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


@pytest.mark.parametrize("sign", [proofs.short, proofs.full], ids=["hmac", "hmac-sha256"])
def test_no_changed_request_is_taken(
    app: Flask, client: FlaskClient, time: StandingClock, count: int, sign: Callable[..., str]
):
    app.testing = False
    a_partner()
    a_partner(10296)
    secret = partners.turn_hmac_on(10295)
    chance = random.Random(f"{sign.__name__} {count}")
    problems = []

    for n in range(count // OWN):
        header = sign(10295, secret, "POST", TARGET, BODY, at=time.at, nonce=f"n{n}")
        header, target, body = _changed(chance, header)
        environ = {
            "HTTP_AUTHORIZATION": header,
            "REMOTE_ADDR": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}",  # so that nobody is throttled
        }
        answer = client.post(target, data=body, content_type="application/json", environ_overrides=environ)
        if answer.status_code != 401 or not answer.is_json:
            problems.append((answer.status_code, header, target, body))

    assert problems == []


def _changed(chance: random.Random, header: str) -> tuple[str, str, bytes]:
    """Change the header, the query, or the body of a signed request, so that it means something else."""
    part = chance.randrange(4)
    if part == 0:
        return header, TARGET, mutate(chance, BODY.decode()).encode()
    if part == 1:
        return header, f"{TARGET}?{chance.choice(['api-version=2.0', 'a', '=', '%00', 'x=' + 'y' * 999])}", BODY
    scheme, _, value = header.partition(" ")
    while True:
        changed = mutate(chance, value)
        # Blanks around it and quotes do not change what is said.
        if signatures.read(scheme, changed.strip(" ")) != signatures.read(scheme, value):
            return f"{scheme} {changed}", TARGET, BODY


def test_no_changed_webhook_of_vipps_is_genuine(time: StandingClock, count: int):
    body = '{"agreementId":"agr_5kSeqz","eventType":"recurring.agreement-activated.v1","msn":"123456"}'
    sent = format_datetime(time.at, usegmt=True)
    content = b64encode(sha256(body.encode()).digest()).decode()
    signed = "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="
    signed += sign(URL, "secret", sent, content)
    right = {"x-ms-date": sent, "x-ms-content-sha256": content, "Authorization": signed, "body": body}
    vipps = Webhooks()

    def is_genuine(given: dict[str, str]) -> bool:
        return vipps.is_genuine(URL, "secret", given, given["body"].encode())

    assert is_genuine(right)
    assert [changed for changed in _each(count // PROVIDERS, "vipps", right) if is_genuine(changed)] == []


def test_no_changed_receipt_of_twilio_is_genuine(count: int):
    form = {"MessageSid": "SM" + "0" * 32, "MessageStatus": "delivered", "To": "+4791234567", "ErrorCode": ""}
    right = {**form, "signature": RequestValidator("token").compute_signature(URL, form)}
    twilio = TwilioClient("", "AC" + "0" * 32, "token")

    def is_genuine(given: dict[str, str]) -> bool:
        headers = {"X-Twilio-Signature": given["signature"]}
        return twilio.is_genuine(URL, headers, {name: given[name] for name in form})

    assert is_genuine(right)
    assert [changed for changed in _each(count // PROVIDERS, "twilio", right) if is_genuine(changed)] == []


def _each(count: int, seed: str, right: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield what was said with one value of it changed."""
    chance = random.Random(seed)
    for _ in range(count):
        name = chance.choice(list(right))
        yield {**right, name: mutate(chance, right[name])}
