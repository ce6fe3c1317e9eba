"""The commands of the `flask` program: demo, run, worker, simulator, partner.

`flask` finds them through the entry points in pyproject.toml. The demo alone joins the service with the simulator:
both in one process, on one clock that only the simulator can move.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from flask import Flask
from flask.cli import ScriptInfo, pass_script_info
from flask.cli import run_command as flask_run
from flask_migrate import upgrade
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from invoice import clock
from invoice.config import Settings
from invoice.errors import ConfigError, InvoiceError
from invoice.names import new_secret
from invoice.services import partners
from invoice.services.jobs import beat
from invoice.services.operations import end_leases
from invoice.simulator.accounts import DEMO_TWILIO, DEMO_UNIT
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.serving import make_simulator_server

ENGINE, SETTINGS = "invoice.engine", "invoice.settings"
HOST = "127.0.0.1"
DEMO_PARTNER = 10295
T = TypeVar("T")
CreateApp = Callable[[Settings], Flask]

# The payload of the Mobile Invoice document, as a line to paste.
_EXAMPLE = (
    '{"partnerId":"10295","msisdn":"+4712457890","currency":"NOK","orderNumber":"unique-order-number-12346",'
    '"amount":"12.50","campaignAmount":"10","paymentProvider":"Vipps",'
    '"description":"Recurring payment subscription request","basis":"1",'
    '"agreementUrl":"https://www.merchantwebsite.com","name":"The name of the product","sendSMS":"true",'
    '"smsText":"Click to proceed","smsNotificationOriginator":"2119"}'
)


class _Quiet(WSGIRequestHandler):
    """Writes no access log: its lines would hold links that are keys."""

    def log_request(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


# The demo


def demo_command(create_app: CreateApp) -> click.Command:
    """Return `flask demo`."""

    @click.command("demo")
    @click.option("--port", default=8000, show_default=True, help="Of the service; the simulator takes the next one.")
    @click.option("--data", type=click.Path(path_type=Path), default=Path("demo-data"), show_default=True)
    def demo(port: int, data: Path) -> None:
        """Run service, worker and simulator: the whole story, without any account."""
        data.mkdir(parents=True, exist_ok=True)
        with _only_one(data), _until_told() as told:
            _run_demo(create_app, port, data.resolve(), told)

    return demo


def _run_demo(create_app: CreateApp, port: int, data: Path, told: threading.Event) -> None:
    kept = _kept(data)
    simulator = create_simulator(data, base_url=_address(port + 1))
    clock.follow(simulator.clock.now)
    app = create_app(Settings.from_environ(_demo_environ(port, data, kept.secret_key)))
    servers = [_listen(port, _service_server, app), _listen(port + 1, _simulator_server, simulator)]
    engine = app.extensions[ENGINE]
    with app.app_context():
        upgrade()
        # This process holds the folder's lock: whoever had claims is dead.
        end_leases()
        if not partners.exists(DEMO_PARTNER):
            partners.add(DEMO_PARTNER, "Treningsglede", sms_originator="2119", secret=kept.partner_secret)
    simulator.follower = engine.run_once
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    simulator.start()
    engine.start()
    with app.app_context():
        beat()  # whoever reads the lines below finds it ready
    _tell_demo(port, kept)
    told.wait()
    click.echo("Stopping.")
    for server in servers:
        server.shutdown()
    engine.stop()
    simulator.stop()


@dataclass(frozen=True)
class _Kept:
    """What one demo folder keeps between runs."""

    partner_secret: str
    secret_key: str


def _kept(data: Path) -> _Kept:
    """Return the folder's secrets, made at its first run."""
    path = data / "demo.json"
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps({"partner_secret": new_secret(), "secret_key": secrets.token_urlsafe(48)}))
        fresh.rename(path)  # whole or not at all
    return _Kept(**json.loads(path.read_text()))


def _demo_environ(port: int, data: Path, secret_key: str) -> dict[str, str]:
    """Return the settings that an operator would set to run against the simulator."""
    return {
        "INVOICE_DATABASE_URL": f"sqlite:///{data / 'invoice.sqlite3'}",
        "INVOICE_PUBLIC_URL": _address(port),
        "INVOICE_SECRET_KEY": secret_key,
        **simulator_environ(_address(port + 1)),
    }


