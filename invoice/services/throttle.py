"""How often others may knock: failed authentications by partner and address, requests by partner, guessed links.

A share is a bucket in the database, so that all workers count together: it holds a minute's worth at once and empties
evenly. Whoever gets in leaves no trace among the failures; one too many is only looked at, so that guessing takes no
lock and fills no log.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import ceil

from invoice.clock import utc_now
from invoice.errors import Limited
from invoice.store import queries
from invoice.store.db import reading, transaction
from invoice.store.models import RateLimit

_MINUTE = timedelta(minutes=1)
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]+|\[([^\]]+)\](?::[0-9]+)?")
_FAILURES_OF_PARTNER = 20
_FAILURES_OF_ADDRESS = 200
_GUESSES_OF_NETWORK = 100
_PRESSES_OF_LINK = 30
_TOO_MANY_FAILURES = "Too many failed authentications. Wait as long as Retry-After says."
_TOO_MANY_GUESSES = "Too many links that open nothing. Wait as long as Retry-After says."


def look(partner_id: int, address: str) -> None:
    """Raise Limited while too many failures of this partner, or of everybody, have come from an address."""
    _look(_failure_shares(partner_id, address), _TOO_MANY_FAILURES)


def count_failure(partner_id: int, address: str) -> None:
    """Count a failure. Raises Limited when others at the same moment have used the share up."""
    with transaction():
        for bucket, share in _failure_shares(partner_id, address).items():
            _take(bucket, share, _TOO_MANY_FAILURES)


def count_request(partner_id: int, per_minute: int) -> None:
    """Count a partner's request. Raises Limited when it is one too many."""
    with transaction():
        _take(f"requests {partner_id}", per_minute, f"More than {per_minute} requests a minute.")


def count_guess(address: str) -> None:
    """Count a link that opens nothing. Raises Limited when too many such have come from that network.

    Links that open something are never counted nor held up, wherever they are opened: a network may be an office.
    """
    shares = {f"guesses {_network(address)}": _GUESSES_OF_NETWORK}
    _look(shares, _TOO_MANY_GUESSES)
    with transaction():
        for bucket, share in shares.items():
            _take(bucket, share, _TOO_MANY_GUESSES)


def count_press(subscription_id: int) -> None:
    """Count a press of the button behind a link: each may ask Vipps for a draft. Raises Limited for one too many."""
    with transaction():
        _take(f"presses {subscription_id}", _PRESSES_OF_LINK, "The button was pressed too often.")


def _look(shares: dict[str, int], words: str) -> None:
    """Raise Limited when a bucket is used up; nothing is written and nothing locked."""
    now = utc_now()
    with reading():
        used = queries.used_until(shares)
    wait = max(_wait(used.get(bucket, now), now, share) for bucket, share in shares.items())
    if wait:
        raise Limited(words, retry_after_s=wait)


def _failure_shares(partner_id: int, address: str) -> dict[str, int]:
    """Return the buckets of a failure, each with its failures a minute; always locked in this order."""
    place = _place(address)
    return {f"failures {place}": _FAILURES_OF_ADDRESS, f"failures {place} {partner_id}": _FAILURES_OF_PARTNER}


def _place(address: str) -> str:
    """Return the address that is counted: an IPv6 network, since whoever has one of its addresses has them all."""
    found = _read(address)
    if found is None:
        return "elsewhere"
    return str(found) if found.version == 4 else str(ip_network((found, 64), strict=False))


def _network(address: str) -> str:
    """Return the network that is counted where no partner is known: what one customer of a provider often has."""
    found = _read(address)
    return "elsewhere" if found is None else str(ip_network((found, 24 if found.version == 4 else 48), strict=False))


def _read(address: str) -> IPv4Address | IPv6Address | None:
    """Return an address as it is counted, or None. Some proxies add the port: 192.0.2.1:50123, [2001:db8::1]:50123."""
    bare = _WITH_PORT.fullmatch(address)
    try:
        found = ip_address(address if bare is None else bare[1] or bare[2])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _take(bucket: str, per_minute: int, words: str) -> None:
    now = utc_now()
    queries.insert_ignoring(RateLimit, [{"bucket": bucket, "used_until": now}])
    row = queries.lock_bucket(bucket)
    wait = _wait(row.used_until, now, per_minute)
    if wait:
        raise Limited(words, retry_after_s=wait)
    row.used_until = _used(row.used_until, now) + _MINUTE // per_minute


def _wait(used_until: datetime, now: datetime, per_minute: int) -> int:
    """Return after how many whole seconds there is room for one more; 0 when there is."""
    return max(ceil((_used(used_until, now) + _MINUTE // per_minute - now - _MINUTE) / timedelta(seconds=1)), 0)


def _used(used_until: datetime, now: datetime) -> datetime:
    """Return until when a bucket is used up; more than it can hold was written by a clock that went wrong."""
    return used_until if now < used_until <= now + _MINUTE else now
