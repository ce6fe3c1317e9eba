"""`flask simulator`: the stand-in for Vipps and Twilio by itself."""

from __future__ import annotations

import threading
from pathlib import Path

import click
from werkzeug.serving import BaseWSGIServer

from invoice.cli.processes import HOST, address, listen, only_one, until_told
from invoice.simulator.accounts import DEMO_TWILIO, DEMO_UNIT
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.serving import make_simulator_server


@click.command("simulator")
@click.option("--port", default=9000, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path("simulator-data"), show_default=True)
def simulator(port: int, data: Path) -> None:
    """Run the stand-in for Vipps and Twilio by itself."""
    data.mkdir(parents=True, exist_ok=True)
    with only_one(data), until_told() as told:
        stand_in = create_simulator(data.resolve(), base_url=address(port))
        _serve_simulator(stand_in, port, told)


def _serve_simulator(stand_in: Simulator, port: int, told: threading.Event) -> None:
    server = listen(port, simulator_server, stand_in)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in.start()
    click.echo(f"simulator  {address(port)}/sim/\n\nSettings for the service:\n")
    for name, value in simulator_environ(address(port)).items():
        click.echo(f"export {name}={value}")
    told.wait()
    server.shutdown()
    stand_in.stop()


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


def simulator_server(port: int, stand_in: Simulator) -> BaseWSGIServer:
    return make_simulator_server(stand_in, HOST, port)