def simulator_environ(base_url: str) -> dict[str, str]:
    """Return the settings that point at a simulator instead of Vipps and Twilio."""
    return {
        "VIPPS_BASE_URL": base_url,
        "VIPPS_CLIENT_ID": DEMO_UNIT.client_id,
        "VIPPS_CLIENT_SECRET": DEMO_UNIT.client_secret,
        "VIPPS_SUBSCRIPTION_KEY": DEMO_UNIT.subscription_key,
        "VIPPS_MERCHANT_SERIAL_NUMBER": DEMO_UNIT.merchant_serial_number,
        "TWILIO_BASE_URL": base_url,
        "TWILIO_ACCOUNT_SID": DEMO_TWILIO.account_sid,
        "TWILIO_AUTH_TOKEN": DEMO_TWILIO.auth_token,
    }


def _tell_demo(port: int, kept: _Kept) -> None:
    service, simulator = _address(port), _address(port + 1)
    click.echo(f"service    {service}")
    click.echo(f"simulator  {simulator}/sim/")
    click.echo(f"phone      {simulator}/sim/phone/4712457890")
    click.echo(f"partner {DEMO_PARTNER} secret {kept.partner_secret}")
    click.echo("\nSend the documented request:\n")
    click.echo(f"curl -u {DEMO_PARTNER}:{kept.partner_secret} -H 'Content-Type: application/json' \\")
    click.echo(f"  -d '{_EXAMPLE}' \\\n  {service}/api/recurring/subscribe\n")
    click.echo("Then open the phone, tap the link, and move its clock. Ctrl-C stops; the data stays.")


def _address(port: int) -> str:
    return f"http://{HOST}:{port}"


def _service_server(port: int, app: Flask) -> BaseWSGIServer:
    return make_server(HOST, port, app, threaded=True, request_handler=_Quiet)


def _simulator_server(port: int, stand_in: Simulator) -> BaseWSGIServer:
    return make_simulator_server(stand_in, HOST, port)


def _listen(port: int, listen: Callable[[int, T], BaseWSGIServer], what: T) -> BaseWSGIServer:
    """Listen on a port of this machine; one that is taken is said in a sentence."""
    try:
        return listen(port, what)
    except (OSError, SystemExit) as error:
        raise click.ClickException(f"Port {port} is taken. Choose another with --port.") from error


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends."""
    with (data / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise click.ClickException(f"Another demo runs on {data}.") from error
        yield


@contextmanager
def _until_told() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and a polite kill set."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# The service


def run_command() -> click.Command:
    """Return `flask run`: Flask's own, and the engine beside it where the engine is inline."""

    @click.pass_context
    def run(ctx: click.Context, /, **options: Any) -> None:
        app = _load(ctx.ensure_object(ScriptInfo))
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
        app = _load(info)
        engine = app.extensions[ENGINE]
        with _until_told() as told:
            engine.start()
            click.echo("The worker runs. Ctrl-C stops.")
            told.wait()
            engine.stop()

    return worker


def _load(info: ScriptInfo) -> Flask:
    try:
        return info.load_app()
    except ConfigError as error:
        raise click.ClickException(error.message) from error


# The simulator


@click.command("simulator")
@click.option("--port", default=9000, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path("simulator-data"), show_default=True)
def simulator(port: int, data: Path) -> None:
    """Run the stand-in for Vipps and Twilio by itself."""
    data.mkdir(parents=True, exist_ok=True)
    with _only_one(data), _until_told() as told:
        stand_in = create_simulator(data.resolve(), base_url=_address(port))
        _serve_simulator(stand_in, port, told)


def _serve_simulator(stand_in: Simulator, port: int, told: threading.Event) -> None:
    server = _listen(port, _simulator_server, stand_in)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in.start()
    click.echo(f"simulator  {_address(port)}/sim/\n\nSettings for the service:\n")
    for name, value in simulator_environ(_address(port)).items():
        click.echo(f"export {name}={value}")
    told.wait()
    server.shutdown()
    stand_in.stop()


# Partners


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
    with _load(info).app_context(), _in_words():
        secret = partners.add(number, name, market=market, sms_originator=originator)
        click.echo(f"partner {number} secret {secret}")


@partner.command("rotate")
@click.argument("number", type=int)
@pass_script_info
def rotate_partner(info: ScriptInfo, number: int) -> None:
    """Print a new secret, once; the one before works until the next rotation."""
    with _load(info).app_context(), _in_words():
        click.echo(f"partner {number} secret {partners.rotate(number)}")


@partner.command("list")
@pass_script_info
def list_partners(info: ScriptInfo) -> None:
    """Print all partners."""
    with _load(info).app_context():
        for found in partners.list_all():
            click.echo(f"{found.id}\t{found.market}\t{found.sms_originator}\t{found.name}")


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except InvoiceError as error:
        told = [sentence for sentences in getattr(error, "errors", {}).values() for sentence in sentences]
        raise click.ClickException(" ".join(told) or error.message) from error
