"""A partner with a subscription, one with a sales unit of its own, and a server that takes what partners are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from app import build_services
from invoice.config import Settings
from invoice.services import accounts
from invoice.services.accounts import Accounts
from invoice.services.jobs import Jobs, Services
from invoice.services.partners import PartnerView
from tests.conftest import environ_for
from tests.factories import a_partner, an_active_subscription, newest_agreement, unhurried
from tests.fakes import FakePayments, FakeSms
from tests.receivers import Receiver, receiving
from tests.services.asking import KEYS, THEIRS, Elsewhere


@pytest.fixture
def housekeeping(services: Services, jobs: Jobs) -> None:
    """Housekeeping is done with all other work, once a week."""
    jobs.table = unhurried(Jobs(services)).table


@pytest.fixture
def partner(app: Flask) -> PartnerView:
    return a_partner()


@pytest.fixture
def number(partner: PartnerView, services: Services, payments: FakePayments) -> int:
    """An active subscription."""
    return an_active_subscription(services, payments)


@pytest.fixture
def agreement(number: int) -> str:
    """Its agreement."""
    return str(newest_agreement(number).provider_agreement_id)


@pytest.fixture
def unit() -> Elsewhere:
    return Elsewhere(THEIRS)


@pytest.fixture
def services_of_owner(app: Flask, database_url: str, payments: FakePayments, unit: Elsewhere, sms: FakeSms) -> Services:
    """The services, where a partner's own account leads to `unit`."""
    known = Accounts(payments, lambda _keys: unit)
    return build_services(Settings.from_environ(environ_for(database_url)), known, sms)


@pytest.fixture
def owner(services_of_owner: Services) -> PartnerView:
    """A partner with an account of its own."""
    found = a_partner()
    accounts.bring(found.id, KEYS)
    return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver
