"""`flask partner`: what an operator types, and what is shown once only."""

from __future__ import annotations

import pytest
from click.testing import Result
from flask import Flask

from invoice.cli.partners import partner
from invoice.errors import Unauthenticated
from invoice.lifecycle import ContractMode
from invoice.providers.guard import Guard
from invoice.services import credentials, partners
from invoice.services.credentials import KEYS, Password
from tests.conftest import StandingClock

ADD = ("add", "7", "--name", "Avisen", "--originator", "2119")


def run(app: Flask, *words: str, typed: str | None = None) -> Result:
    return app.test_cli_runner().invoke(partner, list(words), input=typed)


def told(app: Flask, *words: str, typed: str | None = None) -> str:
    result = run(app, *words, typed=typed)
    assert result.exit_code == 0, result.output
    return result.output


def test_add_prints_the_secret_once(app: Flask):
    secret = told(app, *ADD).removeprefix("partner 7 secret ").strip()

    assert credentials.verify(Password(7, secret)).name == "Avisen"
    assert secret not in told(app, "show", "7")


def test_a_partner_can_be_added_with_everything(app: Flask, time: StandingClock):
    terms = ("--market", "DK", "--contract-mode", "strict", "--request-limit", "60")
    texts = ("--language", "sv", "--sms-text", "Tryck: {{url}}", "--sms-limit", "5")

    told(app, *ADD, *terms, *texts)

    assert told(app, "show", "7").splitlines() == [
        "partner\t7",
        "name\tAvisen",
        "state\tactive",
        "market\tDK",
        "originator\t2119",
        "contract mode\tstrict",
        "request limit\t60 a minute",
        "language\tsv",
        "SMS text\tTryck: {{url}}",
        "SMS limit\t5 in 24 hours",
        "PASSWORD 1\tsince 2026-11-10 11:00 UTC",
    ]


