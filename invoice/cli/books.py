"""`flask proof`, `flask charges` and `flask reconcile`: whether the books hold, what tomorrow creates, the brakes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import click
from flask.cli import ScriptInfo, pass_script_info

from invoice.cli.processes import SERVICES, SETTINGS, in_words, load
from invoice.services import audit, brakes, journal, ledger, proof
from invoice.services.audit import Coming
from invoice.services.jobs import Services
from invoice.services.reconcile import RECONCILED


@click.command("proof")
@click.option("--vipps", is_flag=True, help="Ask Vipps for all that lives there, as well.")
@click.option("--ledger", "is_stood_in", is_flag=True, help="Compare with the ledger of the stand-in in Vipps' place.")
@pass_script_info
def prove(info: ScriptInfo, *, vipps: bool, is_stood_in: bool) -> None:
    """Ask everything that must hold, of the books as they are now; ends with 1 when something does not."""
    app = load(info)
    services: Services = app.extensions[SERVICES]
    with app.app_context(), in_words():
        findings = proof.examine()
        if is_stood_in:
            findings += ledger.compare(ledger.read(app.extensions[SETTINGS].vipps_base_url))
        due, explained, gaps = services.audit.periods()
        gaps += services.audit.agreements(_wait) if vipps else []
    broken = {finding.number for finding in findings}
    for number, says in proof.statements():
        click.echo(f"{number:4} {'BROKEN' if number in broken else 'holds '} {says}")
    for finding in findings:
        click.echo(f"{finding.number}: {finding.subject}{_whose(finding.partner_id)}")
    click.echo(f"{due} periods fell due, {explained} have no payment and a reason, {len(gaps)} are to be looked at")
    for gap in gaps:
        click.echo(f"{gap.subject}: {gap.why}{_whose(gap.partner_id)}")
    if findings or gaps:
        raise SystemExit(1)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _whose(partner_id: int | None) -> str:
    return "" if partner_id is None else f" (partner {partner_id})"


@click.command("reconcile")
@click.option(
    "--belongs-to",
    "owners",
    type=(str, int),
    multiple=True,
    metavar="AGREEMENT PARTNER",
    help="Whose an agreement is that was printed as nobody's, such as agr_5kSeqz 10295.",
)
@pass_script_info
def reconcile(info: ScriptInfo, owners: Sequence[tuple[str, int]]) -> None:
    """After a restore: read back from Vipps what has happened since, and enter it; nothing leaves meanwhile.

    Charging stays held afterwards: look at what is printed and at `flask proof --vipps`, then `flask charges start`.
    """
    app = load(info)
    settings = app.extensions[SETTINGS]
    noted = journal.read(Path(settings.invoice_journal), settings.invoice_database_url)
    with app.app_context(), in_words():
        report = app.extensions[SERVICES].reconcile.run(noted, _wait, dict(owners))
    for what, count in sorted(report.counts.items()):
        click.echo(f"{count} {what}")
    for stranger in report.strangers:
        what = f"{stranger.product_name}, managed at {urlsplit(stranger.manage_url).netloc}"
        click.echo(
            f"agreement {stranger.agreement_id} ({what}) is ours, and nobody here can say whose: "
            f"flask reconcile --belongs-to {stranger.agreement_id} PARTNER"
        )
    click.echo(RECONCILED)


@click.group("charges")
def charges() -> None:
    """What is charged: hold it, let it go on, and see what comes."""


@charges.command("stop")
@click.option("--partner", type=int, help="One partner's charges; without it, everyone's.")
@click.option("--reason", required=True, help="For whoever finds charging held.")
@pass_script_info
def stop(info: ScriptInfo, partner: int | None, reason: str) -> None:
    """Create nothing at Vipps from now on; cancels, refunds and looks go on."""
    with load(info).app_context(), in_words():
        brakes.stop(partner, reason)
    click.echo(f"Charging is held for {_named(partner)}.")


@charges.command("start")
@click.option("--partner", type=int, help="One partner's charges; without it, everyone's.")
@pass_script_info
def start(info: ScriptInfo, partner: int | None) -> None:
    """Let charging go on; what was held leaves at once."""
    with load(info).app_context(), in_words():
        brakes.start(partner)
    click.echo(f"Charging goes on for {_named(partner)}.")


@charges.command("brakes")
@pass_script_info
def show_brakes(info: ScriptInfo) -> None:
    """Print the brakes and what the last check found broken; ends with 1 when anything is."""
    with load(info).app_context():
        pulled = [brake for brake in brakes.list_all() if brake.released_at is None]
        breaks = proof.open_breaks()
    for brake in pulled:
        frozen = ", and nothing else leaves either" if brake.is_frozen else ""
        since = f"{brake.pulled_at:%Y-%m-%d %H:%M} UTC"
        click.echo(f"held for {_named(brake.partner_id)} since {since}{frozen}: {brake.reason}")
    for number, subject, partner_id, found_at in breaks:
        click.echo(f"{number}\t{subject}{_whose(partner_id)}\tsince {found_at:%Y-%m-%d %H:%M} UTC")
    if pulled or breaks:
        raise SystemExit(1)
    click.echo("Nothing is held, nothing is broken.")


@charges.command("dry-run")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), required=True, help="A day, such as 2026-12-01.")
@pass_script_info
def dry_run(info: ScriptInfo, day: date) -> None:
    """Print what would be created at Vipps on a day, and how that differs from the period before."""
    app = load(info)
    services: Services = app.extensions[SERVICES]
    with app.app_context():
        coming = services.audit.coming(date(day.year, day.month, day.day))
    for partner_id, currency, some in audit.by_partner(coming):
        _tell_day(partner_id, currency, some)
    if not coming:
        click.echo("Nothing.")


def _tell_day(partner_id: int, currency: str, some: list[Coming]) -> None:
    now, before = sum(c.amount for c in some), sum(c.before or 0 for c in some)
    held = ", held by a brake" if any(c.is_held for c in some) else ""
    click.echo(
        f"partner {partner_id}: {len(some)} charges, {now / 100:.2f} {currency}; "
        f"the period before {before / 100:.2f} ({(now - before) / 100:+.2f}){held}"
    )
    for charge in some:
        if charge.before != charge.amount:
            then = "the first" if charge.before is None else f"before {charge.before / 100:.2f}"
            click.echo(f"  {charge.name} due {charge.due_on}: {charge.amount / 100:.2f}, {then}")


def _named(partner_id: int | None) -> str:
    return "everyone" if partner_id is None else f"partner {partner_id}"
