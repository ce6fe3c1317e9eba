"""One piece of work in progress: the open session, the instant at which it happens, and how the switches stand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoice.simulator.accounts import SalesUnit
from invoice.simulator.models import Agreement, Charge, Message
from invoice.simulator.switches import Values
from invoice.simulator.world import World


@dataclass(frozen=True)
class Act:
    """What the rules of life need to know. `now` is the nominal instant, also when the engine is catching up."""

    world: World = field(repr=False)
    session: Session = field(repr=False)
    now: datetime
    key: str = ""  # the Idempotency-Key of the request, for the history
    body: Any = None

    @property
    def switches(self) -> Values:
        """Where the switches stand."""
        return self.world.switchboard.values

    def at(self, now: datetime) -> Act:
        """Return the same act at another instant."""
        return replace(self, now=now)

    def find_agreement(self, agreement_id: str) -> Agreement | None:
        """Return the agreement with this id, or None."""
        return self.session.scalar(select(Agreement).where(Agreement.id == agreement_id))

    def find_charge(self, msn: str, charge_id: str) -> Charge | None:
        """Return the charge with this id in this sales unit, or None."""
        return self.session.scalar(select(Charge).where(Charge.msn == msn, Charge.id == charge_id))

    def find_message(self, sid: str) -> Message | None:
        """Return the message with this sid, or None."""
        return self.session.scalar(select(Message).where(Message.sid == sid))


@dataclass(frozen=True)
class Call(Act):
    """What a sales unit asks for through the vendor's API. What belongs to another unit is not there."""

    unit: SalesUnit = field(kw_only=True)

    @property
    def msn(self) -> str:
        """The sales unit's serial number."""
        return self.unit.merchant_serial_number

    def find_agreement(self, agreement_id: str) -> Agreement | None:
        """Return the unit's own agreement with this id, or None."""
        found = super().find_agreement(agreement_id)
        return found if found and found.msn == self.msn else None

    def find_own_charge(self, charge_id: str) -> Charge | None:
        """Return the unit's own charge with this id, or None."""
        return self.find_charge(self.msn, charge_id)
