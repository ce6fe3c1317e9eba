"""Stand-ins at the two provider ports: a Vipps and a Twilio in memory, with a list of what goes wrong next.

Every call asserts that no transaction is open: a slow provider must never hold a lock of ours.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from invoice.clock import utc_now
from invoice.errors import ProviderRefused
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, MessageStatus
from invoice.providers.base import (
    AgreementPage,
    AgreementView,
    BatchAnswer,
    ChargeView,
    Draft,
    Drafted,
    NewCharge,
    Receipt,
    Ring,
    Terms,
    WebhookAddress,
)
from invoice.store.db import is_transaction_open

IN_USE = "orderId is in use"


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

    def __init__(self, account: str = "123456") -> None:
        super().__init__()
        self.account = account
        self.names_refunds = self.names_captures = True  # by their keys, in a charge's history
        self.skew = timedelta(0)
        self.acts_late = False  # whether captures, cancels and changes are only accepted, and enacted by `catch_up`
        self.owed: list[Callable[[], None]] = []
        self.agreements: dict[str, FakeAgreement] = {}
        self.batches: list[tuple[str, str]] = []  # (key, request)
        self.refunds: list[tuple[str, int, str]] = []  # (charge, amount, key)
        self.captures: list[tuple[str, int, str]] = []  # likewise
        self.local_faults: dict[str, str] = {}  # charges that our own check turns down, with the reason
        self.page_size = 2000
        self.webhooks: dict[str, str] = {}
        self.genuine = True
        self.refused_names: dict[str, str] = {}  # charges that a batch turns down, with the reason
        self.stops_at_once = True
        self.hidden: set[str] = set()  # charges that exist and do not show yet
        self.shows_start = True
        self.spoils_batches: set[str] = set()  # names that have a whole batch turned down
        self.during_look: Callable[[], None] | None = None  # what happens between an answer and our commit

    # What people and time do

    def accept(self, agreement_id: str, *, at: datetime | None = None) -> None:
        """The person approves: the initial charge is taken and the agreement begins."""
        agreement = self.agreements[agreement_id]
        agreement.view = replace(agreement.view, status=AgreementStatus.ACTIVE, started_at=at or utc_now())
        initial = agreement.draft["initial"]
        if initial:
            name, amount = initial["name"], initial["amount"]
            status, taken = (ChargeStatus.RESERVED, 0) if initial["is_reserved"] else (ChargeStatus.CHARGED, amount)
            charge = self._charge(agreement, name, amount, status, is_initial=True, captured=taken)
            agreement.charges[name] = replace(charge, reserved_at=utc_now() if initial["is_reserved"] else None)

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

    def give_back(self, name: str, amount: int) -> None:
        """Somebody gives a part of the money back in the portal."""
        agreement = self._holder(name)
        charge = agreement.charges[name]
        refunded = charge.refunded + amount
        agreement.charges[name] = replace(charge, refunded=refunded, status=ChargeStatus.PARTIALLY_REFUNDED)

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
            currency=agreement.draft["price"]["currency"],
            status=status,
            captured=captured,
            refunded=0,
            captured_at=utc_now() if captured else None,
            failure_reason=None,
            is_initial=is_initial,
        )

    def catch_up(self) -> None:
        """Enact what was only accepted."""
        owed, self.owed = self.owed, []
        for act in owed:
            act()

    def _enact(self, act: Callable[[], None]) -> None:
        if self.acts_late:
            self.owed.append(act)
        else:
            act()

    # The port

    def check_keys(self) -> None:
        self._begin("check_keys")

    def access_token(self) -> str:
        self._begin("token")
        return f"token of {self.account}"

    def show_agreement(self, agreement_id: str) -> dict[str, Any]:
        self._begin("show_agreement")
        view = self._shown(agreement_id).view
        return {"id": agreement_id, "status": view.status, "price": view.amount, "currency": view.currency}

    def show_charges(self, agreement_id: str) -> list[dict[str, Any]]:
        self._begin("show_charges")
        found = self._shown(agreement_id).charges
        return [
            {"id": name, "status": charge.status, "amount": charge.amount, "amountRefunded": charge.refunded}
            for name, charge in found.items()
        ]

    def _shown(self, agreement_id: str) -> FakeAgreement:
        if agreement_id not in self.agreements:
            raise ProviderRefused("Agreement not found.", status=404)
        return self.agreements[agreement_id]

    def clock_skew(self) -> timedelta:
        return self.skew

    def draft_request(self, draft: Draft) -> str:
        return json.dumps(asdict(draft), default=str)

    def terms_request(self, terms: Terms) -> str:
        return json.dumps(asdict(terms), default=str)

    def update_agreement(self, agreement_id: str, request: str, *, key: str) -> None:
        self._begin("update")
        agreement, wanted = self.agreements[agreement_id], json.loads(request)
        if agreement.view.status != AgreementStatus.ACTIVE:
            raise ProviderRefused("not active", status=400)
        self._enact(lambda: self._change(agreement, wanted))
        self.faults.take("update", "after")

    def _change(self, agreement: FakeAgreement, wanted: Mapping[str, Any]) -> None:
        held = {"product_name": wanted["product_name"], "description": wanted["description"]}
        if wanted["price"]:
            held["amount"] = wanted["price"]["amount"]
        agreement.view = replace(agreement.view, **{k: v for k, v in held.items() if v is not None})

    def shows(self, view: AgreementView, request: str) -> bool:
        wanted = json.loads(request)
        same = all(wanted[n] in (None, getattr(view, n)) for n in ("product_name", "description"))
        return same and (wanted["price"] is None or wanted["price"]["amount"] == view.amount)

    def fault_of(self, charge: NewCharge, today: date) -> str | None:
        return self.local_faults.get(charge.name)

    def list_agreements(self, status: AgreementStatus, created_after: datetime) -> list[AgreementView]:
        self._begin("list_agreements")
        return [a.view for a in self.agreements.values() if a.view.status == status]

    def page_of_agreements(self, status: AgreementStatus, created_after: datetime, number: int) -> AgreementPage:
        views = self.list_agreements(status, created_after)
        size = self.page_size
        return AgreementPage(views[(number - 1) * size : number * size], is_last=number * size >= len(views))

    def charge_request(self, charge: NewCharge) -> str:
        return json.dumps({**vars(charge), "due_on": charge.due_on.isoformat()})

    def create_charge(self, agreement_id: str, request: str, *, key: str) -> None:
        self._begin("create")
        item = json.loads(request)
        self.batches.append((key, f"[{request}]"))
        if item["name"] in self.spoils_batches:
            raise ProviderRefused("the list is wrong", status=400)
        reason = self._create(item)
        if reason:
            raise ProviderRefused(reason, status=409 if reason == IN_USE else 400)
        self.faults.take("create", "after")

    def find_charge_by_name(self, name: str) -> ChargeView | None:
        self._begin("find_charge_by_name")
        return next((a.charges[name] for a in self.agreements.values() if name in a.charges), None)

    def cancel_charge(self, agreement_id: str, name: str, *, key: str) -> None:
        self._begin("cancel_charge")
        charge = self.agreements[agreement_id].charges[name]
        if charge.status not in (ChargeStatus.SUBMITTED, ChargeStatus.RESERVED):
            raise ProviderRefused(f"the charge is {charge.status}", status=400)
        ended = ChargeStatus.CHARGED if charge.captured else ChargeStatus.CANCELLED
        self._enact(lambda: self._put(agreement_id, replace(charge, status=ended)))
        self.faults.take("cancel_charge", "after")

    def capture_request(self, amount: int) -> str:
        return json.dumps({"amount": amount})

    def capture_charge(self, agreement_id: str, name: str, request: str, *, key: str) -> None:
        self._begin("capture")
        charge, amount = self.agreements[agreement_id].charges[name], json.loads(request)["amount"]
        if (name, amount, key) not in self.captures:
            if charge.status != ChargeStatus.RESERVED or charge.captured + amount > charge.amount:
                raise ProviderRefused("higher than the remaining capturable amount", status=400)
            self.captures.append((name, amount, key))
            taken = charge.captured + amount
            status = ChargeStatus.CHARGED if taken == charge.amount else ChargeStatus.RESERVED
            captured_at = charge.captured_at or utc_now()
            named = charge.captures | {key} if self.names_captures else charge.captures
            made = replace(charge, captured=taken, status=status, captured_at=captured_at, captures=named)
            self._enact(lambda: self._put(agreement_id, made))
        self.faults.take("capture", "after")

    def _put(self, agreement_id: str, charge: ChargeView) -> None:
        self.agreements[agreement_id].charges[charge.name] = charge

    def draft_agreement(self, request: str, *, key: str) -> Drafted:
        self._begin("draft")
        draft = json.loads(request)
        agreement_id = f"agr_{len(self.agreements) + 1}"
        view = AgreementView(
            agreement_id,
            draft["external_id"],
            AgreementStatus.PENDING,
            None,
            draft["price"]["amount"],
            draft["product_name"],
            draft["description"],
            draft["price"]["currency"],
            Interval(draft["interval"]) if draft["interval"] else None,
            draft["manage_url"],
        )
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
        self._meanwhile()
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
            return IN_USE
        if agreement.view.status != AgreementStatus.ACTIVE:
            return "agreement is not active"
        charge = self._charge(agreement, item["name"], item["amount"], ChargeStatus.SUBMITTED)
        agreement.charges[item["name"]] = replace(charge, due_on=date.fromisoformat(item["due_on"]))
        return None

    def find_charge(self, agreement_id: str, name: str) -> ChargeView | None:
        self._begin("find_charge")
        found = None if name in self.hidden else self.agreements[agreement_id].charges.get(name)
        self._meanwhile()
        return found

    def list_charges(self, agreement_id: str) -> list[ChargeView]:
        self._begin("list_charges")
        found = [c for n, c in self.agreements[agreement_id].charges.items() if n not in self.hidden]
        self._meanwhile()
        return found

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
            named = (*charge.refunds, (key, amount)) if self.names_refunds else ()
            agreement.charges[name] = replace(charge, refunded=charge.refunded + amount, status=status, refunds=named)
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
        self.shows = True  # whether what was sent can be found already
        self.genuine = True

    def send(self, *, to: str, originator: str, body: str, receipt_url: str) -> Receipt:
        self._begin("send")
        self.sent.append({"to": to, "originator": originator, "body": body, "receipt_url": receipt_url})
        self.faults.take("send", "after")
        return Receipt(f"SM{len(self.sent)}", MessageStatus.ACCEPTED)

    def find(self, *, to: str, since: datetime, containing: str, but_not: Sequence[str] = ()) -> Receipt | None:
        self._begin("find")
        for number, message in enumerate(self.sent, 1):
            if self.shows and message["to"] == to and containing in message["body"] and f"SM{number}" not in but_not:
                return Receipt(f"SM{number}", MessageStatus.SENT)
        return None

    def is_genuine(self, url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        return self.genuine

    def read_receipt(self, form: Mapping[str, str]) -> Receipt:
        return Receipt(form["MessageSid"], MessageStatus(form["MessageStatus"].upper()))
