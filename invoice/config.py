"""Settings: typed, frozen, read once from the environment; everything wrong is told in one message.

The only reader of the environment. No behaviour hangs on the name of an environment: an address points at Vipps, at
Vipps' test environment, or at the simulator.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from marshmallow import EXCLUDE, Schema, ValidationError, validate
from marshmallow import fields as ma

from invoice.ciphers import weakness_of
from invoice.errors import ConfigError
from invoice.phone import COUNTRY_CODES

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# The modes of PostgreSQL's client that never go on in clear.
_TLS = ("require", "verify-ca", "verify-full")
_HOST = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[1-9][0-9]{0,4})?"
_HOSTS = re.compile(f"{_HOST}(?:,{_HOST})*")
_NAME = r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]"
_CALLBACK_HOSTS = re.compile(f"{_NAME}(?:,{_NAME})*")
# Relative to the `instance` folder beside app.py.
DEFAULT_DATABASE_URL = "sqlite:///invoice.sqlite3"


def _web_address(value: str) -> None:
    try:
        parts = urlsplit(value)
        is_plain = parts.port != 0 and value.rstrip("/") == f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        raise ValidationError("must be an address such as https://pay.example.com, without path or query") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain or set(value) & set(" @\\"):
        raise ValidationError("must be an address such as https://pay.example.com, without path or query")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValidationError("must use https (only this machine's own addresses may use http)")


def _database(value: str) -> None:
    if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValidationError("must begin with sqlite:/// or postgresql+psycopg://")
    try:
        parts = urlsplit(value)
        said = parse_qs(parts.query, keep_blank_values=True)
        named = [parts.hostname or "", *(",".join(said.get(name, ())) for name in ("host", "hostaddr", "service"))]
    except ValueError:
        raise ValidationError("must be an address that can be read") from None
    # Without a word about it PostgreSQL's client goes on in clear when the server has no TLS.
    if not all(map(_is_here, named)) and not _has_tls(said):
        raise ValidationError("must end with ?sslmode=verify-full (or verify-ca, or require): it is on another machine")


def _is_here(hosts: str) -> bool:
    return all(not host or host in _LOOPBACK or host.startswith("/") for host in hosts.split(","))


def _has_tls(said: Mapping[str, list[str]]) -> bool:
    return len(said.get("sslmode", ())) == 1 and said["sslmode"][0] in _TLS


def _led_elsewhere(given: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what is wrong with variables that PostgreSQL's client reads by itself: none may lead away in clear."""
    address = given.get("INVOICE_DATABASE_URL", "")
    is_here = all(_is_here(given.get(name, "")) for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"))
    if is_here or not address.startswith("postgresql") or _has_tls(parse_qs(address.partition("?")[2])):
        return {}
    return {
        "INVOICE_DATABASE_URL": ["must end with ?sslmode=verify-full: PGHOST, PGHOSTADDR or PGSERVICE lead elsewhere"]
    }


def _hosts(value: str) -> None:
    if value and not _HOSTS.fullmatch(value):
        raise ValidationError("must be hosts such as pay.example.com, separated by commas")


def _callback_hosts(value: str) -> None:
    if value and not _CALLBACK_HOSTS.fullmatch(value):
        raise ValidationError("must be hosts such as partner.example.com or *.example.com, separated by commas")


def _secret_keys(value: str) -> None:
    """One key, or several with the newest first, so that what older ones encrypted can still be read."""
    keys = [key.strip() for key in value.split(",")]
    if any(len(key) < 32 for key in keys):
        raise ValidationError("must be at least 32 characters (each key, when several are separated by commas)")
    # An older one may be weak: what it sealed must be read, to be sealed anew.
    if weakness := weakness_of(keys[0]):
        raise ValidationError(
            f"must begin with a random key, but of this one {weakness}: put what `openssl rand -hex 32` prints before "
            "it, with a comma between, and run `flask vipps keys encrypt`"
        )


class _SettingsSchema(Schema):
    class Meta:
        unknown = EXCLUDE

    INVOICE_DATABASE_URL = ma.String(load_default=DEFAULT_DATABASE_URL, validate=_database)
    INVOICE_PUBLIC_URL = ma.String(required=True, validate=_web_address)
    INVOICE_SECRET_KEY = ma.String(required=True, validate=_secret_keys)
    INVOICE_MORE_HOSTS = ma.String(load_default="", validate=_hosts)
    # Where partners may have us call, beside being public; empty: any public host.
    INVOICE_CALLBACK_HOSTS = ma.String(load_default="", validate=_callback_hosts)
    INVOICE_TRUSTED_PROXIES = ma.Integer(load_default=0, validate=validate.Range(0, 10))
    INVOICE_ENGINE = ma.String(load_default=None, allow_none=True, validate=validate.OneOf(["inline", "distributed"]))
    INVOICE_LEAD_DAYS = ma.Integer(load_default=3, validate=validate.Range(1, 14))
    INVOICE_RETRY_DAYS = ma.Integer(load_default=5, validate=validate.Range(0, 14))
    INVOICE_LINK_DAYS = ma.Integer(load_default=14, validate=validate.Range(1, 90))
    # What a partner's day may come to, in whole kroner or euro, before it is held against its last weeks.
    INVOICE_DAILY_FLOOR = ma.Integer(load_default=1_000_000, validate=validate.Range(0, 10**12))
    # The file in which each worker notes how far the books had come; empty: none, and a restore goes unseen.
    INVOICE_JOURNAL = ma.String(load_default="instance/journal.json")
    # Invitations to one number within 24 hours: by one partner for one product, and texts by all of them; the texts
    # of one partner. 0: no cap.
    INVOICE_SMS_PER_PRODUCT = ma.Integer(load_default=1, validate=validate.Range(0, 1000))
    INVOICE_SMS_PER_NUMBER = ma.Integer(load_default=3, validate=validate.Range(0, 1000))
    INVOICE_SMS_PER_PARTNER = ma.Integer(load_default=1000, validate=validate.Range(0, 1_000_000))
    # Texts within one hour to numbers that differ in their last four digits only. 0: no cap.
    INVOICE_SMS_PER_RANGE = ma.Integer(load_default=20, validate=validate.Range(0, 10_000))
    # How many of a partner's texts must be opened, of each hundred; with fewer its texts are paused. 0: never.
    INVOICE_SMS_OPENED_PERCENT = ma.Integer(load_default=20, validate=validate.Range(0, 100))
    INVOICE_SMS_COUNTRIES = ma.String(
        load_default=",".join(COUNTRY_CODES), validate=validate.Regexp(r"\A\+[1-9][0-9]{0,2}(,\+[1-9][0-9]{0,2})*\Z")
    )
    VIPPS_BASE_URL = ma.String(required=True, validate=_web_address)
    VIPPS_CLIENT_ID = ma.String(required=True, validate=validate.Length(min=1))
    VIPPS_CLIENT_SECRET = ma.String(required=True, validate=validate.Length(min=1))
    VIPPS_SUBSCRIPTION_KEY = ma.String(required=True, validate=validate.Length(min=1))
    VIPPS_MERCHANT_SERIAL_NUMBER = ma.String(required=True, validate=validate.Regexp(r"\A[0-9]{4,10}\Z"))
    # Where Vipps' confirmation addresses may lead. On 2027-01-12 the Danish and Finnish hosts change to vipps.dk and
    # vipps.fi (technical update of October 2026).
    VIPPS_LANDING_DOMAINS = ma.String(
        load_default="vipps.no,vipps.dk,vipps.fi,mobilepay.dk,mobilepay.fi,vippsmobilepay.com",
        validate=validate.Regexp(r"\A[a-z0-9.-]+(,[a-z0-9.-]+)*\Z"),
    )
    TWILIO_BASE_URL = ma.String(load_default="", validate=lambda v: _web_address(v) if v else None)
    TWILIO_ACCOUNT_SID = ma.String(required=True, validate=validate.Regexp(r"\AAC[0-9A-Za-z]{32}\Z"))
    TWILIO_AUTH_TOKEN = ma.String(required=True, validate=validate.Length(min=1))


@dataclass(frozen=True)
class Settings:
    """Everything that differs between installations. Secrets do not show in `repr`."""

    invoice_database_url: str = field(repr=False)
    invoice_public_url: str
    invoice_secret_key: str = field(repr=False)
    invoice_more_hosts: str
    invoice_callback_hosts: str
    invoice_trusted_proxies: int
    invoice_engine: str
    invoice_lead_days: int
    invoice_retry_days: int
    invoice_link_days: int
    invoice_daily_floor: int
    invoice_journal: str
    invoice_sms_per_product: int
    invoice_sms_per_number: int
    invoice_sms_per_partner: int
    invoice_sms_per_range: int
    invoice_sms_opened_percent: int
    invoice_sms_countries: str
    vipps_base_url: str
    vipps_client_id: str = field(repr=False)
    vipps_client_secret: str = field(repr=False)
    vipps_subscription_key: str = field(repr=False)
    vipps_merchant_serial_number: str
    vipps_landing_domains: str
    twilio_base_url: str
    twilio_account_sid: str = field(repr=False)
    twilio_auth_token: str = field(repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check all settings. Each stands in the environment, or in the file that `NAME_FILE` names there.

        Raises ConfigError with one line for each setting that is missing or wrong.
        """
        given, wrong = _with_files(environ)
        wrong |= _led_elsewhere(given)
        try:
            values: dict[str, Any] = _SettingsSchema().load(given)
        except ValidationError as error:
            wrong = {**error.normalized_messages(), **wrong}  # type: ignore[no-untyped-call]
        if wrong:
            lines = [f"  {name}: {' '.join(map(str, said))}" for name, said in sorted(wrong.items())]
            raise ConfigError("These settings are missing or wrong:\n" + "\n".join(lines)) from None
        if values["INVOICE_ENGINE"] is None:
            local = values["INVOICE_DATABASE_URL"].startswith("sqlite")
            values["INVOICE_ENGINE"] = "inline" if local else "distributed"
        for name in ("INVOICE_PUBLIC_URL", "VIPPS_BASE_URL", "TWILIO_BASE_URL"):
            values[name] = values[name].rstrip("/")
        return cls(**{f.name: values[f.name.upper()] for f in fields(cls)})

    @property
    def trusted_hosts(self) -> list[str]:
        """The hosts that a request may name; on this machine each of its names."""
        host = urlsplit(self.invoice_public_url).hostname or ""
        own = list(_LOOPBACK[:2]) if host in _LOOPBACK else [host]
        return own + [more.partition(":")[0] for more in self._more_hosts]

    @property
    def public_hosts(self) -> tuple[str, ...]:
        """The hosts, with a port that is not the usual one, that a signed request may have been made for."""
        parts = urlsplit(self.invoice_public_url)
        port = f":{parts.port}" if parts.port else ""
        hosts = _LOOPBACK[:2] if parts.hostname in _LOOPBACK else (parts.hostname or "",)
        return tuple(dict.fromkeys([*(host + port for host in hosts), *self._more_hosts]))

    @property
    def _more_hosts(self) -> list[str]:
        return [host for host in self.invoice_more_hosts.split(",") if host]

    @property
    def callback_hosts(self) -> tuple[str, ...]:
        """The hosts that partners may have us call, `*.` before a name standing for all below it; none: all."""
        return tuple(host for host in self.invoice_callback_hosts.split(",") if host)

    @property
    def is_local(self) -> bool:
        """Whether we are published on this machine only, as in the demo."""
        return urlsplit(self.invoice_public_url).hostname in _LOOPBACK

    @property
    def landing_domains(self) -> tuple[str, ...]:
        """The domains on whose hosts Vipps' confirmation addresses may lie."""
        return tuple(self.vipps_landing_domains.split(","))

    @property
    def sms_countries(self) -> tuple[str, ...]:
        """The country codes of numbers that texts are sent to."""
        return tuple(self.invoice_sms_countries.split(","))

    @property
    def form_targets(self) -> str:
        """Where our forms may lead, as sources of a Content-Security-Policy."""
        return " ".join([self.vipps_base_url, *(f"https://*.{domain}" for domain in self.landing_domains)])


def _with_files(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the settings with those that stand in files, as a vault hands them over, and what is wrong with these."""
    given, wrong = dict(environ), dict[str, list[str]]()
    for name in _SettingsSchema().fields:
        if path := environ.get(f"{name}_FILE"):
            try:
                given[name] = _secret_in(Path(path), is_twice=name in environ)
            except ValidationError as error:
                wrong[name] = [str(each) for each in error.messages]
    return given, wrong


def _secret_in(path: Path, *, is_twice: bool) -> str:
    """Return what a file holds, without the end of its line."""
    if is_twice:
        raise ValidationError("is given twice, itself and as a file")
    try:
        if path.stat().st_mode & 0o007:
            raise ValidationError("stands in a file that everybody on this machine may open: chmod o-rwx")
        return path.read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError):
        raise ValidationError("stands in a file that cannot be read") from None


def environ() -> Mapping[str, str]:
    """Return the environment of this process."""
    return os.environ
