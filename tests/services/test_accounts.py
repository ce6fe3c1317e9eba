"""Partners' own accounts at the provider: their keys rest encrypted, and what was signed under one stays under it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask
from sqlalchemy import select, text, update

from app import build_services
from invoice.clock import utc_now
from invoice.config import Settings
from invoice.errors import Conflict, NotFound, ProviderDenied, Unreadable
from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.providers.base import Drafted, PaymentProvider, WebhookAddress
from invoice.providers.vipps import SalesUnit
from invoice.services import accounts
from invoice.services.accounts import AccountKeys, Accounts
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading, set_encryption_keys, transaction
from invoice.store.models import (
    Agreement,
    Charge,
    IdempotencyKey,
    InboundEvent,
    Partner,
    ProviderAccount,
    WebhookRegistration,
)
from tests.bending import bending
from tests.conftest import StandingClock, environ_for
from tests.factories import a_partner, a_wish, agreements, charges, newest_agreement, settle, subscription
from tests.fakes import FakePayments, FakeSms
from tests.security.test_keys import as_before

OWN, THEIRS = "123456", "234567"
OLD_SECRET = "Zq7vKx2mRt9LwPc4Hs8JyBn3Gf6DkUa5"
NEW_SECRET = "another-secret-key-for-tests-that-is-long-enough"
# What is asked of every account whoever has signed there: its registrations, and who is active.
UPKEEP = {"list_webhooks", "register", "list_agreements"}


def the_keys(account: str = THEIRS, **changes: str) -> AccountKeys:
    defaults = {
        "client_id": f"id-of-{account}",
        "client_secret": f"client-secret-of-{account}",
        "subscription_key": f"subscription-key-of-{account}",
    }
    return AccountKeys(account, **{**defaults, **changes})


class Unit(FakePayments):
    """A sales unit at a provider that gives no id twice, whoever asks."""

    def draft_agreement(self, request: str, *, key: str) -> Drafted:
        drafted = super().draft_agreement(request, key=key)
        made = self.agreements.pop(drafted.agreement_id)
        agreement_id = f"{drafted.agreement_id}_of_{self.account}"
        made.view = replace(made.view, agreement_id=agreement_id)
        self.agreements[agreement_id] = made
        return replace(drafted, agreement_id=agreement_id)

    def register_webhook(self, url: str) -> tuple[WebhookAddress, str]:
        address, secret = super().register_webhook(url)
        webhook_id = f"{address.webhook_id}_of_{self.account}"
        self.webhooks[webhook_id] = self.webhooks.pop(address.webhook_id)
        return WebhookAddress(webhook_id, url), secret


class Connections:
    """Makes the provider of a partner's keys, and remembers for which."""

    def __init__(self) -> None:
        self.units = {THEIRS: Unit(THEIRS), "345678": Unit("345678")}
        self.made_for: list[AccountKeys] = []

    def connect(self, keys: AccountKeys) -> PaymentProvider:
        self.made_for.append(keys)
        return self.units[keys.account]


@pytest.fixture
def connections() -> Connections:
    return Connections()


@pytest.fixture
def own() -> Unit:
    return Unit(OWN)


@pytest.fixture
def theirs(connections: Connections) -> Unit:
    return connections.units[THEIRS]


@pytest.fixture
def known(app: Flask, own: Unit, connections: Connections) -> Accounts:
    return Accounts(own, connections.connect)


@pytest.fixture
def services(database_url: str, known: Accounts, sms: FakeSms) -> Services:
    """The use cases, with the platform's account and those that partners bring."""
    return build_services(Settings.from_environ(environ_for(database_url)), known, sms)


@pytest.fixture(autouse=True)
def _the_keys_of_the_columns_come_back() -> Iterator[None]:
    yield
    set_encryption_keys(OLD_SECRET)


def account_of(partner_id: int) -> str | None:
    with reading():
        return db.session.get_one(Partner, partner_id).account


def resting() -> dict[str, str]:
    """What really stands in the columns of secrets, by table and column."""
    found = {}
    with reading():
        for table, column in (
            ("provider_accounts", "client_secret"),
            ("provider_accounts", "subscription_key"),
            ("webhook_registrations", "secret"),
        ):
            for value in db.session.scalars(text(f"SELECT {column} FROM {table}")):  # noqa: S608 - our own names
                found[f"{table}.{column}"] = str(value)
    return found


