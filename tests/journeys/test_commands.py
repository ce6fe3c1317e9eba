"""The commands that an installation is run with: service and simulator as processes of their own, on machine time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from invoice.cli.stand_in import simulator_environ
from tests.journeys.demo import EXCHANGES, ROOT, Demo, approve, free_port, press, recorded
from tests.journeys.test_story import MONTHLY

pytestmark = pytest.mark.journey

FLASK = shutil.which("flask", path=str(Path(sys.executable).parent)) or "flask"


@contextmanager
def running(arguments: list[str], environ: dict[str, str], log: Path) -> Iterator[None]:
    """Run a command of `flask` until the block ends, then ask it to stop and see that it does."""
    with log.open("w") as output:
        command = recorded(log.parent / EXCHANGES, *arguments) if arguments[0] == "simulator" else [FLASK, *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def patient(url: str, *, until_ready: bool = False) -> requests.Response:
    """GET an address that may not be there yet."""
    retries = Retry(
        total=120,
        backoff_factor=0.1,
        backoff_max=0.5,
        status_forcelist=[503] if until_ready else [],
        respect_retry_after_header=False,
    )
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retries))
        return session.get(url, timeout=30)


def flask(arguments: list[str], environ: dict[str, str]) -> str:
    done = subprocess.run([FLASK, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_an_installation_runs_the_story_against_a_simulator(tmp_path: Path, engine: str):
    demo = Demo(tmp_path / "unused")  # its verbs, not its process
    demo.port = free_port()
    demo.service, demo.simulator = f"http://127.0.0.1:{demo.port}", f"http://127.0.0.1:{demo.port + 1}"
    environ = {
        **os.environ,
        **simulator_environ(demo.simulator),
        "INVOICE_PUBLIC_URL": demo.service,
        "INVOICE_SECRET_KEY": "Zq7vKx2mRt9LwPc4Hs8JyBn3Gf6DkUa5",
        "INVOICE_DATABASE_URL": f"sqlite:///{tmp_path / 'invoice.sqlite3'}",
        "INVOICE_ENGINE": engine,
    }
    flask(["db", "upgrade"], environ)
    added = flask(["partner", "add", "10295", "--name", "Treningsglede", "--originator", "2119"], environ)
    demo.secret = added.split()[-1]
    simulator = ["simulator", "--port", str(demo.port + 1), "--data", str(tmp_path / "simulator")]
    service = ["run", "--port", str(demo.port)]

    with (
        running(simulator, environ, tmp_path / "simulator.log"),
        running(service, environ, tmp_path / "service.log"),
        running(["worker"], environ, tmp_path / "worker.log") if engine == "distributed" else _nothing(),
    ):
        assert patient(f"{demo.simulator}/sim/clock").status_code == 200
        assert patient(f"{demo.service}/readyz", until_ready=True).json() == {
            "database": True,
            "migrations": True,
            "engine": True,
        }
        answer = demo.subscribe(MONTHLY)
        assert answer.status_code == 200, answer.text
        back = approve(demo, press(demo, f"{demo.service}/s/{answer.json()['url'].rpartition('/')[2]}"))
        assert demo.post(back).json() == {"state": "done"}
        assert demo.listed()[0]["chargeStatus"] == "Active"

    log = (tmp_path / "service.log").read_text()
    assert "/s/***" in log, "the access log hides what makes a link open"
    assert answer.json()["url"].rpartition("/")[2] not in log


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_rotation_keeps_the_last_secret_and_ends_the_one_before(tmp_path: Path):
    environ = {
        **os.environ,
        **simulator_environ("http://127.0.0.1:9"),
        "INVOICE_PUBLIC_URL": "http://127.0.0.1:9",
        "INVOICE_SECRET_KEY": "Zq7vKx2mRt9LwPc4Hs8JyBn3Gf6DkUa5",
        "INVOICE_DATABASE_URL": f"sqlite:///{tmp_path / 'invoice.sqlite3'}",
    }
    flask(["db", "upgrade"], environ)
    flask(["partner", "add", "7", "--name", "Avisen", "--originator", "Avisen"], environ)

    secrets = {flask(["partner", "rotate", "7"], environ).split()[-1] for _ in range(2)}

    assert len(secrets) == 2
    assert flask(["partner", "list"], environ) == "7\tNO\tAvisen\tAvisen\n"


def test_missing_settings_are_told_together(tmp_path: Path):
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("INVOICE_", "VIPPS_", "TWILIO_"))}

    done = subprocess.run([FLASK, "worker"], cwd=ROOT, env=bare, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    for name in ("INVOICE_PUBLIC_URL", "INVOICE_SECRET_KEY", "VIPPS_CLIENT_ID", "TWILIO_AUTH_TOKEN"):
        assert name in done.stderr
