"""Settings: all that is wrong is told at once, and no secret with it."""

from __future__ import annotations

import os
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from invoice.config import Settings, environ
from invoice.errors import ConfigError
from tests.conftest import environ_for

BASE = environ_for("sqlite:///x.sqlite3")
SECRETS = (
    "INVOICE_SECRET_KEY",
    "VIPPS_CLIENT_ID",
    "VIPPS_CLIENT_SECRET",
    "VIPPS_SUBSCRIPTION_KEY",
    "TWILIO_AUTH_TOKEN",
)
REQUIRED = (
    *("INVOICE_PUBLIC_URL", "INVOICE_SECRET_KEY", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "VIPPS_BASE_URL"),
    *("VIPPS_CLIENT_ID", "VIPPS_CLIENT_SECRET", "VIPPS_MERCHANT_SERIAL_NUMBER", "VIPPS_SUBSCRIPTION_KEY"),
)


def settings_with(**changes: str) -> Settings:
    return Settings.from_environ({**BASE, **changes})


def complaint_about(**changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        settings_with(**changes)
    return caught.value.message


def test_settings_are_read() -> None:
    settings = settings_with(INVOICE_LEAD_DAYS="7", INVOICE_ENGINE="distributed")

    assert settings.invoice_public_url == "https://pay.example.com"
    assert settings.invoice_lead_days == 7
    assert settings.invoice_engine == "distributed"


def test_what_is_not_set_has_its_default() -> None:
    settings = Settings.from_environ({name: BASE[name] for name in REQUIRED})

    assert settings.invoice_database_url == "sqlite:///invoice.sqlite3"
    assert (settings.invoice_lead_days, settings.invoice_retry_days, settings.invoice_link_days) == (3, 5, 14)
    assert settings.twilio_base_url == ""
    caps = (settings.invoice_sms_per_product, settings.invoice_sms_per_number, settings.invoice_sms_per_partner)
    assert caps == (1, 3, 1000)
    assert settings.sms_countries == ("+47", "+45", "+358", "+46")
    assert "vipps.dk" in settings.landing_domains


@pytest.mark.parametrize(
    ("database", "engine"),
    [("sqlite:///x.sqlite3", "inline"), ("postgresql+psycopg://u:p@h/d?sslmode=verify-full", "distributed")],
)
def test_the_engine_follows_the_database(database: str, engine: str) -> None:
    assert settings_with(INVOICE_DATABASE_URL=database).invoice_engine == engine


def test_other_variables_of_the_machine_do_not_matter() -> None:
    assert settings_with(PATH="/bin", INVOICE_OF_NEXT_YEAR="1") == settings_with()


@pytest.mark.parametrize("name", ["INVOICE_PUBLIC_URL", "VIPPS_BASE_URL", "TWILIO_BASE_URL"])
def test_an_address_loses_its_last_slash(name: str) -> None:
    settings = settings_with(**{name: "https://there.example.com/"})

    assert getattr(settings, name.lower()) == "https://there.example.com"


def test_settings_do_not_change() -> None:
    settings = settings_with()

    with pytest.raises(FrozenInstanceError):
        settings.invoice_lead_days = 5  # type: ignore[misc]


# What is wrong

WRONG = {
    "INVOICE_DATABASE_URL": "mysql://me:canary-1@there/x",
    "INVOICE_PUBLIC_URL": "http://pay.example.com/canary-2",
    "INVOICE_SECRET_KEY": "canary-3-too-short",
    "INVOICE_ENGINE": "canary-4",
    "INVOICE_LEAD_DAYS": "canary-5",
    "INVOICE_RETRY_DAYS": "15",
    "INVOICE_LINK_DAYS": "0",
    "INVOICE_SMS_PER_PRODUCT": "-1",
    "INVOICE_SMS_PER_NUMBER": "canary-11",
    "INVOICE_SMS_PER_PARTNER": "1000001",
    "INVOICE_SMS_COUNTRIES": "canary-12",
    "VIPPS_BASE_URL": "ftp://canary-6.example.com",
    "VIPPS_CLIENT_ID": "",
    "VIPPS_CLIENT_SECRET": "",
    "VIPPS_SUBSCRIPTION_KEY": "",
    "VIPPS_MERCHANT_SERIAL_NUMBER": "canary-7",
    "VIPPS_LANDING_DOMAINS": "canary-8,,x",
    "TWILIO_BASE_URL": "canary-9",
    "TWILIO_ACCOUNT_SID": "canary-10",
    "TWILIO_AUTH_TOKEN": "",
}


def test_everything_that_is_wrong_is_told_at_once() -> None:
    message = complaint_about(**WRONG)

    first, *lines = message.splitlines()
    assert first == "These settings are missing or wrong:"
    assert [line.split(":")[0].strip() for line in lines] == sorted(WRONG)


def test_no_complaint_repeats_a_value() -> None:
    assert "canary" not in complaint_about(**WRONG)


def test_no_complaint_carries_the_values_behind_it() -> None:
    with pytest.raises(ConfigError) as caught:
        settings_with(**WRONG)

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_everything_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ({})

    lines = caught.value.message.splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == sorted(REQUIRED)


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_setting_is_told_alone(name: str) -> None:
    lines = complaint_about(**{name: WRONG[name]}).splitlines()[1:]

    assert [line.split(":")[0].strip() for line in lines] == [name]


@pytest.mark.parametrize(
    "there",
    [
        "/x?host=db&host=/run/pg",
        *("u:p@db.example.com/x", "u:p@10.0.0.7:5432/x", "/x?host=db", "u@[2001:db8::1]/x", "/x?hostaddr=10.0.0.7"),
        *(
            "u@localhost/x?hostaddr=10.0.0.7",
            "/x?host=/tmp/pg,db",
            "/x?host=db&host=/run/pg",
            "/x?service=elsewhere",
            "u@localhost/x?host=db",
        ),
    ],
)
def test_a_database_on_another_machine_is_never_reached_in_clear(there: str) -> None:
    address = f"postgresql+psycopg://{there}"
    more = f"{address}{'&' if '?' in address else '?'}"
    assert "sslmode=verify-full" in complaint_about(INVOICE_DATABASE_URL=address)

    for mode in ("disable", "allow", "prefer", "", "verify-full%00", "Require", "require&sslmode=disable"):
        assert "sslmode=verify-full" in complaint_about(INVOICE_DATABASE_URL=f"{more}sslmode={mode}")
    for mode in ("require", "verify-ca", "verify-full"):
        said = f"{more}sslmode={mode}"
        assert settings_with(INVOICE_DATABASE_URL=said).invoice_database_url == said


@pytest.mark.parametrize("name", ["PGHOST", "PGHOSTADDR", "PGSERVICE"])
def test_no_variable_of_postgresqls_client_leads_elsewhere_in_clear(name: str) -> None:
    address = "postgresql+psycopg:///x"
    for elsewhere in ("db.example.com", "10.0.0.7", "/run/pg,db"):
        assert "PGHOST" in complaint_about(INVOICE_DATABASE_URL=address, **{name: elsewhere})
        assert settings_with(INVOICE_DATABASE_URL=f"{address}?sslmode=verify-full", **{name: elsewhere})
        assert settings_with(**{name: elsewhere}).invoice_database_url == BASE["INVOICE_DATABASE_URL"]
    assert settings_with(INVOICE_DATABASE_URL=address, **{name: "/var/run/postgresql"}).invoice_database_url == address


@pytest.mark.parametrize("here", ["/x", "u:p@localhost/x", "u:p@127.0.0.1:5432/x", "u@/x?host=/tmp/pg", "u@[::1]/x"])
def test_a_database_on_this_machine_needs_no_tls(here: str) -> None:
    address = f"postgresql+psycopg://{here}"

    assert settings_with(INVOICE_DATABASE_URL=address).invoice_database_url == address


def test_a_database_address_that_nobody_can_read_is_wrong() -> None:
    assert "INVOICE_DATABASE_URL" in complaint_about(INVOICE_DATABASE_URL="postgresql+psycopg://u@[there/x")


@pytest.mark.parametrize("name", ["INVOICE_PUBLIC_URL", "VIPPS_BASE_URL", "TWILIO_BASE_URL"])
@pytest.mark.parametrize(
    "address",
    [
        "pay.example.com",
        "//pay.example.com",
        "ftp://pay.example.com",
        "http://pay.example.com",
        "https://",
        "https://pay.example.com/path",
        "https://pay.example.com?a=b",
        "https://pay.example.com#part",
        "https://me:secret@pay.example.com",
        "https://[pay.example.com",
        "https://pay.example.com:port",
        "https://pay.example.com:99999",
        "https://pay.example.com\n",
        "https://pay.example.com\r",
        " https://pay.example.com",
        "https://pay example.com",
    ],
)
def test_what_is_no_plain_address_is_wrong(name: str, address: str) -> None:
    message = complaint_about(**{name: address})

    assert name in message


@pytest.mark.parametrize(
    "address", ["http://localhost:5000", "http://127.0.0.1:5000", "http://[::1]:5000", "https://pay.example.com:8443"]
)
def test_this_machine_and_other_ports_are_addresses(address: str) -> None:
    assert settings_with(INVOICE_PUBLIC_URL=address).invoice_public_url == address


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("INVOICE_LEAD_DAYS", ("0", "15", "-1", "1.5", "", "three")),
        ("INVOICE_RETRY_DAYS", ("-1", "15")),
        ("INVOICE_LINK_DAYS", ("0", "91")),
        ("INVOICE_SMS_PER_NUMBER", ("-1", "1001", "many")),
        ("INVOICE_SMS_PER_RANGE", ("-1", "10001", "many")),
        ("INVOICE_SMS_OPENED_PERCENT", ("-1", "101", "20%")),
        ("INVOICE_SMS_COUNTRIES", ("", "47", "+0", "+47,", "+47 +45", "+47,+45\n", "+1234", "\u0661")),
        ("VIPPS_MERCHANT_SERIAL_NUMBER", ("123", "12345678901", "12345\n", "\u0661\u0662\u0663\u0664")),
        ("TWILIO_ACCOUNT_SID", ("AC" + "0" * 31, "AC" + "0" * 32 + "\n", "SK" + "0" * 32)),
        ("INVOICE_SECRET_KEY", ("", "x" * 31)),
    ],
)
def test_a_value_outside_its_range_is_wrong(name: str, values: tuple[str, ...]) -> None:
    for value in values:
        assert name in complaint_about(**{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [("INVOICE_LEAD_DAYS", ("1", "14")), ("INVOICE_RETRY_DAYS", ("0", "14")), ("INVOICE_LINK_DAYS", ("1", "90"))],
)
def test_a_value_at_the_edge_of_its_range_is_right(name: str, values: tuple[str, ...]) -> None:
    for value in values:
        assert getattr(settings_with(**{name: value}), name.lower()) == int(value)


# Where partners may have us call


def test_the_hosts_of_partners_may_be_listed() -> None:
    assert settings_with().callback_hosts == ()
    assert settings_with(INVOICE_CALLBACK_HOSTS="partner.no,*.a-b.example.com").callback_hosts == (
        "partner.no",
        "*.a-b.example.com",
    )


@pytest.mark.parametrize(
    "hosts",
    ["*", "*.no.", "com", "*.com*", "a.b,", "a.b, c.d", "https://a.no", "a.no:443", "A.no", "10.0.0.1", "*.-a.no"],
)
def test_what_is_no_list_of_hosts_is_refused(hosts: str) -> None:
    assert "INVOICE_CALLBACK_HOSTS" in complaint_about(INVOICE_CALLBACK_HOSTS=hosts)


# Settings in files, as a vault hands them over


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("from a vault\n")
    path.chmod(0o440)
    return path


def with_file(name: str, path: Path, **more: str) -> Settings:
    without = {key: value for key, value in BASE.items() if key != name}
    return Settings.from_environ({**without, **more, f"{name}_FILE": str(path)})


def test_a_setting_may_stand_in_a_file(kept: Path) -> None:
    assert with_file("TWILIO_AUTH_TOKEN", kept).twilio_auth_token == "from a vault"
    assert with_file("VIPPS_CLIENT_SECRET", kept).vipps_client_secret == "from a vault"


@pytest.mark.parametrize("mode", [0o444, 0o442, 0o441, 0o666])
def test_a_file_that_everybody_may_open_is_refused(kept: Path, mode: int) -> None:
    kept.chmod(mode)

    with pytest.raises(ConfigError, match="TWILIO_AUTH_TOKEN: stands in a file that everybody"):
        with_file("TWILIO_AUTH_TOKEN", kept)


def test_a_file_that_is_not_there_or_is_not_the_only_word_is_told_with_the_rest(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        with_file("TWILIO_AUTH_TOKEN", tmp_path / "none", VIPPS_CLIENT_SECRET_FILE=str(kept), INVOICE_LEAD_DAYS="0")

    names = [line.split(":")[0].strip() for line in caught.value.message.splitlines()[1:]]
    assert names == ["INVOICE_LEAD_DAYS", "TWILIO_AUTH_TOKEN", "VIPPS_CLIENT_SECRET"]
    assert "vault" not in caught.value.message


def test_what_stands_in_a_file_is_checked_like_the_rest(kept: Path) -> None:
    kept.chmod(0o600)
    kept.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="TWILIO_AUTH_TOKEN: stands in a file that cannot be read"):
        with_file("TWILIO_AUTH_TOKEN", kept)
    kept.write_text("x" * 40)
    with pytest.raises(ConfigError, match="INVOICE_SECRET_KEY: must begin with a random key"):
        with_file("INVOICE_SECRET_KEY", kept)


# Secrets


def test_settings_show_no_secret_when_they_are_printed() -> None:
    secrets = {name: f"canary-{number}-R4nD0mEnough7Kq2Zt9WxPv3" for number, name in enumerate(SECRETS)}
    settings = settings_with(
        **secrets,
        INVOICE_DATABASE_URL="postgresql+psycopg://me:canary@there/x?sslmode=verify-full",
        TWILIO_ACCOUNT_SID="AC" + "canary00" * 4,
    )

    assert "canary" not in repr(settings)
    assert "canary" not in str(settings)


# What others derive from them


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("https://pay.example.com", ["pay.example.com"]),
        ("https://pay.example.com:8443", ["pay.example.com"]),
        ("http://127.0.0.1:5000", ["localhost", "127.0.0.1"]),
    ],
)
def test_the_hosts_that_a_request_may_name_follow_the_public_address(address: str, trusted: list[str]) -> None:
    settings = settings_with(INVOICE_PUBLIC_URL=address)

    assert settings.trusted_hosts == trusted


