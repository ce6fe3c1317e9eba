"""Where the stand-in may be, what it may send to, and what it must never be mistaken for. Pure, but for `surroundings`.

It holds nothing real: it is reached on this machine only, and it does not start next to the vendors' own hosts or keys.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from invoice.simulator.accounts import DEMO_TWILIO, UNITS
from invoice.simulator.fields import is_loopback, url_fault

_VENDORS = ("vipps.no", "vipps.dk", "vipps.fi", "vippsmobilepay.com", "mobilepay.dk", "mobilepay.fi", "twilio.com")
# Source: Vipps Webhooks OpenAPI (2026-04), which names these as the ports that are surely sent to.
_PORTS = (None, 80, 443, 8080)
# Names that are nobody's in the world. Source: RFC 2606, RFC 6761, RFC 6762.
_NOWHERE = ("invalid", "local", "internal", "localhost")


def is_vendors(host: str) -> bool:
    """Whether a host is Vipps' or Twilio's own."""
    host = host.lower().rstrip(".")
    return any(host == vendor or host.endswith(f".{vendor}") for vendor in _VENDORS)


def is_reachable(url: str) -> bool:
    """Whether Vipps would send webhooks there: https, a common port, somewhere in the world. Or this machine."""
    if url_fault(url):
        return False
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if is_loopback(host):
        return True
    return parts.port in _PORTS and _is_in_the_world(host) and not is_vendors(host)


def _is_in_the_world(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and host.rpartition(".")[2] not in _NOWHERE


def check_base_url(base_url: str) -> None:
    """Raise ValueError unless the address is this machine's."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not is_loopback(parts.hostname or ""):
        raise ValueError(f"The simulator runs only on this machine: {base_url!r} is not a loopback address")


def check_host(host: str) -> None:
    """Raise ValueError for an address to listen on that others could reach."""
    if not is_loopback(host):
        raise ValueError(f"The simulator runs only on this machine: it does not listen on {host!r}")


def surroundings() -> Mapping[str, str]:
    """Return the environment of this process."""
    return os.environ


def check_surroundings(environ: Mapping[str, str]) -> None:
    """Raise ValueError if the environment names a vendor's own host, or holds keys that are not the stand-in's own.

    Somebody would believe to be calling the one, and be calling the other.
    """
    for name, value in environ.items():
        if name.startswith(("VIPPS_", "TWILIO_")) and name.endswith("_URL") and is_vendors(host_in(value)):
            raise ValueError(f"{name} names a real host. Start the simulator without it: env -u {name} flask simulator")
        if name in _OWN_KEYS and value and value not in _OWN_KEYS[name]:
            raise ValueError(
                f"{name} holds a key that is not the simulator's own, perhaps a real one. "
                f"Start the simulator without it: env -u {name} flask simulator"
            )


def host_in(value: str) -> str:
    """Return the host in an address or in a Host header; "" if there is none."""
    try:
        return urlsplit(value if "//" in value else f"//{value}").hostname or ""
    except ValueError:
        return ""


_OWN_KEYS = {
    "VIPPS_CLIENT_ID": {unit.client_id for unit in UNITS.values()},
    "VIPPS_CLIENT_SECRET": {unit.client_secret for unit in UNITS.values()},
    "VIPPS_SUBSCRIPTION_KEY": {
        key for unit in UNITS.values() for key in (unit.subscription_key, unit.second_subscription_key)
    },
    "VIPPS_MERCHANT_SERIAL_NUMBER": set(UNITS),
    "TWILIO_ACCOUNT_SID": {DEMO_TWILIO.account_sid},
    "TWILIO_AUTH_TOKEN": {DEMO_TWILIO.auth_token},
}
