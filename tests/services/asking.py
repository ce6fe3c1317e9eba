"""Asking for money at a partner's word, and reading what came of it: for the tests of `direct`."""

from __future__ import annotations

from sqlalchemy import select

from invoice.clock import utc_now
from invoice.errors import ProviderUnavailable
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, OperationStatus
from invoice.providers.base import AgreementView, ChargeView
from invoice.services.accounts import AccountKeys
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Outcome, Standing
from invoice.store.db import db, reading
from invoice.store.models import Charge, Operation, Subscription
from tests.conftest import StandingClock
from tests.factories import charges, settle, the_partner
from tests.fakes import FakeAgreement, FakePayments

OWN, THEIRS = "123456", "234567"
KEYS = AccountKeys(THEIRS, "id", "client-secret", "subscription-key")


class Elsewhere(FakePayments):
    """A partner's own sales unit, with an agreement that was signed there."""

    def sign(
        self, *, status: AgreementStatus = AgreementStatus.ACTIVE, external_id: str = "of-another-system"
    ) -> FakeAgreement:
        started = None if status == AgreementStatus.PENDING else utc_now()
        view = AgreementView("agr_old", external_id, status, started, 9900, "Gammel", "Fra før", "NOK", Interval.MONTH)
        self.agreements["agr_old"] = FakeAgreement(view, {"price": {"currency": "NOK"}, "initial": None})
        return self.agreements["agr_old"]

    def hold(self, name: str, status: ChargeStatus, *, amount: int = 500, captured: int = 0) -> ChargeView:
        """A charge of that agreement, however it came to be."""
        agreement = self.agreements["agr_old"]
        agreement.charges[name] = self._charge(agreement, name, amount, status, captured=captured)
        return agreement.charges[name]


def make(services: Services, *wishes: Wish, key: str | None = None, literal: bool = False) -> list[Outcome]:
    """Make charges as the one partner; return what came of each, in the order of the wishes."""
    made = services.direct.make(the_partner(), dict(enumerate(wishes)), key=key, literal=literal)
    return [made[place] for place in range(len(wishes))]


def extras(number: int) -> list[Charge]:
    return [charge for charge in charges(number) if charge.is_extra]


def statuses(number: int) -> list[ChargeStatus]:
    return [charge.status for charge in extras(number)]


def standings(outcomes: list[Outcome]) -> list[Standing]:
    return [outcome.standing for outcome in outcomes]


def operations(kind: str) -> list[OperationStatus]:
    with reading():
        return list(db.session.scalars(select(Operation.status).where(Operation.kind == kind).order_by(Operation.id)))


def adopted() -> list[Subscription]:
    """The subscriptions that stand for agreements that were signed elsewhere."""
    with reading():
        found = list(db.session.scalars(select(Subscription).where(~Subscription.is_scheduled)))
        db.session.expunge_all()
        return found


def words(outcome: Outcome) -> str:
    assert outcome.error is not None
    return outcome.error.message


def away(failure: str = "connect") -> ProviderUnavailable:
    error = ProviderUnavailable("Vipps cannot be reached")
    error.failure = failure
    return error


def pass_time(jobs: Jobs, time: StandingClock, *, hours: int) -> None:
    for _ in range(hours * 4):
        time.move(minutes=15)
        settle(jobs)
