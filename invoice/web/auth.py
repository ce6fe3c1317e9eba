"""Who is asking. Every route carries one of these decorators (`tests/test_house.py`).

`partner_required`  HTTP Basic: partner id and secret
`public`            nobody in particular: an unguessable link, a signature, or nothing to protect
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import g, request

from invoice.errors import Forbidden, Unauthenticated
from invoice.services import partners
from invoice.services.partners import PartnerView

View = TypeVar("View", bound=Callable[..., Any])
MARK = "authentication"


def partner_required(view: View) -> View:
    """Let in the partner whose credentials these are, as `current_partner()`. Raises Unauthenticated."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        g.partner = partners.authenticate(*_credentials())
        return view(*args, **kwargs)

    return _marked(guarded, "partner")  # type: ignore[return-value]


def _credentials() -> tuple[str, str]:
    """Return the partner id and the secret of HTTP Basic. Raises Unauthenticated when they cannot be read."""
    try:
        given = request.authorization
    except ValueError as error:  # letters that no base64 has
        raise Unauthenticated from error
    if given is None or given.type != "basic" or given.username is None or given.password is None:
        raise Unauthenticated
    return given.username, given.password


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
        raise Forbidden("partnerId does not belong to these credentials.")
    return partner


def _marked(view: View, how: str) -> View:
    setattr(view, MARK, how)
    return view