def a_registration(account: str = THEIRS) -> None:
    with transaction():
        row = WebhookRegistration(
            account=account,
            token=account.rjust(22, "R"),
            provider_webhook_id=f"hook of {account}",
            url="https://pay.example.com/hooks/vipps/x",
            secret=f"webhook-secret-of-{account}",
            created_at=utc_now(),
        )
        db.session.add(row)


# Bringing, replacing, leaving


def test_a_partner_that_brings_keys_uses_its_own_account_from_then_on(known: Accounts, theirs: Unit) -> None:
    partner = a_partner()
    with reading():
        assert known.for_partner(partner.id) == OWN

    accounts.bring(partner.id, the_keys())

    with reading():
        assert known.for_partner(partner.id) == THEIRS
    assert known.of(THEIRS) is theirs


def test_the_platforms_account_is_found_without_any_row(known: Accounts, own: Unit, connections: Connections) -> None:
    assert known.of(OWN) is own
    assert known.every() == [own]
    assert connections.made_for == []


def test_an_account_is_connected_once_with_exactly_its_keys(known: Accounts, connections: Connections) -> None:
    accounts.bring(a_partner().id, the_keys())

    found = {id(known.of(THEIRS)) for _ in range(5)} | {id(known.every()[1])}

    assert len(found) == 1
    assert connections.made_for == [the_keys()]


def test_new_keys_of_an_account_replace_the_old_and_another_client_is_connected(
    known: Accounts, connections: Connections, time: StandingClock
) -> None:
    partner = a_partner()
    accounts.bring(partner.id, the_keys())
    known.of(THEIRS)
    time.move(seconds=1)

    accounts.bring(partner.id, the_keys(client_secret="a-new-secret"))
    known.of(THEIRS)
    known.of(THEIRS)

    assert [keys.client_secret for keys in connections.made_for] == [f"client-secret-of-{THEIRS}", "a-new-secret"]
    with reading():
        assert db.session.scalars(select(ProviderAccount.account)).all() == [THEIRS]


def test_a_partner_that_moves_to_a_second_account_keeps_the_first(
    known: Accounts, connections: Connections, own: Unit
) -> None:
    partner = a_partner()
    accounts.bring(partner.id, the_keys())

    accounts.bring(partner.id, the_keys("345678"))

    assert account_of(partner.id) == "345678"
    assert {payments.account for payments in known.every()} == {OWN, THEIRS, "345678"}
    assert known.every()[0] is own


def test_a_partner_that_leaves_uses_the_platforms_account_and_its_keys_stay(known: Accounts, theirs: Unit) -> None:
    partner = a_partner()
    accounts.bring(partner.id, the_keys())

    accounts.leave(partner.id)

    with reading():
        assert known.for_partner(partner.id) == OWN
    assert known.of(THEIRS) is theirs


def test_a_partner_that_left_may_come_back(known: Accounts) -> None:
    partner = a_partner()
    accounts.bring(partner.id, the_keys())
    accounts.leave(partner.id)

    accounts.bring(partner.id, the_keys())

    assert account_of(partner.id) == THEIRS


@pytest.mark.parametrize("has_left", [False, True])
def test_another_partners_account_is_a_conflict_that_changes_nothing(known: Accounts, has_left: bool) -> None:
    first, second = a_partner(10295), a_partner(10296)
    accounts.bring(first.id, the_keys())
    if has_left:
        accounts.leave(first.id)
    before = resting()

    with pytest.raises(Conflict, match=f"The account {THEIRS} is another partner's"):
        accounts.bring(second.id, the_keys(client_secret="stolen"))

    assert account_of(second.id) is None
    assert resting() == before


def test_nobody_brings_or_leaves_who_is_no_partner(app: Flask) -> None:
    with pytest.raises(NotFound, match="There is no partner 7"):
        accounts.bring(7, the_keys())
    with pytest.raises(NotFound, match="There is no partner 7"):
        accounts.leave(7)

    assert resting() == {}


def test_an_account_whose_keys_nobody_holds_is_denied(known: Accounts) -> None:
    with pytest.raises(ProviderDenied, match="there are no keys for the account 999999"):
        known.of("999999")


