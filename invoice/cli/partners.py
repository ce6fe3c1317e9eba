"""`flask partner ...`: who may ask, with what proof, and on which terms."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import ScriptInfo, pass_script_info

from invoice.cli.processes import SERVICES, in_words, load
from invoice.errors import NotFound
from invoice.lifecycle import ContractMode, Language, SecretKind
from invoice.services import openings, partners
from invoice.services.endpoints import Endpoints
from invoice.services.partners import (
    AS_SET,
    DEFAULT_REQUEST_LIMIT,
    MAX_REQUEST_LIMIT,
    MAX_SMS_LIMIT,
    PartnerView,
    Terms,
)

F = TypeVar("F", bound=Callable[..., Any])
_MODES = click.Choice([mode.value for mode in ContractMode])
_LIMIT = click.IntRange(1, MAX_REQUEST_LIMIT)
_TEXTS = (
    click.option(
        "--language",
        type=click.Choice(["", *(each.value for each in Language)]),
        help="Of texts in our words; else the market's.",
    ),
    click.option("--sms-text", help="The invitation, when a request brings no text; with {{url}} and the like."),
    click.option("--sms-limit", type=click.IntRange(AS_SET, MAX_SMS_LIMIT), help="Texts in 24 hours; 0: no cap."),
)
_MODE_HELP = "How /vipps-recurring-payments is kept: as documented, or as the original module really behaved."


def _with(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Give a command some options at once."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


@click.group("partner")
def partner() -> None:
    """Partners: who may ask, with what proof, and on which terms.

    A partner's own Vipps keys: flask vipps keys set NUMBER.
    """


@partner.command("add")
@click.argument("number", type=int)
@click.option("--name", required=True, help="What people read as the merchant.")
@click.option("--market", default="NO", show_default=True, help="Whose calendar counts: NO, DK or FI.")
@click.option("--originator", required=True, help="The sender of texts, when a request names none.")
@click.option("--contract-mode", type=_MODES, default=ContractMode.FIXED.value, show_default=True, help=_MODE_HELP)
@click.option("--request-limit", type=_LIMIT, default=DEFAULT_REQUEST_LIMIT, show_default=True, help="A minute.")
@_with(*_TEXTS)
@pass_script_info
def add_partner(info: ScriptInfo, /, number: int, name: str, originator: str, **terms: str | int) -> None:
    """Add a partner and print its secret, once."""
    with load(info).app_context(), in_words():
        secret = partners.add(number, name, sms_originator=originator, **terms)  # type: ignore[arg-type]
        click.echo(f"partner {number} secret {secret}")


@partner.command("set")
@click.argument("number", type=int)
@click.option("--name", help="What people read as the merchant.")
@click.option("--market", help="Whose calendar counts; fixed once there are subscriptions.")
@click.option("--originator", "sms_originator", help="The sender of texts, when a request names none.")
@click.option("--contract-mode", type=_MODES, help=_MODE_HELP)
@click.option("--request-limit", type=_LIMIT, help="Requests a minute.")
@_with(*_TEXTS)
@pass_script_info
def set_terms(info: ScriptInfo, /, number: int, **terms: str | int | None) -> None:
    """Change what is given, leave the rest, and print how it is then."""
    with load(info).app_context(), in_words():
        _tell(partners.change(number, Terms(**terms)))  # type: ignore[arg-type]


@partner.command("show")
@click.argument("number", type=int)
@pass_script_info
def show_partner(info: ScriptInfo, number: int) -> None:
    """Print a partner's terms and what opens its door, without anything secret."""
    with load(info).app_context(), in_words():
        _tell(partners.get(number))
        with suppress(NotFound):
            click.echo(f"endpoint\t{_endpoints().get(number).url}")
        for secret in partners.secrets_of(number):
            right = "\tmay see the token" if secret.may_see_token else ""
            click.echo(f"{secret.kind} {secret.id}\tsince {secret.created_at:%Y-%m-%d %H:%M} UTC{right}")


@partner.command("list")
@pass_script_info
def list_partners(info: ScriptInfo) -> None:
    """Print all partners."""
    with load(info).app_context():
        for found in partners.list_all():
            state = "\tsuspended" if found.is_suspended else ""
            state += "\ttexts paused" if found.texts_paused_at else ""
            click.echo(f"{found.id}\t{found.market}\t{found.sms_originator}\t{found.name}{state}")


@partner.command("rotate")
@click.argument("number", type=int)
@pass_script_info
def rotate_partner(info: ScriptInfo, number: int) -> None:
    """Print a new secret, once; the one before works until the next rotation."""
    with load(info).app_context(), in_words():
        click.echo(f"partner {number} secret {partners.rotate(number)}")


@partner.command("suspend")
@click.argument("number", type=int)
@pass_script_info
def suspend_partner(info: ScriptInfo, number: int) -> None:
    """Answer its requests with 401 and send none of its charges; what Vipps already has goes its way."""
    with load(info).app_context(), in_words():
        partners.suspend(number)
        click.echo(f"partner {number} is suspended.")


@partner.command("resume")
@click.argument("number", type=int)
@pass_script_info
def resume_partner(info: ScriptInfo, number: int) -> None:
    """Let a suspended partner in again; missed periods are charged one at a time."""
    with load(info).app_context(), in_words():
        partners.resume(number)
        click.echo(f"partner {number} may ask again.")


