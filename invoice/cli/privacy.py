"""`flask privacy ...`: what a person may ask for."""

from __future__ import annotations

import json

import click
from flask.cli import ScriptInfo, pass_script_info

from invoice.cli.processes import in_words, load
from invoice.phone import normalise
from invoice.services import persons

# Asked for when it is not given, so that it need not stand in the shell's history.
_NUMBER = click.option("--msisdn", prompt="Phone number", help="With country code, such as +4791234567.")


@click.group("privacy")
def privacy() -> None:
    """Privacy: what is held about a phone number, and to forget it."""


@privacy.command("export")
@_NUMBER
@pass_script_info
def export(info: ScriptInfo, msisdn: str) -> None:
    """Print everything held about a number as JSON; one that was erased is found as well."""
    with load(info).app_context(), in_words():
        click.echo(json.dumps(persons.export(normalise(msisdn)), ensure_ascii=False, indent=2))


@privacy.command("erase")
@_NUMBER
@pass_script_info
def erase(info: ScriptInfo, msisdn: str) -> None:
    """Forget a number whose subscriptions are over; the books keep their rows, under a pseudonym."""
    with load(info).app_context(), in_words():
        erased = persons.erase(normalise(msisdn))
        for each in erased:
            told = ", ".join(f"{name}: {count}" for name, count in each.rows.items())
            click.echo(f"subscription {each.subscription_id}\t{told or 'nothing was left to forget'}")
        if not erased:
            click.echo("Nothing is held about this number.")
