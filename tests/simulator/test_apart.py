"""The stand-in keeps to this machine and to its own keys: nobody can take it for the real thing, nor the other way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from invoice.simulator.accounts import DEMO_TWILIO, DEMO_UNIT, UNITS
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.reach import check_surroundings
from invoice.simulator.serving import make_simulator_server
from tests.simulator.conftest import Merchant

ROOT = Path(__file__).parents[2]
FLASK = shutil.which("flask", path=str(Path(sys.executable).parent)) or "flask"
AGREEMENTS = "/recurring/v3/agreements"


@pytest.mark.parametrize(
    "base_url",
    [
        *("https://api.vipps.no", "https://apitest.vipps.no", "https://api.twilio.com", "http://192.168.1.2:9000"),
        *("http://0.0.0.0:9000", "ftp://127.0.0.1/", "http://localhost.vipps.no", "127.0.0.1:9000"),
    ],
)
def test_it_is_not_reached_under_another_name(tmp_path: Path, base_url: str) -> None:
    with pytest.raises(ValueError, match="only on this machine"):
        create_simulator(tmp_path, base_url=base_url)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", ""])  # noqa: S104 - it must refuse
def test_it_listens_on_this_machine_only(simulator: Simulator, host: str) -> None:
    with pytest.raises(ValueError, match="does not listen on"):
        make_simulator_server(simulator, host, 0)


@pytest.mark.parametrize(
    "host", ["api.vipps.no", "apitest.vipps.no", "api.twilio.com", "shop.example.com", "127.0.0.1.example.com", "["]
)
@pytest.mark.parametrize("path", ["/sim/clock", "/2010-04-01/Accounts/x/Messages.json", "/"])
def test_it_answers_to_no_other_name(merchant: Merchant, host: str, path: str) -> None:
    answer = merchant.client.get(path, headers={"Host": host})

    assert answer.status_code == 403
    assert "This is a simulator" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost", "localhost:9000", "[::1]:9000", "127.1.2.3"])
def test_it_answers_to_the_names_of_this_machine(merchant: Merchant, host: str) -> None:
    assert merchant.client.get("/sim/clock", headers={"Host": host}).status_code == 200


REAL = {
    "client_id": "7fa6bd3e-1f2a-4e6c-9a1b-0c8d6f4e2a11",
    "client_secret": "Y8Kteew6GE3ZmeycEt6egg==",
    "Ocp-Apim-Subscription-Key": "0f14ebcab0eb4b29ae0cb90d91b4a84a",
}


@pytest.mark.parametrize("name", REAL)
def test_keys_that_look_real_are_refused_like_a_strangers(refused: Merchant, name: str) -> None:
    assert refused.client.post("/accesstoken/get", headers=REAL).status_code == 401
    assert refused.client.post("/accesstoken/get", headers=refused.keys() | {name: REAL[name]}).status_code == 401


def test_a_real_token_serial_number_or_twilio_account_is_refused(refused: Merchant) -> None:
    token = "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ2aXBwcyJ9.c2lnbmF0dXJl"
    account = f"AC{'1f' * 16}"

    assert refused.client.get(AGREEMENTS, headers=refused.headers() | {"Authorization": token}).status_code == 401
    assert refused.call("GET", AGREEMENTS, **{"Merchant-Serial-Number": "765432"}).status_code == 403
    path = f"/2010-04-01/Accounts/{account}/Messages.json"
    assert refused.client.get(path, auth=(account, "1f" * 16)).status_code == 401


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VIPPS_BASE_URL", "https://api.vipps.no"),
        ("VIPPS_BASE_URL", "https://apitest.vipps.no/"),
        ("VIPPS_BASE_URL", "HTTPS://API.VIPPS.NO"),
        ("VIPPS_BASE_URL", "api.vipps.no"),
        ("TWILIO_BASE_URL", "https://api.twilio.com"),
        ("VIPPS_CLIENT_ID", REAL["client_id"]),
        ("VIPPS_CLIENT_SECRET", REAL["client_secret"]),
        ("VIPPS_SUBSCRIPTION_KEY", REAL["Ocp-Apim-Subscription-Key"]),
        ("VIPPS_MERCHANT_SERIAL_NUMBER", "765432"),
        ("TWILIO_ACCOUNT_SID", f"AC{'1f' * 16}"),
        ("TWILIO_AUTH_TOKEN", "1f" * 16),
    ],
)
def test_real_hosts_and_keys_around_it_are_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        check_surroundings({name: value})

    assert value not in str(caught.value)


def test_its_own_settings_and_other_peoples_do_not_matter() -> None:
    check_surroundings(
        {
            "VIPPS_BASE_URL": "http://127.0.0.1:9000",
            "VIPPS_CLIENT_ID": DEMO_UNIT.client_id,
            "VIPPS_LANDING_DOMAINS": "vipps.no",
            "TWILIO_ACCOUNT_SID": DEMO_TWILIO.account_sid,
            "TWILIO_AUTH_TOKEN": "",
            "HOMEPAGE_URL": "https://vipps.no",
        }
    )
    for msn in UNITS:
        check_surroundings({"VIPPS_MERCHANT_SERIAL_NUMBER": msn})


def run(tmp_path: Path, arguments: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("VIPPS_", "TWILIO_"))}
    command = [FLASK, "simulator", "--data", str(tmp_path / "simulator"), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=bare | environ, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_command_does_not_start_beside_a_real_host(tmp_path: Path) -> None:
    done = run(tmp_path, [], VIPPS_BASE_URL="https://api.vipps.no")

    assert done.returncode == 1
    assert done.stderr.startswith("Error: VIPPS_BASE_URL names a real host.")
    assert not (tmp_path / "simulator").exists()


def test_the_memory_of_another_version_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "simulator").mkdir()
    with sqlite3.connect(tmp_path / "simulator" / "simulator.sqlite3") as old:
        old.execute("CREATE TABLE settings (name TEXT)")
    old.close()

    done = run(tmp_path, [])

    assert done.returncode == 1
    assert "was written by another version" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_sites_cannot_use_the_control_api(merchant: Merchant) -> None:
    answer = merchant.client.post("/sim/switches", json={}, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403


def test_the_control_api_has_no_path_of_the_vendors(simulator: Simulator) -> None:
    rules = {rule.rule for rule in simulator.app.url_map.iter_rules()}
    ours = {rule for rule in rules if rule.startswith("/sim/")}
    vendors = ("/recurring/v3/", "/accesstoken/get", "/webhooks/v1/", "/vipps-userinfo-api/", "/2010-04-01/")

    assert ours
    assert {rule for rule in rules - ours if not rule.startswith((*vendors, "/dwo-api-application/"))} == set()