@partner.command("resume-texts")
@click.argument("number", type=int)
@pass_script_info
def resume_texts(info: ScriptInfo, number: int) -> None:
    """Let texts go out again that were paused because hardly anybody opened them."""
    with load(info).app_context(), in_words():
        openings.resume(number)
        click.echo(f"partner {number}: texts go out again.")


@partner.group("key")
def key() -> None:
    """API keys (Bearer); two may be alive at once."""


@key.command("add")
@click.argument("number", type=int)
@click.option("--may-see-token", is_flag=True, help="Lets it have Vipps' access token at test/auth.")
@pass_script_info
def add_key(info: ScriptInfo, number: int, *, may_see_token: bool) -> None:
    """Print a new API key, once."""
    with load(info).app_context(), in_words():
        click.echo(f"partner {number} key {partners.add_key(number, may_see_token=may_see_token)}")


@key.command("revoke")
@click.argument("number", type=int)
@click.argument("key_number", type=int)
@pass_script_info
def revoke_key(info: ScriptInfo, number: int, key_number: int) -> None:
    """End an API key at once; KEY_NUMBER as `flask partner show` prints it."""
    with load(info).app_context(), in_words():
        partners.revoke_key(number, key_number)
        click.echo(f"partner {number}: key {key_number} is revoked.")


@partner.group("hmac")
def hmac() -> None:
    """Signed requests; off until they are turned on."""


@hmac.command("on")
@click.argument("number", type=int)
@click.option("--short", is_flag=True, help="Also takes the original's short signature: MD5, and 60 bits.")
@click.option("--full-only", is_flag=True, hidden=True, help="As it is without --short.")
@click.option("--bring", is_flag=True, help="Asks for a secret that the partner has already.")
@pass_script_info
def turn_hmac_on(info: ScriptInfo, number: int, *, short: bool, full_only: bool, bring: bool) -> None:
    """Print a new secret to sign with, once; again: the one before works until the next time.

    Takes hmac-sha256. A client of the original that is not to be changed needs --short as well.
    """
    if short and full_only:
        raise click.UsageError("--short and --full-only exclude each other.")
    given = click.prompt("Secret (base64)", hide_input=True) if bring else None
    with load(info).app_context(), in_words():
        secret = partners.turn_hmac_on(number, takes_short=short, secret=given)
        click.echo(f"partner {number} signs with the secret it has." if bring else f"partner {number} hmac {secret}")
        if not short and SecretKind.HMAC in [each.kind for each in partners.secrets_of(number)]:
            click.echo("The secret before takes the original's hmac as well, this one does not: see --short.", err=True)


@hmac.command("off")
@click.argument("number", type=int)
@pass_script_info
def turn_hmac_off(info: ScriptInfo, number: int) -> None:
    """Take no signature any more; the secrets for them end."""
    with load(info).app_context(), in_words():
        partners.turn_hmac_off(number)
        click.echo(f"partner {number}: signatures are not taken any more.")


@partner.group("endpoint")
def endpoint() -> None:
    """Where a partner takes its signed events."""


@endpoint.command("set")
@click.argument("number", type=int)
@click.argument("url")
@pass_script_info
def set_endpoint(info: ScriptInfo, number: int, url: str) -> None:
    """Send a partner's events to URL; of a new endpoint print the secret that they are signed with, once."""
    with load(info).app_context(), in_words():
        partners.get(number)
        made = _endpoints().put(number, url)
        click.echo(f"partner {number} endpoint secret {made.secret}" if made else f"partner {number}: changed.")


@endpoint.command("rotate")
@click.argument("number", type=int)
@pass_script_info
def rotate_endpoint(info: ScriptInfo, number: int) -> None:
    """Print a new secret, once; the one before signs as well for a day."""
    with load(info).app_context(), in_words():
        partners.get(number)
        click.echo(f"partner {number} endpoint secret {_endpoints().rotate(number).secret}")


@endpoint.command("remove")
@click.argument("number", type=int)
@pass_script_info
def remove_endpoint(info: ScriptInfo, number: int) -> None:
    """Push no more events; they can still be pulled."""
    with load(info).app_context(), in_words():
        partners.get(number)
        _endpoints().remove(number)
        click.echo(f"partner {number}: events are not pushed any more.")


def _endpoints() -> Endpoints:
    found: Endpoints = current_app.extensions[SERVICES].endpoints
    return found


def _tell(found: PartnerView) -> None:
    state = "suspended" if found.is_suspended else "active"
    lines = {
        "partner": found.id,
        "name": found.name,
        "state": state,
        "market": found.market,
        "originator": found.sms_originator,
        "contract mode": found.contract_mode,
        "request limit": f"{found.request_limit} a minute",
        "language": found.language or "the market's",
        "SMS text": found.sms_text or "ours",
        "SMS limit": "as the settings say" if found.sms_limit is None else f"{found.sms_limit} in 24 hours",
    }
    if found.texts_paused_at:
        lines["texts"] = f"paused since {found.texts_paused_at:%Y-%m-%d %H:%M} UTC"
    for what, value in lines.items():
        click.echo(f"{what}\t{value}")