# Secrets


def test_keys_do_not_show_when_they_are_printed() -> None:
    keys = the_keys()
    unit = SalesUnit(keys.client_id, keys.client_secret, keys.subscription_key, keys.account)

    assert f"{keys!r} {keys}" == f"AccountKeys(account='{THEIRS}') AccountKeys(account='{THEIRS}')"
    assert f"{unit!r} {unit}" == f"SalesUnit({THEIRS}) SalesUnit({THEIRS})"


def test_keys_rest_encrypted(app: Flask) -> None:
    accounts.bring(a_partner().id, the_keys())
    a_registration()

    at_rest = resting()

    assert len(at_rest) == 3
    assert all(value.startswith("a1.") for value in at_rest.values())
    assert not [value for value in at_rest.values() if "secret" in value or "key" in value]


def test_all_secrets_are_encrypted_anew_and_then_the_older_key_can_go(known: Accounts) -> None:
    accounts.bring(a_partner().id, the_keys())
    a_registration()
    before = resting()

    set_encryption_keys(f"{NEW_SECRET}, {OLD_SECRET}")
    count = accounts.encrypt_anew()

    after = resting()
    assert count == 3
    assert all(after[place] != before[place] for place in before)
    set_encryption_keys(NEW_SECRET)
    with reading():
        row = db.session.get_one(ProviderAccount, THEIRS)
        registration = db.session.scalars(select(WebhookRegistration)).one()
        read = (row.client_secret, row.subscription_key, registration.secret)
    assert read == (f"client-secret-of-{THEIRS}", f"subscription-key-of-{THEIRS}", f"webhook-secret-of-{THEIRS}")
    set_encryption_keys(OLD_SECRET)
    with pytest.raises(Unreadable):
        known.of(THEIRS)


def test_what_was_encrypted_before_aes_gcm_is_read_and_encrypted_anew(known: Accounts) -> None:
    a_registration()
    accounts.bring(a_partner().id, the_keys())
    for place, plain in {
        "client_secret": f"client-secret-of-{THEIRS}",
        "subscription_key": f"subscription-key-of-{THEIRS}",
    }.items():
        with transaction():
            row = {"old": as_before(OLD_SECRET, plain.encode()).decode()}
            db.session.execute(text(f"UPDATE provider_accounts SET {place} = :old"), row)  # noqa: S608

    with reading():
        read = db.session.get_one(ProviderAccount, THEIRS)
        assert (read.client_secret, read.subscription_key) == (
            f"client-secret-of-{THEIRS}",
            f"subscription-key-of-{THEIRS}",
        )
    assert accounts.encrypt_anew() == 3
    assert all(value.startswith("a1.") for value in resting().values())
    assert known.of(THEIRS).account == THEIRS


def test_kept_answers_are_encrypted_anew_with_the_rest(known: Accounts) -> None:
    partner = a_partner()
    with transaction():
        for number in range(1203):
            body = b"answer" if number % 3 else None
            kept = {"partner_id": partner.id, "key": str(number), "digest": b"d", "fence": 1, "created_at": utc_now()}
            db.session.add(IdempotencyKey(**kept, status=200, content_type="a/b", body=body))

    set_encryption_keys(f"{NEW_SECRET},{OLD_SECRET}")
    count = accounts.encrypt_anew()

    set_encryption_keys(NEW_SECRET)
    with reading():
        bodies = [row.body for row in db.session.scalars(select(IdempotencyKey).order_by(IdempotencyKey.id))]
    assert count == 802
    assert bodies == [b"answer" if number % 3 else None for number in range(1203)]


def test_secrets_are_read_with_either_key_and_written_with_the_newest(known: Accounts) -> None:
    partner = a_partner()
    accounts.bring(partner.id, the_keys())

    set_encryption_keys(f"{NEW_SECRET},{OLD_SECRET}")
    assert known.of(THEIRS).account == THEIRS
    accounts.bring(partner.id, the_keys(client_secret="new", subscription_key="new as well"))

    set_encryption_keys(NEW_SECRET)
    with reading():
        row = db.session.get_one(ProviderAccount, THEIRS)
        assert (row.client_secret, row.subscription_key) == ("new", "new as well")


