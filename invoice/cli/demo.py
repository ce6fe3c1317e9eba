"""`flask demo`: the command. What it runs is loaded when it runs: a service in production never loads the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from flask import Flask

from invoice.config import Settings


def demo_command(create_app: Callable[[Settings], Flask]) -> click.Command:
    """Return `flask demo`."""

    @click.command("demo")
    @click.option("--port", default=8000, show_default=True, help="Of the service; the simulator takes the next one.")
    @click.option("--data", type=click.Path(path_type=Path), default=Path("demo-data"), show_default=True)
    def demo(port: int, data: Path) -> None:
        """Run service, worker and simulator: the whole story, without any account."""
        from invoice.cli.demo_world import run_demo  # noqa: PLC0415 - brings the stand-in along

        run_demo(create_app, port, data)

    return demo
