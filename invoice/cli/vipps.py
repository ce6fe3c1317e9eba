"""`flask vipps`: whether Vipps works for us, our webhooks there, and partners' own keys."""

from __future__ import annotations

import click
from flask.cli import ScriptInfo, pass_script_info

from invoice.cli.processes import SERVICES, in_words, load
from invoice.services import accounts
from invoice.services.accounts import AccountKeys
from invoice.services.jobs import Services

_SIGNS = {"ok": "ok  ", "weak": "weak", "bad": "BAD "}


@click.group("vipps")
def vipps() -> None:
    """Vipps: keys, webhooks, and whether everything works."""


@vipps.command("doctor")
@pass_script_info
def doctor(info: ScriptInfo) -> None:
    """Ask everything that must be right, for each account; ends with 1 when something is not."""
    app = load(info)
    services: Services = app.extensions[SERVICES]
    is_sick = False
    with app.app_context(), in_words():
        for payments in services.accounts.every():
            click.echo(f"sales unit {payments.account}")
            for finding in services.doctor.examine(payments):
                click.echo(f"  {_SIGNS[finding.state]} {finding.question}: {finding.words}")
                is_sick |= finding.state == "bad"
    if is_sick:
        raise SystemExit(1)


@vipps.group("webhooks")
def webhooks() -> None:
    """Where Vipps tells us what happens."""


@webhooks.command("register")
@pass_script_info
def register(info: ScriptInfo) -> None:
    """Make sure that each account has one registration whose secret we hold, and none besides."""
    app = load(info)
    with app.app_context(), in_words():
        changes = app.extensions[SERVICES].webhooks.ensure()
    click.echo(f"{changes} changed." if changes else "Everything was in place.")


@webhooks.command("list")
@pass_script_info
def list_webhooks(info: ScriptInfo) -> None:
    """Print what Vipps has, of ours and of others under the same sales unit."""
    app = load(info)
    services: Services = app.extensions[SERVICES]
    with app.app_context(), in_words():
        for payments in services.accounts.every():
            for webhook in payments.list_webhooks():
                click.echo(f"{payments.account}\t{webhook.webhook_id}\t{webhook.url}")


@webhooks.command("check")
@pass_script_info
def check(info: ScriptInfo) -> None:
    """Say for each account whether its registration is alive; ends with 1 when one is not."""
    app = load(info)
    services: Services = app.extensions[SERVICES]
    is_missing = False
    with app.app_context(), in_words():
        for payments in services.accounts.every():
            state = services.webhooks.state_of(payments)
            last = f"{state.last_came_at:%Y-%m-%d %H:%M} UTC" if state.last_came_at else "never"
            click.echo(f"{payments.account}\t{'alive' if state.is_known_there else 'MISSING'}\tlast came: {last}")
            is_missing |= not state.is_known_there
    if is_missing:
        raise SystemExit(1)


@vipps.group("keys")
def keys() -> None:
    """Partners' own keys; without them a partner uses the platform's sales unit."""


@keys.command("set")
@click.argument("partner", type=int)
@click.option("--msn", prompt="Merchant serial number", help="Of the partner's sales unit: 4 to 10 digits.")
@click.option("--client-id", prompt=True)
@click.option("--client-secret", prompt=True, hide_input=True, help="Asked for when it is not given.")
@click.option("--subscription-key", prompt=True, hide_input=True, help="Likewise.")
@pass_script_info
def set_keys(info: ScriptInfo, /, partner: int, msn: str, **given: str) -> None:
    """Store a partner's own keys, encrypted; its agreements are drafted with them from now on."""
    if not (msn.isascii() and msn.isdigit() and 4 <= len(msn) <= 10):
        raise click.ClickException("--msn must be 4 to 10 digits.")
    app = load(info)
    with app.app_context(), in_words():
        accounts.bring(partner, AccountKeys(account=msn, **given))
    click.echo(f"partner {partner} uses sales unit {msn}. Now: flask vipps webhooks register, flask vipps doctor")


@keys.command("drop")
@click.argument("partner", type=int)
@pass_script_info
def drop_keys(info: ScriptInfo, partner: int) -> None:
    """Let a partner use the platform's sales unit from now on; what was signed under its own stays there."""
    app = load(info)
    with app.app_context(), in_words():
        accounts.leave(partner)
    click.echo(f"partner {partner} uses the platform's sales unit.")


@keys.command("encrypt")
@pass_script_info
def encrypt(info: ScriptInfo) -> None:
    """Encrypt all stored secrets with the first key of INVOICE_SECRET_KEY; after that the others can go."""
    app = load(info)
    with app.app_context(), in_words():
        click.echo(f"{accounts.encrypt_anew()} secrets are encrypted with the newest key.")
