"""Stand-ins at the two provider ports: a Vipps and a Twilio in memory, with a list of what goes wrong next.

Every call asserts that no transaction is open: a slow provider must never hold a lock of ours.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from invoice.clock import utc_now
from invoice.errors import ProviderRefused
from invoice.lifecycle import AgreementStatus, ChargeStatus, MessageStatus
from invoice.providers.base import (
    AgreementView,
    BatchAnswer,
    ChargeView,
    Draft,
    Drafted,
    NewCharge,
    Receipt,
    Ring,
    WebhookAddress,
)
from invoice.store.db import is_transaction_open


class Faults:
    """What happens to the next calls: `before` nothing has happened, `after` it has, and nobody is told."""

    def __init__(self) -> None:
        self._next: dict[str, deque[tuple[str, Exception]]] = defaultdict(deque)

    def before(self, call: str, *errors: Exception) -> None:
        self._next[call].extend(("before", e) for e in errors)

    def after(self, call: str, *errors: Exception) -> None:
        self._next[call].extend(("after", e) for e in errors)

    def take(self, call: str, when: str) -> None:
        if self._next[call] and self._next[call][0][0] == when:
            raise self._next[call].popleft()[1]


class _Port:
    def __init__(self) -> None:
        self.faults = Faults()
        self.calls: list[str] = []

    def _begin(self, call: str) -> None:
        assert not is_transaction_open(), f"{call} was called with a transaction open"
        self.calls.append(call)
        self.faults.take(call, "before")


@dataclass
class FakeAgreement:
    view: AgreementView
    draft: Mapping[str, Any]
    charges: dict[str, ChargeView] = field(default_factory=dict)


class FakePayments(_Port):
    """A payment provider in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.agreements: dict[str, FakeAgreement] = {}
        self.batches: list[tuple[str, str]] = []  # (key, request)
        self.refunds: list[tuple[str, int, str]] = []  # (charge, amount, key)
        self.webhooks: dict[str, str] = {}
        self.genuine = True
        self.refused_names: dict[str, str] = {}  # charges that a batch turns down, with the reason
        self.stops_at_once = True
        self.hidden: set[str] = set()  # charges that exist and do not show yet
        self.shows_start = True
        self.spoils_batches: set[str] = set()  # names that have a whole batch turned down
        self.during_look: Callable[[], None] | None = None  # what happens between a look's answer and our commit

    # What people and time do

    def accept(self, agreement_id: str, *, at: datetime | None = None) -> None:
        """The person approves: the initial charge is taken and the agreement begins."""
        agreement = self.agreements[agreement_id]
        agreement.view = replace(agreement.view, status=AgreementStatus.ACTIVE, started_at=at or utc_now())
        initial = agreement.draft["initial_amount"]
        if initial:
            name = agreement.draft["initial_name"]
            agreement.charges[name] = self._charge(
                agreement, name, initial, ChargeStatus.CHARGED, is_initial=True, captured=initial
            )

    def end(self, agreement_id: str, status: AgreementStatus = AgreementStatus.STOPPED) -> None:
        """The agreement ends, and what has not been taken with it."""
        agreement = self.agreements[agreement_id]
        agreement.view = replace(agreement.view, status=status)
        for name, charge in agreement.charges.items():
            if charge.status in (ChargeStatus.SUBMITTED, ChargeStatus.RESERVED):
                agreement.charges[name] = replace(charge, status=ChargeStatus.CANCELLED)

    def settle_charge(self, name: str, status: ChargeStatus, *, reason: str | None = None) -> None:
        """A charge comes to its end, or to a refund."""
        agreement = self._holder(name)
        charge = agreement.charges[name]
        taken = charge.amount if status == ChargeStatus.CHARGED else charge.captured
        at = utc_now() if status == ChargeStatus.CHARGED else charge.captured_at
        agreement.charges[name] = replace(charge, status=status, captured=taken, captured_at=at, failure_reason=reason)

    def charge(self, name: str) -> ChargeView:
        return self._holder(name).charges[name]

    def names(self) -> list[str]:
        """All charges at the provider."""
        return [name for agreement in self.agreements.values() for name in agreement.charges]

    def newest(self) -> str:
        """The id of the newest agreement."""
        return list(self.agreements)[-1]

    def _holder(self, name: str) -> FakeAgreement:
        return next(a for a in self.agreements.values() if name in a.charges)

    def _charge(
        self,
        agreement: FakeAgreement,
        name: str,
        amount: int,
        status: ChargeStatus,
        *,
        is_initial: bool = False,
        captured: int = 0,
    ) -> ChargeView:
        return ChargeView(
            name=name,
            agreement_id=agreement.view.agreement_id,
            amount=amount,
            currency=agreement.draft["currency"],
            status=status,
            captured=captured,
            refunded=0,
            captured_at=utc_now() if captured else None,
            failure_reason=None,
            is_initial=is_initial,
        )

    # The port

    def draft_request(self, draft: Draft) -> str:
        return json.dumps({**vars(draft)}, default=str)

    def draft_agreement(self, request: str, *, key: str) -> Drafted:
        self._begin("draft")
        draft = json.loads(request)
        agreement_id = f"agr_{len(self.agreements) + 1}"
        view = AgreementView(agreement_id, draft["external_id"], AgreementStatus.PENDING, None)
        self.agreements[agreement_id] = FakeAgreement(view, draft)
        self.faults.take("draft", "after")
        return Drafted(agreement_id, f"https://api.vipps.no/landing/{agreement_id}")

    def find_agreement(self, agreement_id: str) -> AgreementView | None:
        self._begin("find_agreement")
        agreement = self.agreements.get(agreement_id)
        view = agreement.view if agreement else None
        self._meanwhile()
        return view if view is None or self.shows_start else replace(view, started_at=None)

    def _meanwhile(self) -> None:
        happens, self.during_look = self.during_look, None
        if happens is not None:
            happens()

    def stop_agreement(self, agreement_id: str, *, key: str) -> None:
        self._begin("stop")
        if self.agreements[agreement_id].view.status != AgreementStatus.ACTIVE:
            raise ProviderRefused("not active", status=400)
        if self.stops_at_once:
            self.end(agreement_id)
        self.faults.take("stop", "after")

    def charges_request(self, charges: list[NewCharge]) -> str:
        return json.dumps([{**vars(c), "due_on": c.due_on.isoformat()} for c in charges])

    def create_charges(self, request: str, *, key: str) -> BatchAnswer:
        self._begin("create")
        self.batches.append((key, request))
        refused = {}
        items = json.loads(request)
        if any(item["name"] in self.spoils_batches for item in items):
            raise ProviderRefused("the list is wrong", status=400)
        for item in items:
            reason = self._create(item)
            if reason:
                refused[item["name"]] = reason
        self.faults.take("create", "after")
        return BatchAnswer(frozenset(i["name"] for i in items) - refused.keys(), refused)

    def _create(self, item: dict[str, Any]) -> str | None:
        agreement = self.agreements[item["agreement_id"]]
        if item["name"] in self.refused_names:
            return self.refused_names[item["name"]]
        if item["name"] in agreement.charges:
            return "orderId is in use"
        if agreement.view.status != AgreementStatus.ACTIVE:
            return "agreement is not active"
        agreement.charges[item["name"]] = self._charge(agreement, item["name"], item["amount"], ChargeStatus.SUBMITTED)
        return None

    def find_charge(self, agreement_id: str, name: str) -> ChargeView | None:
        self._begin("find_charge")
        found = None if name in self.hidden else self.agreements[agreement_id].charges.get(name)
        self._meanwhile()
        return found

    def list_charges(self, agreement_id: str) -> list[ChargeView]:
        self._begin("list_charges")
        return [c for n, c in self.agreements[agreement_id].charges.items() if n not in self.hidden]

    def refund_request(self, amount: int, reason: str) -> str:
        return json.dumps({"amount": amount, "reason": reason})

    def refund_charge(self, agreement_id: str, name: str, request: str, *, key: str) -> None:
        self._begin("refund")
        agreement = self.agreements[agreement_id]
        amount = json.loads(request)["amount"]
        if (name, amount, key) not in self.refunds:
            charge = agreement.charges[name]
            assert charge.refunded + amount <= charge.captured, "more is given back than was taken"
            whole = charge.refunded + amount == charge.captured
            status = ChargeStatus.REFUNDED if whole else ChargeStatus.PARTIALLY_REFUNDED
            agreement.charges[name] = replace(charge, refunded=charge.refunded + amount, status=status)
            self.refunds.append((name, amount, key))
        self.faults.take("refund", "after")

    def register_webhook(self, url: str) -> tuple[WebhookAddress, str]:
        self._begin("register")
        webhook_id = f"hook-{len(self.calls)}"
        self.webhooks[webhook_id] = url
        self.faults.take("register", "after")
        return WebhookAddress(webhook_id, url), f"secret of {webhook_id}"

    def list_webhooks(self) -> list[WebhookAddress]:
        self._begin("list_webhooks")
        return [WebhookAddress(i, url) for i, url in self.webhooks.items()]

    def delete_webhook(self, webhook_id: str) -> None:
        self._begin("delete_webhook")
        self.webhooks.pop(webhook_id, None)

    def is_genuine(self, url: str, secret: str, headers: Mapping[str, str], body: bytes) -> bool:
        return self.genuine

    def read_webhook(self, body: bytes) -> Ring:
        return Ring(**json.loads(body))


class FakeSms(_Port):
    """An SMS provider in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, str]] = []
        self.genuine = True

    def send(self, *, to: str, originator: str, body: str, receipt_url: str) -> Receipt:
        self._begin("send")
        self.sent.append({"to": to, "originator": originator, "body": body, "receipt_url": receipt_url})
        self.faults.take("send", "after")
        return Receipt(f"SM{len(self.sent)}", MessageStatus.ACCEPTED)

    def find(self, *, to: str, since: datetime, containing: str) -> Receipt | None:
        self._begin("find")
        for number, message in enumerate(self.sent, 1):
            if message["to"] == to and containing in message["body"]:
                return Receipt(f"SM{number}", MessageStatus.SENT)
        return None

    def is_genuine(self, url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        return self.genuine

    def read_receipt(self, form: Mapping[str, str]) -> Receipt:
        return Receipt(form["MessageSid"], MessageStatus(form["MessageStatus"].upper()))
