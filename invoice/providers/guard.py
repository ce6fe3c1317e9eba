"""Where partners may have us call: https to named, public hosts. Asked when an address is registered and at each call.

A partner's address is a stranger's. Without this it could have us call our own network, the cloud's metadata
service or a database, from the inside. One strict parser decides what an address means, so that nothing can mean one
host when it is checked and another when it is called; and what a name leads to is checked where we connect.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from invoice.errors import Invalid

IP = IPv4Address | IPv6Address
# (host, port) -> the addresses of the host, as text. Raises OSError when there are none.
Resolver = Callable[[str, int], Sequence[str]]

# Those that everybody may answer on. 8443 is where many test systems live.
PORTS = frozenset({443, 8443})
_THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]")
# Names that never lead out of a network. Source: RFC 6761, 6762, 8375, 9476; ICANN's reservation of .internal (2024).
_INNER = ("localhost", "local", "internal", "localdomain", "lan", "home.arpa", "onion", "alt")

_ESCAPED = "%[0-9a-f]{2}"
_SHAPE = re.compile(
    r"(?P<scheme>https?)://"
    rf"(?:(?P<login>(?:[a-z0-9._~!$&'()*+,;=:-]|{_ESCAPED})*)@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    rf"(?P<path>(?:/(?:[a-z0-9._~!$&'()*+,;=:@/-]|{_ESCAPED})*)?)"
    rf"(?P<query>(?:\?(?:[a-z0-9._~!$&'()*+,;=:@/?\[\]-]|{_ESCAPED})*)?)",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# Written out, because what `ipaddress` calls global differs between versions of Python, and holds multicast, 6to4
# and NAT64, through which every inner IPv4 address can be named. Source: IANA special-purpose registries (2026-11).
_CLOSED_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata service of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",  # public by its number, but inside Azure the machine's own platform
    )
)
# Of IPv6 only this is given out to anybody; mapped, NAT64, site-local, unique-local and multicast lie outside it.
_OPEN_6 = IPv6Network("2000::/3")
_CLOSED_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarks, ORCHID and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)


@dataclass(frozen=True)
class Address:
    """A partner's address, taken apart. `host` is lower case, an IPv6 address in brackets; `target` begins with /."""

    scheme: str
    host: str
    port: int
    target: str


def is_public(address: IP) -> bool:
    """Tell whether an address lies on the public internet, with one meaning only."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    return address.scope_id is None and address in _OPEN_6 and not any(address in network for network in _CLOSED_6)


def split_login(url: str) -> tuple[str, str | None]:
    """Return an address without its credentials, and those, still percent-encoded, if there are any.

    Raises Invalid for what is no address.
    """
    parts = _parse(url)
    if parts["login"] is None:
        return url, None
    begin, end = parts.span("login")
    return url[:begin] + url[end + 1 :], parts["login"]


@dataclass(frozen=True)
class Guard:
    """Says which addresses may be called. Its messages are for the partner: they tell nothing of our network."""

    # Whether this machine may be called, by plain http too: only where we are reached on it ourselves, in a demo.
    allows_this_machine: bool = False
    ports: frozenset[int] = PORTS
    resolve: Resolver | None = None  # None: the system's
    may_reach: Callable[[IP], bool] = is_public
    # Those that the operator allows, `*.` before a name for all below it. None: every public host.
    hosts: tuple[str, ...] = ()

    def check(self, url: str) -> Address:
        """Return an address taken apart. Raises Invalid, whose message completes "the address ..."."""
        parts = _parse(url)
        if parts["login"] is not None:
            raise Invalid(message="must not hold credentials.")
        scheme, host = parts["scheme"].lower(), parts["host"].lower()
        port = int(parts["port"] or (443 if scheme == "https" else 80))
        if self.allows_this_machine and host in _THIS_MACHINE:
            if port > 65535:
                raise Invalid(message="must have a port up to 65535.")
        else:
            if scheme != "https":
                raise Invalid(message="must begin with https://.")
            _check_name(host)
            if self.hosts and not any(_is_meant(host, allowed) for allowed in self.hosts):
                raise Invalid(message="must have a host that the operator of this service allows.")
            if port not in self.ports:
                raise Invalid(message=f"must be on port {' or '.join(map(str, sorted(self.ports)))}.")
        return Address(scheme, host, port, (parts["path"] or "/") + parts["query"])

    def addresses(self, address: Address, within_s: float) -> list[str]:
        """Resolve a host once and return where to connect. Every one of its addresses must be public.

        Raises Invalid when one is not, when the name has none, or when none is known in time.
        """
        found = [ip_address(text) for text in _in_time(self.resolve or _ask_system, address, within_s)]
        is_here = self.allows_this_machine and address.host in _THIS_MACHINE
        if not all(self.may_reach(ip) or (is_here and ip.is_loopback) for ip in found):
            raise Invalid(message="must lead to public addresses only.")
        return [str(ip) for ip in dict.fromkeys(found)]


def _parse(url: str) -> re.Match[str]:
    parts = _SHAPE.fullmatch(url)
    if parts is None:
        raise Invalid(
            message="must be a web address in plain ASCII, such as https://www.example.com/a?b=c, without a fragment."
        )
    return parts


def _check_name(host: str) -> None:
    """Refuse what is no full name: numbers in any notation that some resolver takes for an address, inner names."""
    labels = host.split(".")
    if host.startswith("[") or _NUMBER.fullmatch(labels[-1]):
        raise Invalid(message="must name its host, not give its number.")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Invalid(message="must name a host.")
    if len(labels) < 2 or host.endswith(tuple(f".{name}" for name in _INNER)):
        raise Invalid(message="must name a public host.")


def _is_meant(host: str, allowed: str) -> bool:
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def _ask_system(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _in_time(resolve: Resolver, address: Address, within_s: float) -> Sequence[str]:
    """Resolve in a thread of its own: a partner's name server may take its time, and nothing cuts it short."""
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(resolve(address.host.strip("[]"), address.port))
        except (OSError, UnicodeError):
            found.clear()

    asking = threading.Thread(target=ask, name="resolve", daemon=True)
    asking.start()
    asking.join(max(within_s, 0.0))
    if asking.is_alive() or not found:
        raise Invalid(message="must have a host whose name resolves.")
    return found
