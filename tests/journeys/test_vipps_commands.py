"""`flask vipps` before the stand-in: what an operator sees when all is well, and when something is not."""

from __future__ import annotations

from click.testing import Result

from invoice.cli.vipps import vipps
from invoice.simulator.accounts import DEMO_UNIT
from invoice.store.db import db, transaction
from tests.journeys.stand import PARTNER, Stand, a_stand  # noqa: F401 - a fixture

MSN = DEMO_UNIT.merchant_serial_number


def run(stand: Stand, *words: str, typed: str | None = None) -> Result:
    return stand.app.test_cli_runner().invoke(vipps, list(words), input=typed)


def test_the_doctor_finds_everything_in_order_but_the_missing_https(stand: Stand):
    stand.active()

    result = run(stand, "doctor")

    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"sales unit {MSN}"
    assert [line.split(":")[0].split() for line in lines[1:]] == [
        ["ok", "keys"],
        ["ok", "recurring"],
        ["ok", "webhooks"],
        ["ok", "clock"],
        ["weak", "public", "address"],
    ]


def test_the_doctor_says_that_no_webhook_has_come_yet(stand: Stand):
    assert "weak webhooks: registered, and none has come yet" in run(stand, "doctor").output


def test_the_doctor_says_what_is_wrong_with_the_keys_and_ends_with_1(stand: Stand):
    run(stand, "keys", "set", str(PARTNER), "--msn", "654321", "--client-id", "nobody", typed="wrong\nwrong\n")

    result = run(stand, "doctor")

    assert result.exit_code == 1
    assert "BAD  keys: Vipps refused our keys (401" in result.output.split("sales unit 654321")[1]
    assert "wrong" not in result.output


def test_the_doctor_misses_a_registration_that_vipps_has_deleted(stand: Stand):
    for webhook in stand.services.accounts.own.list_webhooks():
        stand.services.accounts.own.delete_webhook(webhook.webhook_id)

    assert "BAD  webhooks: none is registered" in run(stand, "doctor").output
    assert run(stand, "webhooks", "check").exit_code == 1


def test_a_registration_that_is_gone_is_made_anew(stand: Stand):
    assert run(stand, "webhooks", "register").output == "Everything was in place.\n"
    for webhook in stand.services.accounts.own.list_webhooks():
        stand.services.accounts.own.delete_webhook(webhook.webhook_id)

    made = run(stand, "webhooks", "register")

    assert made.output == "1 changed.\n"
    assert run(stand, "webhooks", "check").output.startswith(f"{MSN}\talive\t")
    [listed] = run(stand, "webhooks", "list").output.splitlines()
    assert listed.startswith(f"{MSN}\t")
    assert stand.service in listed


def test_a_partners_keys_are_asked_for_stored_encrypted_and_dropped(stand: Stand):
    typed = "client\nhush-hush\nquiet-quiet\n"

    told = run(stand, "keys", "set", str(PARTNER), "--msn", "654321", typed=typed).output

    assert "hush" not in told  # what is typed as a secret is not shown
    assert f"partner {PARTNER} uses sales unit 654321." in told
    raw = _stored()
    assert raw is not None
    assert "hush" not in raw
    assert run(stand, "keys", "drop", str(PARTNER)).output == f"partner {PARTNER} uses the platform's sales unit.\n"


def test_an_unknown_partner_and_a_wrong_serial_number_are_said_in_a_sentence(stand: Stand):
    keys = ("--client-id", "c", "--client-secret", "s", "--subscription-key", "k")

    unknown = run(stand, "keys", "set", "99", "--msn", "654321", *keys)
    wrong = run(stand, "keys", "set", str(PARTNER), "--msn", "12x", *keys)

    assert (unknown.exit_code, unknown.output) == (1, "Error: There is no partner 99.\n")
    assert (wrong.exit_code, wrong.output) == (1, "Error: --msn must be 4 to 10 digits.\n")


def test_stored_secrets_are_encrypted_anew(stand: Stand):
    before = _secret()

    told = run(stand, "keys", "encrypt").output

    assert told == "1 secrets are encrypted with the newest key.\n"
    assert _secret() != before


def _stored() -> str | None:
    with transaction():
        return db.session.scalar(db.text("SELECT client_secret FROM provider_accounts"))


def _secret() -> str:
    with transaction():
        return str(db.session.scalar(db.text("SELECT secret FROM webhook_registrations")))
