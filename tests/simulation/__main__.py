"""The command: see the package."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

import click

from tests.simulation.mutants import LONG, MUTANTS, planted
from tests.simulation.run import simulate


@click.command()
@click.option("--seeds", default="0-20", show_default=True, help="One, or a range (without the last).")
@click.option("--days", default=25, show_default=True, help="Simulated days of each, before it calms down.")
@click.option("--lost", type=float, help="Set the database back by so many hours, once.")
@click.option("--story", is_flag=True, help="Tell what happened.")
@click.option("--mutants", is_flag=True, help="Plant bugs, one after the other, and see each caught.")
@click.option("--mutant", multiple=True, type=click.Choice(list(MUTANTS)), help="Only these.")
def main(  # the command's options
    seeds: str, days: int, mutant: tuple[str, ...], lost: float | None, *, story: bool, mutants: bool
) -> None:
    """Live through seeds and judge them; the exit status tells whether all is well."""
    first, _, last = seeds.partition("-")
    span = range(int(first), int(last) if last else int(first) + 1)
    if mutants or mutant:
        sys.exit(_hunt(mutant or tuple(MUTANTS), span, days))
    sys.exit(_judge(span, days, lost, is_told=story))


def _judge(seeds: range, days: int, lost: float | None, *, is_told: bool) -> int:
    """Live through the seeds; return how many went wrong."""
    began, wrong, deaths, boundaries = time.perf_counter(), 0, 0, 0
    for seed in seeds:
        outcome = simulate(seed, days=days, lost=None if lost is None else timedelta(hours=lost))
        wrong += outcome.violation is not None
        deaths, boundaries = deaths + outcome.deaths, boundaries + outcome.boundaries
        click.echo("\n".join(outcome.story if is_told else []), nl=is_told)
        if outcome.violation:
            click.echo(f"seed {seed}: {outcome.violation}")
    each = (time.perf_counter() - began) / len(seeds)
    told = f"{wrong} violated; {boundaries} boundaries, {deaths} deaths, {each:.1f} s each"
    click.echo(f"{len(seeds)} seeds x {days} days: {told}")
    return wrong


def _hunt(names: tuple[str, ...], seeds: range, days: int) -> int:
    """Live through seeds with each planted bug until it is caught; return how many were not."""
    escaped = 0
    for name in names:
        with planted(name):
            most = max(days, LONG.get(name, 0))
            found = next(((s, v) for s in seeds if (v := simulate(s, days=most).violation)), None)
        escaped += found is None
        click.echo(f"{name}: caught by seed {found[0]}: {found[1][-100:]!r}" if found else f"{name}: escaped")
    click.echo(f"{len(names) - escaped} of {len(names)} caught")
    return escaped


if __name__ == "__main__":
    main()
