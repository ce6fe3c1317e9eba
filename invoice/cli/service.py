"""`flask run` and `flask worker`: the service, and who does its recurring work."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import ScriptInfo, pass_script_info
from flask.cli import run_command as flask_run

from invoice.cli.processes import ENGINE, SETTINGS, load, until_told


def run_command() -> click.Command:
    """Return `flask run`: Flask's own, and the engine beside it where the engine is inline."""

    @click.pass_context
    def run(ctx: click.Context, /, **options: Any) -> None:
        app = load(ctx.ensure_object(ScriptInfo))
        engine = app.extensions[ENGINE] if app.extensions[SETTINGS].invoice_engine == "inline" else None
        if engine is not None:
            engine.start()
        try:
            ctx.invoke(flask_run, **options)
        finally:
            if engine is not None:
                engine.stop()

    help_text = f"{flask_run.help}\n\nWith the inline engine the recurring work runs in the same process."
    return click.Command("run", params=flask_run.params, callback=run, help=help_text)


def worker_command() -> click.Command:
    """Return `flask worker`."""

    @click.command("worker")
    @pass_script_info
    def worker(info: ScriptInfo) -> None:
        """Run the recurring work in this process; start as many as you like, they share it."""
        app = load(info)
        engine = app.extensions[ENGINE]
        with until_told() as told:
            engine.start()
            click.echo("The worker runs. Ctrl-C stops.")
            told.wait()
            engine.stop()

    return worker
