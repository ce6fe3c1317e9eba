"""Partners and their secrets: what can be had, how long it works, and what is never shown or stored in plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from invoice.errors import Conflict, Invalid, NotFound, Unauthenticated
from invoice.lifecycle import ContractMode, SecretKind
from invoice.services import credentials, partners, views
from invoice.services.accounts import encrypt_anew
from invoice.services.credentials import KEYS, Password
from invoice.services.jobs import Jobs, Services
from invoice.services.partners import MAX_ID, PartnerView, Terms
from invoice.store.db import db, reading, set_encryption_keys
from tests.conftest import StandingClock, environ_for
from tests.factories import a_partner, a_wish, an_active_subscription, charges, settle
from tests.fakes import FakePayments
from tests.services.test_races import together

BROUGHT = "TXlTZWNyZXRLZXk="


def opens(secret: str, number: int = 10295) -> bool:
    try:
        credentials.verify(Password(number, secret))
    except Unauthenticated:
        return False
    return True


def stored() -> str:
    """Return all that the database holds about secrets."""
    with reading():
        return str(db.session.execute(text("SELECT * FROM partner_secrets")).all())


# Terms


def test_a_partner_has_what_it_was_given(app: Flask):
    partners.add(7, "Avisen", market="DK", sms_originator="Avisen", contract_mode="strict", request_limit=60)

    assert partners.get(7) == PartnerView(7, "Avisen", "DK", "Avisen", ContractMode.STRICT, 60)


def test_a_partner_has_defaults_for_the_rest(app: Flask):
    partners.add(7, "Avisen", sms_originator="2119")

    assert partners.get(7) == PartnerView(7, "Avisen", "NO", "2119", ContractMode.FIXED, 600)


def test_terms_that_are_not_named_stay(app: Flask):
    partners.add(7, "Avisen", sms_originator="2119", request_limit=60)

    changed = partners.change(7, Terms(name="Bladet", contract_mode="strict"))

    assert changed == partners.get(7) == PartnerView(7, "Bladet", "NO", "2119", ContractMode.STRICT, 60)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"market": "SE"}, "market"),
        ({"sms_originator": "A very long name"}, "originator"),
        ({"sms_originator": ""}, "originator"),
        ({"contract_mode": "loose"}, "contractMode"),
        ({"request_limit": 0}, "requestLimit"),
        ({"request_limit": 1_000_001}, "requestLimit"),
    ],
)
def test_a_wrong_term_is_named_and_changes_nothing(app: Flask, wrong: dict[str, Any], field: str):
    before = a_partner()

    with pytest.raises(Invalid) as changing:
        partners.change(10295, Terms(**wrong))
    with pytest.raises(Invalid) as adding:
        partners.add(8, **{"name": "Avisen", "sms_originator": "2119", **wrong})

    assert list(changing.value.errors) == list(adding.value.errors) == [field]
    assert partners.list_all() == [before]


@pytest.mark.parametrize("number", [0, -1, MAX_ID + 1])
def test_a_number_that_no_partner_can_have_is_refused(app: Flask, number: int):
    with pytest.raises(Invalid):
        partners.add(number, "Avisen", sms_originator="2119")


def test_a_number_is_given_once(app: Flask):
    a_partner()

    with pytest.raises(Conflict):
        a_partner()


def test_the_market_stays_once_there_are_subscriptions(services: Services):
    a_partner()
    assert partners.change(10295, Terms(market="DK")).market == "DK"
    partners.change(10295, Terms(market="NO"))
    services.subscriptions.request(partners.get(10295), a_wish())

    with pytest.raises(Conflict):
        partners.change(10295, Terms(market="DK"))
    assert partners.change(10295, Terms(market="NO", request_limit=5)).request_limit == 5


@pytest.mark.parametrize(
    "act",
    [
        partners.get,
        partners.rotate,
        partners.suspend,
        partners.resume,
        partners.add_key,
        partners.turn_hmac_on,
        partners.turn_hmac_off,
        lambda number: partners.revoke_key(number, 1),
        lambda number: partners.change(number, Terms()),
    ],
)
def test_an_unknown_partner_is_said_to_be_unknown(app: Flask, act: Callable[[int], object]):
    a_partner()

    with pytest.raises(NotFound, match="There is no partner 99"):
        act(99)


# Secrets


def test_a_secret_works_until_the_rotation_after_the_next(app: Flask):
    first = partners.add(10295, "Avisen", sms_originator="2119")
    second = partners.rotate(10295)
    assert (opens(first), opens(second)) == (True, True)

    third = partners.rotate(10295)

    assert (opens(first), opens(second), opens(third)) == (False, True, True)


def test_two_keys_live_at_once_and_a_third_must_wait(app: Flask):
    a_partner()
    first, second = partners.add_key(10295), partners.add_key(10295)

    with pytest.raises(Conflict, match="revoke one first"):
        partners.add_key(10295)

    partners.revoke_key(10295, keys()[0])
    third = partners.add_key(10295)
    assert (opens(first), opens(second), opens(third)) == (False, True, True)


def test_keys_and_secrets_do_not_count_for_each_other(app: Flask):
    a_partner()
    key, signing = partners.add_key(10295), partners.turn_hmac_on(10295, takes_short=True)
    for _ in range(3):
        partners.rotate(10295)

    assert opens(key)
    assert not opens(signing)
    assert [s.kind for s in partners.secrets_of(10295)].count(SecretKind.HMAC) == 1


def test_a_partner_revokes_its_own_keys_only(app: Flask):
    a_partner()
    a_partner(20000)
    key = partners.add_key(20000)
    [number] = keys(20000)
    [password] = [s.id for s in partners.secrets_of(20000) if s.kind == SecretKind.PASSWORD]

    for owner, wrong in ((10295, number), (20000, password), (20000, 999)):
        with pytest.raises(NotFound):
            partners.revoke_key(owner, wrong)

    assert opens(key, 20000)


def test_racing_for_the_last_place_leaves_two_keys(app: Flask):
    a_partner()

    def add() -> str:
        try:
            partners.add_key(10295)
        except Conflict:
            return "refused"
        return "added"

    assert sorted(map(str, together(app, *[add] * 6))) == ["added"] * 2 + ["refused"] * 4


def test_only_the_key_that_was_given_the_right_may_see_the_token(app: Flask):
    a_partner()
    plain, privileged = partners.add_key(10295), partners.add_key(10295, may_see_token=True)

    rights = [
        credentials.verify(Password(10295, secret)).may_see_token
        for secret in (plain, privileged, "a-partner-secret-10295")
    ]

    assert rights == [False, True, False]
    assert credentials.verify(Password(10295, privileged, KEYS)).may_see_token


def test_no_secret_is_stored_as_it_is(app: Flask):
    secrets = [
        partners.add(7, "Avisen", sms_originator="2119"),
        partners.rotate(7),
        partners.add_key(7),
        partners.turn_hmac_on(7, takes_short=True),
        partners.turn_hmac_on(7, secret=BROUGHT),
    ]

    assert [secret for secret in secrets if secret in stored()] == []


def test_two_partners_may_bring_the_same_signing_secret(app: Flask):
    a_partner()
    a_partner(20000)

    assert (
        partners.turn_hmac_on(10295, takes_short=True, secret=BROUGHT)
        == partners.turn_hmac_on(20000, secret=BROUGHT)
        == BROUGHT
    )


@pytest.mark.parametrize("secret", ["x", "not base64!", "TXlT", "A" * 504, "ø" * 16])
def test_what_cannot_sign_is_refused(app: Flask, secret: str):
    a_partner()

    with pytest.raises(Invalid):
        partners.turn_hmac_on(10295, secret=secret)

    assert [s.kind for s in partners.secrets_of(10295)] == [SecretKind.PASSWORD]


def test_a_signing_secret_lives_until_the_one_after_the_next(app: Flask):
    a_partner()
    for takes_short in (True, False, True):
        partners.turn_hmac_on(10295, takes_short=takes_short)

    kinds = [s.kind for s in partners.secrets_of(10295)]

    assert kinds == [SecretKind.PASSWORD, SecretKind.HMAC_FULL, SecretKind.HMAC]


def test_signing_secrets_are_encrypted_anew_with_the_rest(app: Flask):
    a_partner()
    partners.turn_hmac_on(10295, takes_short=True, secret=BROUGHT)
    before, old = stored(), environ_for("")["INVOICE_SECRET_KEY"]
    set_encryption_keys(f"another-secret-key-that-is-long-enough,{old}")

    encrypt_anew()

    set_encryption_keys("another-secret-key-that-is-long-enough")
    assert stored() != before
    with reading():
        assert [s.hmac_secret for s in _rows() if s.hmac_secret] == [BROUGHT]
    set_encryption_keys(old)


# Suspended


def test_nothing_of_a_suspended_partner_is_sent_to_be_charged(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    partners.suspend(10295)

    for _ in range(40):
        time.move(days=1)
        settle(jobs)
    assert [c.period for c in charges(number) if c.sends] == []

    partners.resume(10295)
    settle(jobs)
    assert [c.period for c in charges(number) if c.sends] == [1]


def test_nobody_is_led_to_vipps_for_a_suspended_partner(
    services: Services, payments: FakePayments, time: StandingClock
):
    a_partner()
    services.subscriptions.request(partners.get(10295), a_wish())
    [token] = _tokens()
    partners.suspend(10295)

    closed, address = services.consents.open(token), views.offer_of(10295, token).fresh_url
    time.move(minutes=5)
    later = services.consents.open(token)
    partners.resume(10295)

    assert address is None
    assert (closed.url, closed.notice) == (later.url, later.notice) == (None, "refused")
    assert payments.calls.count("draft") == 1
    assert services.consents.open(token).url is not None


def test_a_second_suspension_keeps_the_first_date(app: Flask, time: StandingClock):
    a_partner()
    partners.suspend(10295)
    time.move(days=1)
    partners.suspend(10295)

    with reading():
        [at] = db.session.execute(text("SELECT suspended_at FROM partners")).scalars()
    assert "2026-11-10" in str(at)


def keys(number: int = 10295) -> list[int]:
    return [s.id for s in partners.secrets_of(number) if s.kind == SecretKind.KEY]


def _rows() -> list[Any]:
    from invoice.store.models import PartnerSecret  # noqa: PLC0415

    return list(db.session.query(PartnerSecret))


def _tokens() -> list[str]:
    with reading():
        return list(db.session.execute(text("SELECT link_token FROM subscriptions")).scalars())
