"""Planted bugs: what we are told, and what we tell."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

from invoice.lifecycle import ChargeStatus, DeliveryStatus
from invoice.services import deliveries, inbox, messages, outbox
from invoice.store import queries
from invoice.store.db import transaction
from tests.simulation.house import in_the_background
from tests.simulation.mutants.planting import Patches, mutant, unguarded


@mutant
def an_event_is_written_after_its_cause() -> Patches:
    real = outbox.record

    def record(subscription: Any, event_type: str, **data: Any) -> None:
        number = subscription.id

        def later() -> None:
            with transaction():
                real(queries.lock_subscription(number), event_type, **data)

        in_the_background("an event", later)

    return [patch.object(outbox, "record", record)]


@mutant
def a_webhook_is_believed() -> Patches:
    says = {
        "recurring.charge-captured.v1": ChargeStatus.CHARGED,
        "recurring.charge-refunded.v1": ChargeStatus.REFUNDED,
        "recurring.charge-failed.v1": ChargeStatus.FAILED,
        "recurring.charge-canceled.v1": ChargeStatus.CANCELLED,
    }
    real = inbox.Inbox.take_webhook

    def take(self: Any, body: bytes, account: str) -> None:
        real(self, body, account)
        news = json.loads(body)
        with transaction():
            charge = queries.charge_by_name(account, news.get("chargeId", ""))
            if charge is not None and news["eventType"] in says:
                charge.status, charge.check_at = says[news["eventType"]], None
                charge.captured, charge.refunded = news["amountCaptured"], news["amountRefunded"]

    return [*unguarded("TRIGGER charges_moves"), patch.object(inbox.Inbox, "take_webhook", take)]


@mutant
def a_webhook_is_answered_before_it_is_kept() -> Patches:
    real = inbox.Inbox.take_webhook

    def take(self: Any, body: bytes, account: str) -> None:
        in_the_background("a webhook", lambda: real(self, body, account))

    return [patch.object(inbox.Inbox, "take_webhook", take)]


@mutant
def a_webhook_about_the_unknown_is_an_error() -> Patches:
    real = inbox._ring

    def ring(what: Any, account: str) -> bool:
        if not real(what, account):
            raise LookupError(what)
        return True

    return [patch.object(inbox, "_ring", ring)]


@mutant
def a_text_is_sent_again_without_looking() -> Patches:
    return [
        patch.object(messages.Messages, "_find", lambda *_: None),
        patch.object(messages.Messages, "_wait_for_evidence", lambda *_: None),
    ]


@mutant
def events_go_out_as_they_come() -> Patches:
    drop = unguarded("INDEX uq_deliveries_head")
    return [*drop, patch.object(deliveries, "_place", lambda *_: DeliveryStatus.READY)]
