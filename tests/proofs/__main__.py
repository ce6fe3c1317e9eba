"""The command: see the package. Figures are kept in docs/proofs.json, and shown in docs/proofs.md."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tests.proofs.figures import Figure

_ROOT = Path(__file__).parents[2]
_KEPT, _SHOWN = _ROOT / "docs" / "proofs.json", _ROOT / "docs" / "proofs.md"
PROOFS = (
    "calendar_proof",
    "databases",
    "guessing",
    "kills",
    "lives",
    "mutants",
    "races",
    "restores",
    "stateful",
    "suites",
)
_HEAD = """# The proofs

What docs/guarantees.md promises, as it was last shown: `python -m tests.proofs` does all of it at full length, which
takes days; `--size 0.1` a tenth, `--only races` one of them, `--kills sqlite --minutes 30` those rows of the kills, as
far as they come. "Goal" is the full length, "done" how much of it ran, and "wrong" how often it went wrong. A row is
kept until its proof is run again.

| proof | what | goal | done | wrong | minutes | commit | notes |
|---|---|---|---|---|---|---|---|
"""


@click.command()
@click.option("--size", default=1.0, show_default=True, help="The share of the full length.")
@click.option("--only", multiple=True, type=click.Choice(PROOFS), help="Only these.")
@click.option("--kills", "which", default="", help="Only the kills, and of them the rows with this word.")
@click.option("--minutes", default=math.inf, help="Begin nothing new in a row of the kills after so many.")
def main(size: float, only: tuple[str, ...], which: str, minutes: float) -> None:
    """Run the proofs, keep their figures, and end with 1 when anything went wrong."""
    wrong = 0
    for name in ("kills",) if which else only or PROOFS:
        more = {"which": which, "minutes": minutes} if name == "kills" else {}
        for figure in importlib.import_module(f"tests.proofs.{name}").prove(size, **more):
            click.echo(_line(_row(figure, size)))
            _keep(_row(figure, size))
            wrong += not figure.is_clean
    sys.exit(wrong > 0)


def _row(figure: Figure, size: float) -> dict[str, Any]:
    goal = figure.wanted if figure.is_whole else max(figure.wanted, round(figure.wanted / size))
    return {**asdict(figure), "goal": goal, "commit": _commit()}


def _commit() -> str:
    """Return which commit this is, with a "+" when anything but the figures themselves has been changed since."""
    but_figures = [f":!{path.relative_to(_ROOT)}" for path in (_KEPT, _SHOWN)]
    return _git("describe", "--always", "--abbrev=8") + "+" * bool(_git("status", "--porcelain", ".", *but_figures))


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    found = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _keep(row: dict[str, Any]) -> None:
    """Put a figure in the place of the one before."""
    rows = json.loads(_KEPT.read_text()) if _KEPT.exists() else []
    rows = [kept for kept in rows if (kept["proof"], kept["what"]) != (row["proof"], row["what"])] + [row]
    rows.sort(key=lambda kept: (kept["proof"], kept["what"]))
    _KEPT.write_text(json.dumps(rows, indent=1) + "\n")
    _SHOWN.write_text(_HEAD + "".join(f"{_line(kept)}\n" for kept in rows))


def _line(row: dict[str, Any]) -> str:
    minutes = f"{row['seconds'] / 60:.1f}"
    cells = (row["proof"], row["what"], row["goal"], row["reached"], row["found"], minutes, row["commit"], row["notes"])
    return f"| {' | '.join(str(cell) for cell in cells)} |"


if __name__ == "__main__":
    main()
