"""The stand-in, shown whatever the vendor's files allow, and some that they forbid: it never stumbles, and every answer
is one that the files know.

FUZZ_CASES says how many requests are made (200), FUZZ_SEED which ones (1); `-s` shows what became of them:

    FUZZ_CASES=3000 pytest -n0 -s tests/simulator/test_fuzz.py
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from invoice.simulator.app import create_simulator
from tests import spec
from tests.simulator.conftest import START, Merchant

CASES = int(os.environ.get("FUZZ_CASES", "200"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
_CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]
_SET_HERE = ("content-type", "continuation-token")
# Recurring does not take its tokens, and the stand-in has none of it.
_OTHER_PRODUCTS = ("/miami/v1/token",)
TOKEN_PATH = "/accesstoken/get"

if reason := spec.absent():
    pytest.skip(reason, allow_module_level=True)


class Stage:
    """A stand-in with agreements and charges of every kind, and what was noticed on it."""

    def __init__(self, data: Path) -> None:
        self.simulator = create_simulator(data, base_url="http://127.0.0.1:8001")
        self.simulator.clock.move(START - self.simulator.clock.now())
        self.exchanges = spec.record(self.simulator.app)
        self.merchant = Merchant(self.simulator)
        self.count, self.names = itertools.count(1), itertools.count(1)
        self.outcomes: Counter[str] = Counter()
        self.findings: list[str] = []
        self.chance = random.Random(SEED)
        self.charges: list[tuple[str, str]] = []
        self.hooks: list[str] = []
        self.populate()

    def populate(self) -> None:
        """Add an agreement of every kind, each with charges of both kinds: still due, reserved, and captured."""
        for changes in _AGREEMENTS:
            agreement_id = self.merchant.active(**changes)
            for kind in ("DIRECT_CAPTURE", "RESERVE_CAPTURE"):
                charge_id = self.merchant.charge(agreement_id, amount=500, transactionType=kind, due=self.day(5))
                self.charges.append((agreement_id, charge_id))
        for kind in ("DIRECT_CAPTURE", "RESERVE_CAPTURE"):
            first = {"amount": 50_000, "description": "x", "transactionType": kind}
            made = self.merchant.draft(initialCharge=first)
            self.merchant.decide(made["agreementId"], "approve")
            self.charges += [(made["agreementId"], made["chargeId"])] * 3
        self.renew_hooks()

    def renew_hooks(self) -> None:
        """Have two registrations and no more: there is a limit to them. None is for an event that would be sent."""
        for each in self.merchant.call("GET", _HOOKS_PATH).get_json()["webhooks"]:
            self.merchant.call("DELETE", f"{_HOOKS_PATH}/{each['id']}")
        self.hooks = [self.merchant.register(_HOOK["url"], _HOOK["events"])["id"] for _ in range(2)]

    def day(self, ahead: int) -> str:
        """Return a date so many days from now."""
        return (self.simulator.clock.now().date() + timedelta(days=ahead)).isoformat()

    def send(self, case: schemathesis.Case) -> None:
        """Send a case with good keys, and note what is wrong with the answer."""
        number = next(self.count)
        if number % 40 == 0:
            self.merchant.advance(days=1)
        if number % 200 == 0:
            self.populate()
        elif number % 20 == 0:
            self.renew_hooks()
        depth = self.chance.choice(("as it came", "existing ids", "sound", "sound", "nearly sound", "nearly sound"))
        if depth != "as it came":
            self.ground(case, is_sound=depth == "sound")
        if depth == "nearly sound":
            self.spoil(case)
        headers = {k: v for k, v in dict(case.headers or {}).items() if k.lower() not in _SET_HERE}
        keys = self.merchant.keys() if self.chance.random() < 0.7 and case.operation.path == TOKEN_PATH else {}
        case.headers = {**headers, **self.merchant.headers(), **keys}
        label = f"{case.method} {case.operation.path}"
        try:
            response = case.call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            self.findings.append(f"{label}: {type(error).__name__}: {error}")
            return
        self.outcomes[f"{label} {response.status_code}"] += 1
        try:
            case.validate_response(response, checks=_CHECKS)
        except* Exception as errors:  # noqa: BLE001 - likewise
            self.findings += [f"{label} {response.status_code}: {error}" for error in errors.exceptions]

    def ground(self, case: schemathesis.Case, *, is_sound: bool) -> None:
        """Let a case speak of what is there; a sound one in values that the stand-in's rules let through as well."""
        agreement_id, charge_id = self.chance.choice(self.charges[-60:])
        if case.operation.path.endswith("/accept"):
            agreement_id = self.merchant.draft()["agreementId"]
        known = {"agreementId": agreement_id, "chargeId": charge_id, "id": self.chance.choice(self.hooks)}
        case.path_parameters = {name: known[name] for name in dict(case.path_parameters or {})}
        for body in case.body if isinstance(case.body, list) else [case.body]:
            if is_sound and isinstance(body, dict):
                self.mend(body, case.operation.path, agreement_id)

    def spoil(self, case: schemathesis.Case) -> None:
        """Make a case that is right but for one value."""
        operation = case.operation.label
        if query := _QUERIES.get(operation):
            case.query = {**query, self.chance.choice(list(query)): str(self.chance.choice(_ODD_NUMBERS + _ODD))}
        if operation in _BODIES:
            body = deepcopy(_BODIES[operation])
            self.mend(body, case.operation.path, self.chance.choice(self.charges)[0])
            _break(body, self.chance)
            case.body = [body, body] if operation == _BATCH else body
            case.media_type = "application/json"

    def mend(self, body: dict[str, Any], path: str, agreement_id: str) -> None:
        """Replace what chance never gets right; what else is odd about the body stays."""
        body.update({name: deepcopy(value) for name, value in _SOUND.items() if name in body})
        if "pricing" in body and "productName" in body and "merchantRedirectUrl" not in body:
            body["pricing"] = {"amount": 9900}  # an update names no type
        if "events" in body:
            body.update(_HOOK)
        if "amount" in body:
            body["amount"] = self.chance.randint(100, 600)
        if "amount" in body and path.endswith("/charges"):
            body.update(due=self.day(self.chance.randint(2, 60)), retryDays=self.chance.randint(0, 14))
            body.update(orderId=f"fuzz-{next(self.names)}", processingMode="MULTIPLE_ATTEMPTS", type="RECURRING")
        if path.endswith("/agreements/charges"):
            body["agreementId"] = agreement_id
            body.pop("type", None)
        if "merchantRedirectUrl" in body:
            body["merchantAgreementUrl"] = _SOUND["merchantAgreementUrl"]


