"""`flask partner add|rotate|list`: who may ask."""

from __future__ import annotations

import click
from flask.cli import ScriptInfo, pass_script_info

from invoice.cli.processes import in_words, load
from invoice.services import partners


@click.group("partner")
def partner() -> None:
    """Partners: who may ask."""


@partner.command("add")
@click.argument("number", type=int)
@click.option("--name", required=True, help="What people read as the merchant.")
@click.option("--market", default="NO", show_default=True, help="Whose calendar counts: NO, DK or FI.")
@click.option("--originator", required=True, help="The sender of texts, when a request names none.")
@pass_script_info
def add_partner(info: ScriptInfo, number: int, name: str, market: str, originator: str) -> None:
    """Add a partner and print its secret, once."""
    with load(info).app_context(), in_words():
        secret = partners.add(number, name, market=market, sms_originator=originator)
        click.echo(f"partner {number} secret {secret}")


@partner.command("rotate")
@click.argument("number", type=int)
@pass_script_info
def rotate_partner(info: ScriptInfo, number: int) -> None:
    """Print a new secret, once; the one before works until the next rotation."""
    with load(info).app_context(), in_words():
        click.echo(f"partner {number} secret {partners.rotate(number)}")


@partner.command("list")
@pass_script_info
def list_partners(info: ScriptInfo) -> None:
    """Print all partners."""
    with load(info).app_context():
        for found in partners.list_all():
            click.echo(f"{found.id}\t{found.market}\t{found.sms_originator}\t{found.name}")
