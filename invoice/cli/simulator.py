"""`flask simulator`: the command. What it runs is loaded when it runs, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from invoice.clock import MARKET_ZONES


@click.command("simulator")
@click.option("--port", default=9000, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path("simulator-data"), show_default=True)
@click.option(
    "--market",
    type=click.Choice(list(MARKET_ZONES)),
    default="NO",
    show_default=True,
    help="Of the sales unit whose settings are shown; all of them are served.",
)
def simulator(port: int, data: Path, market: str) -> None:
    """Run the stand-in for Vipps and Twilio by itself. It does not start beside their real hosts or keys."""
    from invoice.cli.stand_in import run_simulator  # noqa: PLC0415 - the stand-in itself

    run_simulator(port, data, market)
