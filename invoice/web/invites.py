"""The text of an invitation, for partners that send none of their own."""

from __future__ import annotations

from flask import render_template
from flask_babel import force_locale  # type: ignore[import-untyped]

from invoice.services.invitations import Invitation
from invoice.web.formats import every, money

# The language of a text is the partner's, or follows its market: the phone tells us none.
_LANGUAGES = {"NO": "nb", "DK": "da", "FI": "fi"}


def invite_text(invitation: Invitation) -> str:
    """Return who asks, what for, what it costs, and the link."""
    with force_locale(invitation.language or _LANGUAGES[invitation.market]):
        price = f"{money(invitation.amount, invitation.currency)} {every(invitation.interval)}"
        text = render_template(
            "sms/invite.txt",
            merchant=invitation.merchant,
            product=invitation.product,
            price=price,
            link=invitation.link,
        )
    return text.strip()
