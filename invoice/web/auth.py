"""Who is asking. Every route carries one of these decorators (`tests/test_house.py`).

`partner_required`  a partner: by its secret (Basic), by an API key (Bearer), or by a signature (hmac, hmac-sha256)
`public`            nobody in particular: an unguessable link, a signature, or nothing to protect
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import quote

from flask import g, request

from invoice import signatures
from invoice.errors import Forbidden, Unauthenticated
from invoice.services import credentials, throttle
from invoice.services.credentials import KEYS, Password, Proof, Signature
from invoice.services.partners import PartnerView
from invoice.signatures import Sent
from invoice.web.refusals import is_told, note
from invoice.web.services import public_hosts

View = TypeVar("View", bound=Callable[..., Any])
MARK = "authentication"

# What `WWW-Authenticate` of a 401 names, the simplest first: some clients read only one.
CHALLENGES = (
    'Basic realm="Mobile Invoice", charset="UTF-8"',
    'Bearer realm="Mobile Invoice"',
    'hmac-sha256 realm="Mobile Invoice"',
    'hmac realm="Mobile Invoice"',
)

_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
# Only at the very beginning: in a query it would have another address signed than the one that is carried out.
_WHOLE_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*(?=/)")
_API_KEY = re.compile(r"mi_([1-9][0-9]{0,9})_[A-Za-z0-9_-]{43}")


def partner_required(view: View) -> View:
    """Let in the partner whose request this is, as `current_partner()`. Raises Unauthenticated, Limited."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        proof = _proof()
        try:
            g.partner = credentials.admit(proof, request.remote_addr or "")
        except Unauthenticated:
            is_told()
            raise
        throttle.count_request(g.partner.id, g.partner.request_limit)
        return view(*args, **kwargs)

    return _marked(guarded, "partner")  # type: ignore[return-value]


def _proof() -> Proof:
    """Return what the request offers. Raises Unauthenticated when that is nothing, or of a kind that we do not know."""
    scheme, _, value = request.headers.get("Authorization", "").strip(" ").partition(" ")
    reader = _READERS.get(scheme.lower())
    if reader is None:
        raise Unauthenticated
    return reader(scheme.lower(), value.strip(" "))


def _basic(_scheme: str, value: str) -> Proof:
    try:
        name, colon, secret = b64decode(value, validate=True).decode().partition(":")
    except ValueError:  # no base64, or no text in it
        name = colon = secret = ""
    return Password(int(name) if colon and _NUMBER.fullmatch(name) else 0, secret)


def _bearer(_scheme: str, value: str) -> Proof:
    found = _API_KEY.fullmatch(value)
    return Password(int(found[1]) if found else 0, value, KEYS)


def _signature(scheme: str, value: str) -> Proof:
    sent = Sent(request.method, target(), request.get_data())
    return Signature(scheme, signatures.read(scheme, value), sent, public_hosts())


_READERS: dict[str, Callable[[str, str], Proof]] = {
    "basic": _basic,
    "bearer": _bearer,
    signatures.SHORT: _signature,
    signatures.FULL: _signature,
}


def target() -> str:
    """Return path and query as they were sent: what was signed is what stood on the wire, not what it means."""
    raw: str = request.environ.get("REQUEST_URI") or request.environ.get("RAW_URI") or ""
    if raw.startswith("/"):
        return raw
    if whole := _WHOLE_ADDRESS.match(raw):  # as a proxy sends it
        return raw[whole.end() :]
    query = request.query_string.decode("latin-1")
    return quote(request.path) + (f"?{query}" if query else "")


def public(view: View) -> View:
    """Let anybody in: the view itself says why that is right."""
    return _marked(view, "public")


def current_partner() -> PartnerView:
    """Return who is asking."""
    partner: PartnerView = g.partner
    return partner


def must_be(partner_id: int) -> PartnerView:
    """Return the asking partner. Raises Forbidden when the request speaks of another, whether it exists or not."""
    partner = current_partner()
    if partner.id != partner_id:
        note("another partner's number")
        is_told()
        raise Forbidden("partnerId does not belong to these credentials.")
    return partner


def _marked(view: View, how: str) -> View:
    setattr(view, MARK, how)
    return view
