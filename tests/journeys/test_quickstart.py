"""The page that a developer reads first: its lines are run as they are printed, against a demo."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from invoice.simulator.funds import MAGIC_NUMBERS, REFUND_REFUSED_AMOUNTS, REFUSED_AMOUNTS, UNKNOWN_FOR_AN_HOUR
from tests.journeys.demo import TIMEOUT_S, Demo

PAGE = (Path(__file__).parents[2] / "docs" / "api" / "quickstart.md").read_text()
LINES = [
    line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if "curl" in line
]


@pytest.mark.journey
def test_the_five_lines_of_the_quickstart_work_as_printed(demo: Demo):
    assert len(LINES) == 5
    script = "\necho\n".join(LINES)
    for printed, real in (("127.0.0.1:8000", demo.service), ("127.0.0.1:8001", demo.simulator)):
        script = script.replace(f"http://{printed}", real)

    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - whichever shell the reader has
        env={**os.environ, "SECRET": demo.secret},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    asked, *_, payments = [line for line in ran.stdout.splitlines() if line]
    assert json.loads(asked)["url"].startswith(f"{demo.service}/api/recurring/process/10295/")
    told = [(each["amount"], each["statusCode"]) for each in json.loads(payments)["transactions"]]
    assert told[:2] == [("10.00", "Captured"), ("12.50", "Captured")]
    assert {code for _, code in told[2:]} == {"Registered"}


def test_the_test_numbers_are_those_of_the_stand_in():
    amounts = {f"{amount / 100:.2f}" for amount in (*REFUSED_AMOUNTS, *REFUND_REFUSED_AMOUNTS, UNKNOWN_FOR_AN_HOUR)}
    table = PAGE.partition("## Test numbers")[2]

    assert set(re.findall(r"\b[0-9]\.[0-9]{2}\b", table)) == amounts
    known = {number for numbers, _ in MAGIC_NUMBERS for number in numbers}
    assert {f"47{number}" for number in re.findall(r"^\| ([0-9]{8}) ", table, re.MULTILINE)} <= known
