"""Names that we give: they sort, they cannot be guessed, and a charge's name can be read back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoice.names import charge_name, idempotency_key, new_guid, new_secret, new_token, new_ulid
from invoice.phone import segments
from tests.conftest import StandingClock

ULID = "01JD3W8Q0Z000000000000000A"


def test_an_id_has_26_characters_of_crockfords_alphabet(time: StandingClock) -> None:
    assert re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", new_ulid())


def test_ids_sort_by_the_time_of_their_making(time: StandingClock) -> None:
    made = []
    for _ in range(50):
        made.append(new_ulid())
        time.move(milliseconds=1)

    assert made == sorted(made)


def test_an_id_tells_the_millisecond_of_its_making(time: StandingClock) -> None:
    digits = {sign: value for value, sign in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}

    told = 0
    for sign in new_ulid()[:10]:
        told = told * 32 + digits[sign]

    assert told == time.at.timestamp() * 1000


def test_ids_of_one_moment_differ(time: StandingClock) -> None:
    assert len({new_ulid() for _ in range(1000)}) == 1000


def test_a_link_token_is_22_characters_that_fit_a_plain_text() -> None:
    token = new_token()

    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", token)
    assert segments(token * 7) == 1


def test_a_secret_holds_256_bits() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", new_secret())


@pytest.mark.parametrize("make", [new_token, new_secret, new_guid])
def test_random_names_differ(make: object) -> None:
    assert callable(make)
    assert len({make() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("period", "attempt", "name"),
    [(0, 0, f"{ULID}-p0000-a0"), (12, 3, f"{ULID}-p0012-a3"), (12345, 10, f"{ULID}-p12345-a10")],
)
def test_a_charge_is_named_after_its_subscription_period_and_attempt(period: int, attempt: int, name: str) -> None:
    assert charge_name(ULID, period, attempt) == name


@given(st.integers(0, 10**6), st.integers(0, 10**4))
def test_a_charge_name_is_one_that_vipps_takes(period: int, attempt: int) -> None:
    assert re.fullmatch(r"[A-Za-z0-9-]{8,64}", charge_name(ULID, period, attempt))


@given(st.text(), st.sampled_from(["draft", "charge", "refund", "stop"]), st.text())
def test_the_same_body_has_the_same_key_as_vipps_takes_it(name: str, verb: str, body: str) -> None:
    key = idempotency_key(name, verb, body)

    assert key == idempotency_key(name, verb, body)
    assert re.fullmatch(r"[0-9a-f-]{36}", key)


def test_another_name_verb_or_body_has_another_key() -> None:
    keys = {
        idempotency_key(name, verb, body) for name in ("a", "b") for verb in ("draft", "stop") for body in ("", "{}")
    }

    assert len(keys) == 8


def test_a_key_does_not_change_between_releases() -> None:
    assert idempotency_key("name", "verb", "body") == "8b93a975-3ba6-55c7-8893-c7680f9e51fc"
