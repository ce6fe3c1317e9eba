"""Who has money, and which amounts and numbers never do.

Source of the amounts: Vipps test environment (agent-toolkit, 2026-08-21), øre. The numbers are our own.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

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
UNKNOWN_FOR_AN_HOUR = 201
REFUND_REFUSED_AMOUNTS = {
    123: "The refund is not possible: the user has no receiving account.",
    124: "The refund period has expired.",
}

UNDER_18 = "4790000018"
WITHOUT_MONEY = "4790000051"
UNREACHABLE = "4790000003"  # texts to it are undelivered

MAGIC_NUMBERS = {
    UNDER_18: "is under 18: the agreement ends EXPIRED at approval",
    WITHOUT_MONEY: "has no money: every attempt is refused until the funds switch says otherwise",
    UNREACHABLE: "is switched off: texts end undelivered (30003)",
    "15005550001": "is no valid number: Twilio refuses the text (21211)",
}


def has_money(session: Session, agreement: Agreement) -> bool:
    """Whether the person behind `agreement` can pay just now. A switch for it goes before one for the number."""
    subjects = [agreement.id, agreement.phone or ""]
    found = {row.subject: row.available for row in session.scalars(select(Funds).where(Funds.subject.in_(subjects)))}
    for subject in subjects:
        if subject in found:
            return found[subject]
    return agreement.phone != WITHOUT_MONEY
