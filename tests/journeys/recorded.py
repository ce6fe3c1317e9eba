"""`python -m tests.journeys.recorded FOLDER demo ...`: a command of `flask`, whose simulator is listened to.

Everything that is said to it on the vendor's paths is written into FOLDER; see `tests.traffic`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flask.cli import main

from invoice.cli import demo_world, stand_in
from invoice.simulator.app import Simulator, create_simulator
from tests.traffic import keep_in, listen


def run(folder: Path, arguments: list[str]) -> None:
    """Run the command; does not return."""

    def listened(data: Path, *, base_url: str) -> Simulator:
        made = create_simulator(data, base_url=base_url)
        listen(made.app, keep_in(folder))
        return made

    demo_world.create_simulator = stand_in.create_simulator = listened  # type: ignore[assignment]
    sys.argv = ["flask", *arguments]
    main()


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
