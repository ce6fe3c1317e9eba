"""What `flask simulator` runs: the stand-in for Vipps and Twilio by itself, and the settings that point at it."""

from __future__ import annotations

import threading
from pathlib import Path

import click
from werkzeug.serving import BaseWSGIServer

from invoice.cli.processes import HOST, address, listen, only_one, until_told
from invoice.simulator.accounts import DEMO_TWILIO, DEMO_UNIT, UNITS, SalesUnit
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.reach import check_surroundings, surroundings
from invoice.simulator.serving import make_simulator_server

_BY_MARKET = {unit.market.country: unit for unit in UNITS.values()}


def run_simulator(port: int, data: Path, market: str) -> None:
    """Run it until told to stop. market: of the sales unit whose settings are shown."""
    try:
        check_surroundings(surroundings())
        data.mkdir(parents=True, exist_ok=True)
        with only_one(data), until_told() as told:
            stand_in = create_simulator(data.resolve(), base_url=address(port))
            _serve_simulator(stand_in, simulator_environ(address(port), _BY_MARKET[market]), port, told)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _serve_simulator(stand_in: Simulator, settings: dict[str, str], port: int, told: threading.Event) -> None:
    server = listen(port, simulator_server, stand_in)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in.start()
    click.echo(f"simulator  {address(port)}/sim/\n\nSettings for the service:\n")
    for name, value in settings.items():
        click.echo(f"export {name}={value}")
    told.wait()
    server.shutdown()
    stand_in.stop()


def simulator_environ(base_url: str, unit: SalesUnit = DEMO_UNIT) -> dict[str, str]:
    """Return the settings that point at a simulator instead of Vipps and Twilio."""
    return {
        "VIPPS_BASE_URL": base_url,
        "VIPPS_CLIENT_ID": unit.client_id,
        "VIPPS_CLIENT_SECRET": unit.client_secret,
        "VIPPS_SUBSCRIPTION_KEY": unit.subscription_key,
        "VIPPS_MERCHANT_SERIAL_NUMBER": unit.merchant_serial_number,
        "TWILIO_BASE_URL": base_url,
        "TWILIO_ACCOUNT_SID": DEMO_TWILIO.account_sid,
        "TWILIO_AUTH_TOKEN": DEMO_TWILIO.auth_token,
        # Whoever tries things out has one phone, and asks for the same again and again.
        "INVOICE_SMS_PER_PRODUCT": "0",
        "INVOICE_SMS_PER_NUMBER": "0",
        "INVOICE_SMS_PER_RANGE": "0",
    }


def simulator_server(port: int, stand_in: Simulator) -> BaseWSGIServer:
    return make_simulator_server(stand_in, HOST, port)
