"""What `flask demo` runs: service, worker and simulator in one process, on one clock that only the simulator moves."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from flask import Flask
from flask_migrate import upgrade
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from invoice import clock
from invoice.cli.processes import ENGINE, HOST, address, listen, only_one, until_told
from invoice.cli.stand_in import simulator_environ, simulator_server
from invoice.config import Settings
from invoice.names import new_secret
from invoice.services import partners
from invoice.services.jobs import beat
from invoice.services.operations import end_leases
from invoice.simulator.app import create_simulator

DEMO_PARTNER = 10295
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


def run_demo(create_app: CreateApp, port: int, data: Path) -> None:
    """Run it all until told to stop; one folder holds one demo."""
    data.mkdir(parents=True, exist_ok=True)
    with only_one(data), until_told() as told:
        _run_demo(create_app, port, data.resolve(), told)


def _run_demo(create_app: CreateApp, port: int, data: Path, told: threading.Event) -> None:
    # Whoever tries things out reads what is printed below, not who was let in.
    logging.getLogger("invoice").setLevel(logging.WARNING)
    kept = _kept(data)
    try:
        simulator = create_simulator(data, base_url=address(port + 1))
    except ValueError as error:  # the folder's memory is of another version
        raise click.ClickException(str(error)) from error
    clock.follow(simulator.clock.now)
    app = create_app(Settings.from_environ(_demo_environ(port, data, kept.secret_key)))
    servers = [listen(port, _service_server, app), listen(port + 1, simulator_server, simulator)]
    engine = app.extensions[ENGINE]
    with app.app_context():
        upgrade()
        # This process holds the folder's lock: whoever had claims is dead.
        end_leases()
        if not partners.exists(DEMO_PARTNER):
            secret, limit = kept.partner_secret, 60_000  # so that nobody who tries things out in bulk is held up
            partners.add(DEMO_PARTNER, "Treningsglede", sms_originator="2119", secret=secret, request_limit=limit)
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
        "INVOICE_JOURNAL": str(data / "journal.json"),
        "INVOICE_PUBLIC_URL": address(port),
        "INVOICE_SECRET_KEY": secret_key,
        **simulator_environ(address(port + 1)),
    }


def _tell_demo(port: int, kept: _Kept) -> None:
    service, simulator = address(port), address(port + 1)
    click.echo(f"service    {service}")
    click.echo(f"simulator  {simulator}/sim/")
    click.echo(f"phone      {simulator}/sim/phone/4712457890")
    click.echo(f"partner {DEMO_PARTNER} secret {kept.partner_secret}")
    click.echo("\nSend the documented request:\n")
    click.echo(f"curl -u {DEMO_PARTNER}:{kept.partner_secret} -H 'Content-Type: application/json' \\")
    click.echo(f"  -d '{_EXAMPLE}' \\\n  {service}/api/recurring/subscribe\n")
    click.echo("Then open the phone, tap the link, and move its clock. Ctrl-C stops; the data stays.")


def _service_server(port: int, app: Flask) -> BaseWSGIServer:
    return make_server(HOST, port, app, threaded=True, request_handler=_Quiet)