def test_encrypting_anew_connects_nobody_anew(known: Accounts, connections: Connections, time: StandingClock) -> None:
    accounts.bring(a_partner().id, the_keys())
    known.of(THEIRS)
    time.move(seconds=1)

    accounts.encrypt_anew()
    known.of(THEIRS)

    assert len(connections.made_for) == 1


def test_encrypting_anew_without_any_secret_is_nothing(app: Flask) -> None:
    assert accounts.encrypt_anew() == 0


# What was signed under an account


def signed_under_theirs(services: Services, theirs: Unit, *, number: int = 10295) -> int:
    """Return the number of an active subscription of a partner that has brought its own account."""
    partner = a_partner(number)
    accounts.bring(partner.id, the_keys())
    subscription_id = services.subscriptions.request(partner, a_wish()).subscription_id
    theirs.accept(theirs.newest())
    services.consents.refresh(newest_agreement(subscription_id).id)
    return subscription_id


def test_a_partners_agreement_is_asked_for_under_its_own_account(services: Services, own: Unit, theirs: Unit) -> None:
    number = signed_under_theirs(services, theirs)

    assert subscription(number).status == SubscriptionStatus.ACTIVE
    assert newest_agreement(number).account == THEIRS
    assert theirs.calls[0] == "draft"
    assert own.calls == []


def test_a_subscription_stays_under_its_account_after_its_partner_has_left(
    services: Services, own: Unit, theirs: Unit, time: StandingClock
) -> None:
    number = signed_under_theirs(services, theirs)
    jobs = Jobs(services)
    accounts.leave(10295)

    # Charged: the next period is created there, and found paid there.
    for _ in range(45):
        time.move(days=1)
        settle(jobs)
    renewal = charges(number)[1]
    assert (renewal.status, theirs.charge(renewal.name).status) == (ChargeStatus.SUBMITTED,) * 2
    theirs.settle_charge(renewal.name, ChargeStatus.CHARGED)
    services.charges.refresh(renewal.id)
    assert charges(number)[1].status == ChargeStatus.CHARGED

    # Paid back in part.
    services.refunds.refund(renewal.id, 500, "a kindness")
    settle(jobs)
    assert [(name, amount) for name, amount, _ in theirs.refunds] == [(renewal.name, 500)]

    # Stopped.
    services.subscriptions.cancel(number)
    settle(jobs)
    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert theirs.agreements[theirs.newest()].view.status == AgreementStatus.STOPPED

    assert {"draft", "create", "refund", "stop"} <= set(theirs.calls)
    assert set(own.calls) <= UPKEEP


def test_what_is_captured_and_called_off_is_so_under_its_account(
    services: Services, own: Unit, theirs: Unit, time: StandingClock
) -> None:
    number = signed_under_theirs(services, theirs)
    jobs = Jobs(services)
    accounts.leave(10295)
    for _ in range(28):
        time.move(days=1)
        settle(jobs)
    renewal = charges(number)[1]
    with transaction():
        db.session.execute(update(Charge).where(Charge.id == renewal.id).values(is_reserved=True))
    theirs.settle_charge(renewal.name, ChargeStatus.RESERVED)
    services.charges.refresh(renewal.id)

    services.captures.capture(renewal.id, 500)
    settle(jobs)
    services.cancels.cancel(renewal.id)
    settle(jobs)

    assert [(name, amount) for name, amount, _ in theirs.captures] == [(renewal.name, 500)]
    assert "cancel_charge" in theirs.calls
    assert set(own.calls) <= UPKEEP


def test_after_leaving_the_next_agreement_is_the_platforms(services: Services, own: Unit, theirs: Unit) -> None:
    first = signed_under_theirs(services, theirs)
    accounts.leave(10295)

    second = services.subscriptions.request(a_partner(10296), a_wish()).subscription_id

    assert (newest_agreement(first).account, newest_agreement(second).account) == (THEIRS, OWN)
    assert (own.calls, theirs.calls.count("draft")) == (["draft"], 1)