_AGREEMENTS: list[dict[str, Any]] = [
    {"scope": "name email"},
    {"interval": None, "pricing": {"type": "FLEXIBLE", "currency": "NOK"}},
    {"pricing": {"type": "VARIABLE", "currency": "NOK", "suggestedMaxAmount": 50_000}},
    {"campaign": {"type": "PERIOD_CAMPAIGN", "price": 100, "period": {"unit": "WEEK", "count": 4}}},
    {"campaign": {"type": "PRICE_CAMPAIGN", "price": 100, "end": "2031-01-01T00:00:00Z"}},
    {
        "campaign": {
            "type": "EVENT_CAMPAIGN",
            "price": 100,
            "eventDate": "2031-01-01T00:00:00Z",
            "eventText": "until then",
        },
        "initialCharge": {"amount": 500, "description": "x", "transactionType": "RESERVE_CAPTURE"},
    },
]


_SOUND: dict[str, Any] = {
    "merchantRedirectUrl": "https://example.com/back",
    "merchantAgreementUrl": "https://example.com/manage",
    "pricing": {"type": "LEGACY", "currency": "NOK", "amount": 9900},
    "initialCharge": {"amount": 500, "description": "x", "transactionType": "DIRECT_CAPTURE"},
    "campaign": {"type": "PRICE_CAMPAIGN", "price": 100, "end": "2039-01-01T00:00:00Z"},
    "phoneNumber": "4712457890",
    "scope": "name",
    "skipLandingPage": False,
}


