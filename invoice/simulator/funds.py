"""Who has money, and which amounts and numbers never do.

Source of the amounts: Vipps test environment (agent-toolkit, 2026-08-21), minor units. The numbers are our own.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoice.simulator.market import MARKETS
from invoice.simulator.models import Agreement, Funds

# Amount -> what stands behind the refusal.
REFUSED_AMOUNTS = {
    151: "insufficient funds",
    182: "refused by the issuer",
    183: "suspected fraud",
    184: "withdrawal limit exceeded",
    186: "expired card",
    187: "invalid card",
    197: "3-D Secure denied",
    202: "strong customer authentication required",
}
ONLY_IN_NORWAY = (197, 202)
UNKNOWN_FOR_AN_HOUR = 201
REFUND_REFUSED_AMOUNTS = {
    123: "The refund is not possible: the user has no receiving account.",
    124: "The refund period has expired.",
}


def _everywhere(number: str) -> tuple[str, ...]:
    return tuple(market.dial_code + number for market in MARKETS.values())


UNDER_18 = _everywhere("90000018")
WITHOUT_MONEY = _everywhere("90000051")
UNREACHABLE = _everywhere("90000003")  # texts to it are undelivered
NOBODY = _everywhere("90000404")
EXPIRED_CARD = _everywhere("90000500")

# (numbers, what they do)
MAGIC_NUMBERS = (
    (UNDER_18, "is under 18: the agreement ends EXPIRED at approval"),
    (WITHOUT_MONEY, "has no money: every attempt is refused until the funds switch says otherwise"),
    (UNREACHABLE, "is switched off: texts end undelivered (30003)"),
    (NOBODY, "has no profile: it cannot be approved with, and the accept endpoint answers 404"),
    (EXPIRED_CARD, "has an expired card: the accept endpoint answers 500"),
    (("15005550001",), "is no valid number: Twilio refuses the text (21211)"),
)


def is_refused_amount(amount: int, country: str) -> bool:
    """Whether a payment of this amount never goes through in a market ("NO", "DK" or "FI")."""
    return amount in REFUSED_AMOUNTS and (country == "NO" or amount not in ONLY_IN_NORWAY)


def has_money(session: Session, agreement: Agreement) -> bool:
    """Whether the person behind `agreement` can pay just now. A switch for it goes before one for the number."""
    subjects = [agreement.id, agreement.phone or ""]
    found = {row.subject: row.available for row in session.scalars(select(Funds).where(Funds.subject.in_(subjects)))}
    for subject in subjects:
        if subject in found:
            return found[subject]
    return agreement.phone not in WITHOUT_MONEY