def test_an_attempt_after_the_move_is_asked_for_under_the_account_of_that_moment(
    services: Services, own: Unit, theirs: Unit, time: StandingClock
) -> None:
    partner = a_partner()
    number = services.subscriptions.request(partner, a_wish()).subscription_id
    accounts.bring(partner.id, the_keys())
    time.move(minutes=11)

    services.consents.open(subscription(number).link_token)

    assert [a.account for a in agreements(number)] == [OWN, THEIRS]
    own.accept(own.newest())
    services.consents.refresh(agreements(number)[0].id)
    assert subscription(number).status == SubscriptionStatus.ACTIVE
    assert [a.is_adopted for a in agreements(number)] == [True, False]


def test_one_market_of_two_accounts_is_charged_in_two_batches(
    services: Services, own: Unit, theirs: Unit, time: StandingClock
) -> None:
    first = signed_under_theirs(services, theirs)
    second = services.subscriptions.request(a_partner(10296), a_wish()).subscription_id
    own.accept(own.newest())
    services.consents.refresh(newest_agreement(second).id)
    jobs = Jobs(services)

    for _ in range(28):
        time.move(days=1)
        settle(jobs)

    sent = {unit.account: [c["name"] for _, body in unit.batches for c in json.loads(body)] for unit in (own, theirs)}
    assert sent == {OWN: [charges(second)[1].name], THEIRS: [charges(first)[1].name]}


def test_keys_that_are_gone_keep_a_stop_waiting_and_nobody_elses(
    services: Services, own: Unit, theirs: Unit, time: StandingClock
) -> None:
    number = signed_under_theirs(services, theirs)
    with transaction():
        db.session.execute(update(Partner).values(account=None))
        db.session.delete(db.session.get_one(ProviderAccount, THEIRS))
    jobs = Jobs(services)

    services.subscriptions.cancel(number)
    for _ in range(3):
        time.move(hours=1)
        settle(jobs)
    assert subscription(number).status == SubscriptionStatus.CANCELLING

    accounts.bring(10295, the_keys())
    time.move(hours=1)
    settle(jobs)
    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert "stop" not in own.calls


def test_each_account_has_a_registration_of_its_own(services: Services, own: Unit, theirs: Unit) -> None:
    accounts.bring(a_partner().id, the_keys())

    assert services.webhooks.ensure() == 2
    assert services.webhooks.ensure() == 0

    with reading():
        rows = db.session.scalars(select(WebhookRegistration).order_by(WebhookRegistration.account)).all()
        assert [row.account for row in rows] == [OWN, THEIRS]
        assert rows[0].url != rows[1].url
    assert len(own.webhooks) == len(theirs.webhooks) == 1


def test_an_account_whose_registration_fails_keeps_no_other_from_its_own(
    services: Services, own: Unit, theirs: Unit
) -> None:
    accounts.bring(a_partner().id, the_keys())
    own.faults.before("list_webhooks", ProviderDenied("keys"))

    with pytest.raises(ProviderDenied):
        services.webhooks.ensure()

    assert len(theirs.webhooks) == 1


# What another account says


def ring_of(number: int, *, charge: bool = False, account: str | None = None) -> bytes:
    """Return a webhook about a subscription, in the fake provider's own shape."""
    agreement = newest_agreement(number)
    name = charges(number)[0].name if charge else None
    told = {
        "agreement_id": agreement.provider_agreement_id,
        "external_id": subscription(number).ulid,
        "charge_name": name,
    }
    return json.dumps({**told, "account": account}).encode()


def looks(number: int) -> tuple[object, object]:
    """When the subscription's agreement and its first charge are looked at next."""
    return newest_agreement(number).check_at, charges(number)[0].check_at


def is_read() -> list[bool]:
    with reading():
        return [at is not None for at in db.session.scalars(select(InboundEvent.read_at).order_by(InboundEvent.id))]


@pytest.mark.parametrize("charge", [False, True])
@pytest.mark.parametrize("says", [None, OWN, THEIRS])
def test_a_webhook_by_another_accounts_registration_rings_nothing(
    services: Services, theirs: Unit, says: str | None, charge: bool
) -> None:
    number = signed_under_theirs(services, theirs)
    before = looks(number)

    services.inbox.take_webhook(ring_of(number, charge=charge, account=says), OWN)

    assert looks(number) == before
    assert is_read() == [False]


@pytest.mark.parametrize("charge", [False, True])
def test_a_webhook_that_says_another_account_than_its_registration_rings_nothing(
    services: Services, theirs: Unit, charge: bool
) -> None:
    number = signed_under_theirs(services, theirs)
    before = looks(number)

    services.inbox.take_webhook(ring_of(number, charge=charge, account=OWN), THEIRS)

    assert looks(number) == before
    assert is_read() == [False]