def test_set_changes_what_is_named_and_shows_the_rest(app: Flask):
    told(app, *ADD)

    shown = told(app, "set", "7", "--name", "Bladet", "--originator", "Bladet", "--contract-mode", "strict")

    assert "name\tBladet\n" in shown
    assert "request limit\t600 a minute\n" in shown
    assert partners.get(7).contract_mode == ContractMode.STRICT


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "7", "--market", "SE"), "market must be one of NO, DK, FI."),
        (("set", "7", "--name", ""), "name must be"),
        (("set", "7", "--originator", "far too long a name"), "originator must be"),
        (("set", "7", "--contract-mode", "loose"), "'loose' is not one of 'fixed', 'strict'"),
        (("set", "7", "--request-limit", "0"), "0 is not in the range"),
        (("add", "0", "--name", "A", "--originator", "2119"), "id must be from 1"),
        (ADD, "Partner 7 exists already."),
        (("show", "8"), "There is no partner 8."),
        (("rotate", "8"), "There is no partner 8."),
        (("suspend", "8"), "There is no partner 8."),
        (("resume", "8"), "There is no partner 8."),
        (("key", "add", "8"), "There is no partner 8."),
        (("key", "revoke", "7", "99"), "Partner 7 has no living key 99."),
        (("hmac", "on", "8"), "There is no partner 8."),
        (("hmac", "off", "8"), "There is no partner 8."),
        (("show", "x"), "'x' is not a valid integer"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(app: Flask, words: tuple[str, ...], said: str):
    told(app, *ADD)

    result = run(app, *words)

    assert result.exit_code in (1, 2)
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_suspended_partner_is_listed_as_such(app: Flask):
    told(app, *ADD)
    assert told(app, "list") == "7\tNO\t2119\tAvisen\n"

    assert told(app, "suspend", "7") == "partner 7 is suspended.\n"
    assert told(app, "list") == "7\tNO\t2119\tAvisen\tsuspended\n"
    assert "state\tsuspended\n" in told(app, "show", "7")

    assert told(app, "resume", "7") == "partner 7 may ask again.\n"
    assert told(app, "list") == "7\tNO\t2119\tAvisen\n"


def test_keys_are_added_shown_by_number_and_revoked(app: Flask, time: StandingClock):
    told(app, *ADD)
    plain = told(app, "key", "add", "7").removeprefix("partner 7 key ").strip()
    seeing = told(app, "key", "add", "7", "--may-see-token").removeprefix("partner 7 key ").strip()

    assert credentials.verify(Password(7, seeing, KEYS)).may_see_token
    assert not credentials.verify(Password(7, plain, KEYS)).may_see_token
    assert told(app, "show", "7").splitlines()[-2:] == [
        "KEY 2\tsince 2026-11-10 11:00 UTC",
        "KEY 3\tsince 2026-11-10 11:00 UTC\tmay see the token",
    ]
    assert "has 2 keys already: revoke one first" in run(app, "key", "add", "7").output

    assert told(app, "key", "revoke", "7", "2") == "partner 7: key 2 is revoked.\n"
    with pytest.raises(Unauthenticated):
        credentials.verify(Password(7, plain, KEYS))


def test_signing_is_turned_on_and_off(app: Flask):
    told(app, *ADD)

    secret = told(app, "hmac", "on", "7").removeprefix("partner 7 hmac ").strip()

    assert len(secret) == 44
    assert "HMAC_FULL 2\t" in told(app, "show", "7")
    assert told(app, "hmac", "off", "7") == "partner 7: signatures are not taken any more.\n"
    assert "HMAC" not in told(app, "show", "7")


def test_the_short_signature_is_asked_for_by_name(app: Flask):
    told(app, *ADD)

    first = told(app, "hmac", "on", "7", "--short")
    second = told(app, "hmac", "on", "7", "--full-only")

    assert ("see --short" in first, "see --short" in second) == (False, True)
    shown = told(app, "show", "7")
    assert "HMAC 2\t" in shown
    assert "HMAC_FULL 3\t" in shown
    assert run(app, "hmac", "on", "7", "--short", "--full-only").exit_code == 2


def test_a_secret_that_a_partner_brings_is_asked_for_and_not_shown(app: Flask):
    told(app, *ADD)

    shown = told(app, "hmac", "on", "7", "--bring", typed="TXlTZWNyZXRLZXk=\n")

    assert "TXlT" not in shown
    assert "partner 7 signs with the secret it has." in shown
    assert "base64" in run(app, "hmac", "on", "7", "--bring", typed="hardly\n").output


def test_the_help_leads_to_the_partners_own_vipps_keys(app: Flask):
    assert "flask vipps keys set NUMBER" in run(app, "--help").output


def test_what_was_said_of_texts_can_be_taken_back(app: Flask):
    told(app, *ADD, "--language", "sv", "--sms-text", "Tryck: {{url}}", "--sms-limit", "5")

    shown = told(app, "set", "7", "--language", "", "--sms-text", "", "--sms-limit", "-1")

    assert "language\tthe market's\nSMS text\tours\nSMS limit\tas the settings say\n" in shown


@pytest.mark.parametrize("term", [("--language", "de"), ("--sms-limit", "-2"), ("--sms-text", "x" * 1001)])
def test_wrong_terms_of_texts_are_refused(app: Flask, term: tuple[str, str]):
    told(app, *ADD)

    assert run(app, "set", "7", *term).exit_code != 0
    assert (partners.get(7).language, partners.get(7).sms_limit, partners.get(7).sms_text) == (None, None, None)


def test_an_endpoint_is_set_rotated_and_removed(app: Flask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Guard, "addresses", lambda *_: [])  # no name is looked up
    told(app, *ADD)

    secret = told(app, "endpoint", "set", "7", "https://hooks.example.com/mine")
    moved = told(app, "endpoint", "set", "7", "https://hooks.example.com/other")
    rotated = told(app, "endpoint", "rotate", "7")

    assert secret.startswith("partner 7 endpoint secret whsec_")
    assert moved == "partner 7: changed.\n"
    assert rotated.startswith("partner 7 endpoint secret whsec_")
    assert rotated != secret
    shown = told(app, "show", "7")
    assert "endpoint\thttps://hooks.example.com/other\n" in shown
    assert "whsec_" not in shown
    told(app, "endpoint", "remove", "7")
    assert "endpoint\t" not in told(app, "show", "7")


@pytest.mark.parametrize("words", [("set", "https://127.0.0.1/x"), ("rotate",), ("remove",)])
def test_an_endpoint_that_cannot_be_is_told_in_a_sentence(app: Flask, words: tuple[str, ...]):
    told(app, *ADD)

    result = run(app, "endpoint", words[0], "7", *words[1:])

    assert (result.exit_code, result.output.startswith("Error: ")) == (1, True)