@pytest.mark.parametrize(
    ("address", "more", "public", "trusted"),
    [
        ("https://pay.example.com", "", ("pay.example.com",), ["pay.example.com"]),
        ("https://Pay.example.com:8443", "", ("pay.example.com:8443",), ["pay.example.com"]),
        (
            "https://pay.example.com",
            "pay.customer.no,pay.example.com,other.no:8443",
            ("pay.example.com", "pay.customer.no", "other.no:8443"),
            ["pay.example.com", "pay.customer.no", "pay.example.com", "other.no"],
        ),
        ("http://localhost:8000", "", ("localhost:8000", "127.0.0.1:8000"), ["localhost", "127.0.0.1"]),
    ],
)
def test_more_hosts_may_be_called_and_signed_for(
    address: str, more: str, public: tuple[str, ...], trusted: list[str]
) -> None:
    settings = settings_with(INVOICE_PUBLIC_URL=address, INVOICE_MORE_HOSTS=more)

    assert (settings.public_hosts, settings.trusted_hosts) == (public, trusted)


@pytest.mark.parametrize(
    "hosts", ["https://a.no", "a.no,", "A.no", "a b.no", "a.no/x", "a.no:0", "a.no\n", ".no", "ø.no"]
)
def test_what_is_no_host_is_refused(hosts: str) -> None:
    assert "INVOICE_MORE_HOSTS: must be hosts" in complaint_about(INVOICE_MORE_HOSTS=hosts)


@pytest.mark.parametrize("count", ["-1", "11", "one", "1.5"])
def test_a_wrong_number_of_proxies_is_refused(count: str) -> None:
    assert "INVOICE_TRUSTED_PROXIES" in complaint_about(INVOICE_TRUSTED_PROXIES=count)


def test_no_proxy_is_trusted_unless_it_is_said() -> None:
    assert settings_with().invoice_trusted_proxies == 0


def test_our_forms_lead_to_vipps_and_its_landing_pages_only() -> None:
    settings = settings_with(VIPPS_LANDING_DOMAINS="vipps.no,vipps.dk")

    assert settings.form_targets == "https://vipps.example.com https://*.vipps.no https://*.vipps.dk"


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOICE_LEAD_DAYS", "9")

    assert environ()["INVOICE_LEAD_DAYS"] == os.environ["INVOICE_LEAD_DAYS"] == "9"