@pytest.mark.parametrize("charge", [False, True])
@pytest.mark.parametrize("says", [None, THEIRS])
def test_a_webhook_by_its_own_accounts_registration_rings(
    services: Services, theirs: Unit, time: StandingClock, says: str | None, charge: bool
) -> None:
    number = signed_under_theirs(services, theirs)
    time.move(seconds=30)

    services.inbox.take_webhook(ring_of(number, charge=charge, account=says), THEIRS)

    assert looks(number)[charge] == utc_now()
    assert is_read() == [True]


def test_the_same_bytes_by_two_registrations_are_two_webhooks(services: Services, theirs: Unit) -> None:
    number = signed_under_theirs(services, theirs)
    body = ring_of(number)

    for account in (OWN, THEIRS, OWN):
        services.inbox.take_webhook(body, account)

    assert is_read() == [False, True]


def test_another_account_cannot_slip_an_agreement_under_a_subscription(
    services: Services, own: Unit, theirs: Unit, time: StandingClock
) -> None:
    number = signed_under_theirs(services, theirs)
    ring = {"agreement_id": "agr_of_a_stranger", "external_id": subscription(number).ulid, "charge_name": None}
    services.inbox.take_webhook(json.dumps(ring).encode(), OWN)

    jobs = Jobs(services)
    for _ in range(10):
        time.move(minutes=1)
        settle(jobs)

    assert len(agreements(number)) == 1
    assert is_read() == [False]
    assert "find_agreement" not in own.calls


def lose(*numbers: int) -> None:
    """Make the answers of the newest drafts of these subscriptions ones that never came."""
    for number in numbers:
        agreement_id = newest_agreement(number).id
        with bending():
            agreement = db.session.get_one(Agreement, agreement_id)
            agreement.status, agreement.provider_agreement_id = AgreementStatus.LOST, None


def test_a_lost_draft_is_looked_for_under_its_account_alone(services: Services, own: Unit, theirs: Unit) -> None:
    partner = a_partner()
    accounts.bring(partner.id, the_keys())
    number = services.subscriptions.request(partner, a_wish()).subscription_id
    lose(number)
    theirs.accept(theirs.newest())
    accounts.leave(partner.id)

    assert services.sweep.sweep() == 1

    assert [a.account for a in agreements(number)] == [THEIRS, THEIRS]
    assert "list_agreements" in theirs.calls
    assert own.calls == []


@pytest.mark.parametrize("sick", [OWN, THEIRS])
def test_an_account_that_cannot_be_swept_keeps_no_other_from_being_swept(
    services: Services, own: Unit, theirs: Unit, sick: str
) -> None:
    first, second = a_partner(10295), a_partner(10296)
    accounts.bring(first.id, the_keys())
    numbers = {
        THEIRS: services.subscriptions.request(first, a_wish()).subscription_id,
        OWN: services.subscriptions.request(second, a_wish()).subscription_id,
    }
    lose(*numbers.values())
    units = {OWN: own, THEIRS: theirs}
    for unit in units.values():
        unit.accept(unit.newest())
    units[sick].faults.before("list_agreements", ProviderDenied("keys"))

    with pytest.raises(ProviderDenied):
        services.sweep.sweep()

    assert {account: len(agreements(number)) for account, number in numbers.items()} == {
        account: 1 if account == sick else 2 for account in units
    }


def test_an_account_that_says_no_keeps_no_look_at_another_waiting(
    services: Services, own: Unit, theirs: Unit, time: StandingClock
) -> None:
    partner = a_partner(10295)
    accounts.bring(partner.id, the_keys())
    for _ in range(3):
        services.subscriptions.request(partner, a_wish())
    waiting = services.subscriptions.request(a_partner(10296), a_wish()).subscription_id
    own.accept(own.newest())
    jobs = Jobs(services)

    for _ in range(60):
        time.move(minutes=2)
        theirs.faults.before("find_agreement", *[ProviderDenied("keys")] * 3)
        settle(jobs)

    assert subscription(waiting).status == SubscriptionStatus.ACTIVE
