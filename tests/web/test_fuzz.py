"""The service, sent whatever its own description allows and much that it forbids, on both databases: it never stumbles,
and every answer is one that the description knows.

FUZZ_CASES says how many requests are made on each database (200), FUZZ_SEED which ones (1); `-s` shows what became of
them:

    FUZZ_CASES=5000 pytest -n0 -s tests/web/test_fuzz.py
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from typing import Any

import pytest
import schemathesis
from flask import Flask
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

from invoice.errors import ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.providers.twilio import TwilioClient
from invoice.providers.vipps import VippsClient
from invoice.services import partners
from invoice.services.jobs import Jobs, beat
from invoice.services.partners import Terms
from tests.conftest import StandingClock
from tests.factories import agreements, charges, newest_agreement, subscription
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import basic, everything
from tests.web.described import Names, World, a_world, an_app, sealed, some_names  # noqa: F401 - fixtures

CASES = int(os.environ.get("FUZZ_CASES", "200"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
_CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]
_SET_HERE = ("authorization", "host")
_TROUBLES = {
    "refused": lambda: ProviderRefused("agreement: invalid", status=400),
    "away": lambda: ProviderUnavailable("connection refused"),
    "uncertain": lambda: ProviderUncertain("no answer"),
}
_CALLS = ("draft", "find_agreement", "capture", "create", "refund", "cancel_charge", "stop", "token", "show_agreement")


class Payments(FakePayments):
    """Reads webhooks as Vipps' client does, and turns down what is about nothing that it has."""

    read_webhook = VippsClient.read_webhook

    def cancel_charge(self, agreement_id: str, name: str, *, key: str) -> None:
        if name not in self.agreements[agreement_id].charges:
            raise ProviderRefused("Charge not found.", status=404)
        super().cancel_charge(agreement_id, name, key=key)


class Sms(FakeSms):
    """Reads receipts as Twilio's client does."""

    read_receipt = TwilioClient.read_receipt