_HOOKS_PATH = "/webhooks/v1/webhooks"
# On this machine, at a port where nobody listens, and for an event that the stand-in does not send.
_HOOK: dict[str, Any] = {"url": "http://127.0.0.1:9/hook", "events": ["epayments.payment.captured.v1"]}
_CHARGE: dict[str, Any] = {
    "amount": 500,
    "description": "x",
    "transactionType": "DIRECT_CAPTURE",
    "due": "2030-01-20",
    "retryDays": 2,
    "externalId": "x",
    "orderId": "x",
}
_PERIOD = {"unit": "MONTH", "count": 1}
_BATCH = "POST /recurring/v3/agreements/charges"
_ONE = "/recurring/v3/agreements/{agreementId}"
_BODIES: dict[str, dict[str, Any]] = {
    "POST /recurring/v3/agreements": {
        **_SOUND,
        "campaign": {"type": "EVENT_CAMPAIGN", "price": 1, "eventDate": "2039-01-01T00:00:00Z", "eventText": "x"},
        "productName": "x",
        "productDescription": "x",
        "externalId": "x",
        "interval": _PERIOD,
        "isApp": False,
        "paymentMethod": {"blockedSources": ["COMMERCIAL_CARDS"]},
    },
    f"PATCH {_ONE}": {
        "productName": "x",
        "productDescription": "x",
        "externalId": "x",
        "merchantAgreementUrl": "https://example.com/manage",
        "pricing": {"amount": 9900},
        "interval": {"type": "RECURRING", "period": _PERIOD},
    },
    f"PATCH {_ONE}/accept": {"phoneNumber": "4712457890"},
    f"POST {_ONE}/charges": _CHARGE,
    _BATCH: _CHARGE | {"processingMode": "MULTIPLE_ATTEMPTS"},
    f"POST {_ONE}/charges/{{chargeId}}/capture": {"amount": 100, "description": "x"},
    f"POST {_ONE}/charges/{{chargeId}}/refund": {"amount": 100, "description": "x"},
    "POST /v1/webhooks": _HOOK,
}
_QUERIES = {
    "GET /recurring/v3/agreements": {"status": "ACTIVE", "createdAfter": "0", "pageNumber": "1", "pageSize": "5"},
    f"GET {_ONE}/charges": {"status": "DUE"},
}
# What lies at the edges of types, lengths and calendars.
_ODD_NUMBERS: list[Any] = [
    *(0, -1, 1.0, 1.5, 31, 32, 2000, 2001, 2**31 - 1, 2**31, -(2**31) - 1),
    *(253_402_300_800_000, 10**15, 2**53, 2**63 - 1, 2**63, -(2**63), 10**30),
]
_ODD: list[Any] = [
    *_ODD_NUMBERS,
    *(None, True, [], {}, [None]),
    *("", " ", "a\nb", "\n", "\u2028", "x" * 64, "x" * 65, "x" * 3000, "\U0001f600" * 64, "_", "-", "0", "\x7f"),
    *("2030-02-30", "0001-01-01", "9999-12-31", "9999-12-31T23:59:59Z", "2039-01-01T00:00:00+14:00", "NOK", "SEK"),
    *("https://", "https://[::1", "https://example.com/" + "x" * 2028, "myApp://home", "4", "STOPPED", "YEAR"),
]


def _break(body: dict[str, Any], chance: random.Random) -> None:
    """Take one field away, or make it odd, here or in an object that stands in it; one time in ten leave all well."""
    name = chance.choice(list(body))
    if chance.random() < 0.1:
        return
    if isinstance(body[name], dict) and chance.random() < 0.7:
        _break(body[name], chance)
    elif chance.random() < 0.2:
        del body[name]
    else:
        body[name] = chance.choice(_ODD)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.simulator.stop()


def operations_of(name: str, stage: Stage) -> list[schemathesis.APIOperation]:
    """Return the operations of one of the vendor's files, but for those of another product."""
    schema = schemathesis.openapi.from_dict(spec.sealed(name))
    schema.app = stage.simulator.app
    found = [each.ok() for each in schema.get_all_operations()]
    return [each for each in found if each.path not in _OTHER_PRODUCTS]


def test_whatever_is_asked_the_answer_is_one_that_the_files_know(stage: Stage) -> None:
    operations = [each for name in spec.FILES for each in operations_of(name, stage)]
    modes = (GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    cases = st.one_of([each.as_strategy(generation_mode=mode) for each in operations for mode in modes])

    @seed(SEED)
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def attack(case: schemathesis.Case) -> None:
        stage.send(case)

    attack()

    print(f"\n{sum(stage.outcomes.values())} cases")  # noqa: T201 - for `-s`
    for label, times in sorted(stage.outcomes.items()):
        print(f"{times:6} {label}")  # noqa: T201 - for `-s`
    assert stage.findings == []
    assert spec.violations(stage.exchanges) == []