class Stage:
    """The service with subscriptions of every kind, and what was noticed on it."""

    def __init__(self, world: World, jobs: Jobs, sms: FakeSms, time: StandingClock, names: Names) -> None:
        self.world, self.jobs, self.sms, self.time, self.names = world, jobs, sms, time, names
        self.payments: FakePayments = world.payments
        self.count = itertools.count(1)
        self.outcomes: Counter[str] = Counter()
        self.findings: list[str] = []
        self.chance = random.Random(SEED)
        self.known: dict[str, list[str]] = {}
        self.look_around()

    def look_around(self) -> None:
        """Let a while pass, have the work done, and note what there is to speak of."""
        self.time.move(seconds=self.chance.choice((5, 60, 600)))
        with self.names.unknown():  # what is owed to a partner leads nowhere, and not to a stranger
            self.jobs.run_pending()
        beat()
        newest = self.world.client.get("/api/events?limit=200", headers=basic()).get_json()["events"]
        numbers = sorted({each["subscriptionId"] for each in newest})[-6:] or [1, 2, 3]
        numbers = sorted({1, 2, 3, *numbers})
        subs = [subscription(number) for number in numbers]
        paid = [charge for number in numbers for charge in charges(number)]
        listed = [
            each["transactionId"]
            for number in numbers
            for each in self.world.client.get(f"/api/transactions/search/10295/{number}", headers=basic()).get_json()[
                "transactions"
            ]
        ]
        self.known = {
            "partnerId": ["10295"] * 9 + ["20000"],
            "id": [str(number) for number in numbers] + ["member-2"],
            "recurringPaymentId": [str(number) for number in numbers],
            "transactionId": listed,
            "referenceId": [charge.name for charge in paid] + [str(sub.order_number) for sub in subs],
            "paymentTypeId": ["5"],
            "from": ["2026-11-01", "2026-11-10T11:00"],
            "fromDate": ["2026-11-01", "2026-11-10T11:00"],
            "eventId": [each["id"] for each in newest],
            "token": [token for sub in subs for token in (sub.link_token, sub.manage_token)],
            "returnId": [each.return_id for number in numbers for each in agreements(number)],
            "registration": list(self.payments.webhooks),
            "messageId": ["1", "2"],
            "filename": ["site.css", "waiting.js"],
            "agreement_id": [str(newest_agreement(number).provider_agreement_id) for number in numbers],
            "charge_id": [charge.name for charge in paid],
        }

    def send(self, case: schemathesis.Case) -> None:
        """Send a case, mostly with a good proof and mostly about what there is; note what is wrong with the answer."""
        if next(self.count) % 10 == 0:
            self.upset()
            self.look_around()
        if self.chance.random() < 0.8:
            self.ground(case)
        kept = {name: value for name, value in dict(case.headers or {}).items() if name.lower() not in _SET_HERE}
        case.headers = {**kept, **self.proof()}
        label = f"{case.method} {case.operation.path}"
        before = everything() if case.method in ("GET", "HEAD") else None
        try:
            response = case.call(base_url="https://pay.example.com")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            self.findings.append(f"{label}: {type(error).__name__}: {error}")
            return
        self.outcomes[f"{label} {response.status_code}"] += 1
        if before is not None and everything() != before:
            self.findings.append(f"{label}: a look has changed something")
        try:
            case.validate_response(response, checks=_CHECKS)
        except* Exception as errors:  # noqa: BLE001 - likewise
            self.findings += [f"{label} {response.status_code}: {error}" for error in errors.exceptions]

    def proof(self) -> dict[str, str]:
        """Return what says who asks: nearly always the partner, in one of its two manners."""
        roll = self.chance.random()
        if roll < 0.04:
            return {}
        return basic(secret="wrong") if roll < 0.08 else basic()

    def ground(self, case: schemathesis.Case) -> None:
        """Let a case speak of what is there, in its address and in its body."""
        for place in ("path_parameters", "query"):
            values = dict(getattr(case, place) or {})
            for name in values:
                if self.known.get(name) and self.chance.random() < 0.9:
                    values[name] = self.chance.choice(self.known[name])
            setattr(case, place, values)
        for body in case.body if isinstance(case.body, list) else [case.body]:
            if isinstance(body, dict):
                self.mend(body)
        if isinstance(case.body, list) and case.operation.path.endswith("/agreement/cancel"):
            case.body = [self.chance.choice(self.known["agreement_id"]) for _ in case.body[:3]]

    def mend(self, body: dict[str, Any]) -> None:
        """Replace what chance never gets right; what else is odd about the body stays."""
        sound = {
            "partnerId": 10295,
            "msisdn": "+4791234567",
            "amount": self.chance.choice(("99", 12.5, "0.5")),
            "campaignAmount": self.chance.choice((None, "0", 10)),
            "currency": self.chance.choice(("NOK", "nok", "EUR")),
            "paymentProvider": "Vipps",
            "smsNotificationOriginator": "2119",
            "url": "https://www.example.com/events",
            "from": "2026-11-10T00:00:00Z",
            "to": "2026-11-11T00:00:00Z",
            "price": self.chance.choice(("100", 250)),
        }
        for name in body:
            if name.endswith("Url"):
                body[name] = f"https://www.example.com/{name}"
            elif name in self.known and name != "partnerId":
                body[name] = self.chance.choice(self.known[name] or ["none"])
            elif name in sound and self.chance.random() < 0.9:
                body[name] = sound[name]

    def upset(self) -> None:
        """Change the partner's manner, whether signatures fit, and what the providers say next."""
        partners.change(10295, Terms(contract_mode=self.chance.choice(("fixed", "strict"))))
        self.payments.genuine = self.sms.genuine = self.chance.random() < 0.7
        if self.chance.random() < 0.3:
            trouble = _TROUBLES[self.chance.choice(list(_TROUBLES))]
            self.payments.faults.before(self.chance.choice(_CALLS), trouble())


# The caller does not close the files that it is sent.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def payments() -> Payments:
    return Payments()


@pytest.fixture
def sms() -> Sms:
    return Sms()


@pytest.fixture
def stage(
    app: Flask,
    world: World,
    jobs: Jobs,
    sms: FakeSms,
    time: StandingClock,
    names: Names,
) -> Stage:
    app.testing = False  # an exception that nobody catches is an answer
    return Stage(world, jobs, sms, time, names)


def test_whatever_is_asked_the_answer_is_one_that_the_description_knows(stage: Stage, app: Flask):
    schema = schemathesis.openapi.from_dict(stage.world.sealed)
    schema.app = app
    operations = [each.ok() for each in schema.get_all_operations()]
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
    assert stage.findings == [], "\n".join(stage.findings)
