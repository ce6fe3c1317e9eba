"""What a phone shows: texts, requests, agreements, payments, put together from the store. In Norwegian."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from invoice.simulator import messages
from invoice.simulator.act import Act
from invoice.simulator.funds import WITHOUT_MONEY
from invoice.simulator.market import Market, market_of_phone
from invoice.simulator.models import Agreement, AgreementStatus, Charge, ChargeStatus, Funds, Message
from invoice.simulator.shapes import campaign_end
from invoice.simulator.wording import clock_face, every, length, long_date, money, sign, weekday_date

_TEXTS_SHOWN, _PAYMENTS_SHOWN, _AGREEMENTS_SHOWN = 50, 24, 50
_OPEN = (ChargeStatus.PENDING, ChargeStatus.DUE, ChargeStatus.PROCESSING)

# status -> (Norwegian, kind of colour)
_PAYMENT_WORDS = {
    ChargeStatus.DUE: ("Forfalt, prøver igjen", "warn"),
    ChargeStatus.PROCESSING: ("Behandles", "calm"),
    ChargeStatus.RESERVED: ("Reservert", "calm"),
    ChargeStatus.PARTIALLY_CAPTURED: ("Delvis betalt", "good"),
    ChargeStatus.CHARGED: ("Betalt", "good"),
    ChargeStatus.FAILED: ("Mislyktes", "bad"),
    ChargeStatus.PARTIALLY_REFUNDED: ("Delvis refundert", "calm"),
    ChargeStatus.REFUNDED: ("Refundert", "calm"),
}


@dataclass(frozen=True)
class Bubble:
    """A text: its parts are (words, address or None)."""

    sender: str
    day: str
    time: str
    parts: list[tuple[str, str | None]]


@dataclass(frozen=True)
class Card:
    """An agreement as the person sees it."""

    id: str
    name: str
    description: str | None
    price: str
    status: str
    link: str
    max_amount: str | None
    sign: str
    manage_url: str | None
    next_charge: str | None
    since: str | None


@dataclass(frozen=True)
class Payment:
    """A payment as the person sees it."""

    name: str
    day: str
    amount: str
    word: str
    kind: str
    note: str | None


@dataclass(frozen=True)
class Phone:
    """Everything on one phone."""

    msisdn: str
    market: Market
    brand: str
    bubbles: list[Bubble]
    requests: list[Card]
    active: list[Card]
    ended: list[Card]
    payments: list[Payment]
    has_money: bool

    @property
    def version(self) -> str:
        """A word that changes when anything on the phone does."""
        return hashlib.sha256(
            repr((self.bubbles, self.requests, self.active, self.payments, self.has_money)).encode()
        ).hexdigest()[:16]


@dataclass(frozen=True)
class Offer:
    """What the landing page asks the person to agree to. Amounts are written out."""

    product: str
    description: str | None
    price: str
    period: str
    now: str | None
    now_description: str | None
    is_reserved: bool
    campaign: str | None
    phone: str
    button: str
    merchant: str
    brand: str
    max_amount: str | None
    sign: str


def phone(act: Act, msisdn: str) -> Phone:
    """Return what the phone with this number (digits only) shows."""
    texts = select(Message).where(Message.to == f"+{msisdn}").order_by(Message.number.desc()).limit(_TEXTS_SHOWN)
    rows = act.session.scalars(
        select(Agreement).where(Agreement.phone == msisdn).order_by(Agreement.number.desc())
    ).all()
    cards = {status: [_card(act, row) for row in rows if row.status == status] for status in AgreementStatus}
    switch = act.session.get(Funds, msisdn)
    here = market_of_phone(msisdn)
    return Phone(
        msisdn=msisdn,
        market=here,
        brand=here.brand(act.now),
        bubbles=[_bubble(row, here) for row in reversed(act.session.scalars(texts).all())],
        requests=[
            _card(act, row) for row in rows if row.status == AgreementStatus.PENDING and act.now < row.expires_at
        ],
        active=cards[AgreementStatus.ACTIVE],
        ended=[_card(act, row) for row in rows if row.status == AgreementStatus.STOPPED and row.started_at][:5],
        payments=_payments(act, {row.id: row for row in rows}),
        has_money=switch.available if switch else msisdn not in WITHOUT_MONEY,
    )


def _bubble(message: Message, here: Market) -> Bubble:
    return Bubble(
        sender=message.sender or "SMS",
        day=weekday_date(message.created_at, here),
        time=clock_face(message.created_at, here),
        parts=_parts(message.body),
    )


def _parts(body: str) -> list[tuple[str, str | None]]:
    links = messages.links_in(body)
    if not links:
        return [(body, None)]
    pieces = re.split("(" + "|".join(re.escape(link) for link in sorted(set(links), key=len, reverse=True)) + ")", body)
    return [(piece, piece if piece in links else None) for piece in pieces if piece]


def price_of(agreement: Agreement) -> tuple[str, str]:
    """Return (price, period), such as ("99,00 kr", "hver måned")."""
    period = every(agreement.interval_unit, agreement.interval_count)
    if agreement.pricing_type == "LEGACY":
        return money(agreement.price or 0, agreement.currency), period
    if agreement.pricing_type == "VARIABLE":
        return f"Inntil {money(_ceiling(agreement), agreement.currency)}", period
    return "Varierende beløp", period


def _ceiling(agreement: Agreement) -> int:
    return agreement.max_amount or agreement.suggested_max_amount or 0


def _own_ceiling(agreement: Agreement) -> str | None:
    """Return what stands in the field for the person's own limit, "300,00"; None where there is no limit to choose."""
    amount = _ceiling(agreement)
    return f"{amount // 100},{amount % 100:02d}" if agreement.pricing_type == "VARIABLE" else None


def _card(act: Act, agreement: Agreement) -> Card:
    price, period = price_of(agreement)
    return Card(
        id=agreement.id,
        name=agreement.product_name,
        description=agreement.product_description,
        price=f"{price} {period}",
        status=agreement.status,
        link=act.world.landing_page(agreement.confirmation_url),
        max_amount=_own_ceiling(agreement),
        sign=sign(agreement.currency),
        manage_url=agreement.manage_url,
        next_charge=_next_charge(act, agreement),
        since=long_date(agreement.market.local_date(agreement.started_at)) if agreement.started_at else None,
    )


def _next_charge(act: Act, agreement: Agreement) -> str | None:
    # What is still PENDING is not shown to the person. Source: agent-toolkit, 2026-08-21.
    asked = (
        select(Charge)
        .where(Charge.agreement_id == agreement.id, Charge.status == ChargeStatus.DUE)
        .order_by(Charge.due)
        .limit(1)
    )
    charge = act.session.scalar(asked)
    if charge is None:
        return None
    here, amount = charge.market, money(charge.amount, charge.currency)
    if agreement.pricing_type == "VARIABLE" and charge.amount > (agreement.max_amount or 0):
        return f"{amount} er over beløpsgrensen din. Hev den, så trekkes beløpet."
    if charge.due <= here.local_date(act.now) and charge.wake_at and charge.wake_at > here.first_batch(charge.due):
        return f"{amount} kunne ikke trekkes. Vi prøver igjen."
    return f"{amount} trekkes {long_date(charge.due)}"


def _payments(act: Act, agreements: dict[str, Agreement]) -> list[Payment]:
    asked = (
        select(Charge)
        .where(Charge.agreement_id.in_(list(agreements)[:500]), Charge.status.not_in([*_OPEN, ChargeStatus.CANCELLED]))
        .order_by(Charge.due_at.desc(), Charge.number.desc())
        .limit(_PAYMENTS_SHOWN)
    )
    return [_payment(row, agreements[row.agreement_id]) for row in act.session.scalars(asked)]


def _payment(charge: Charge, agreement: Agreement) -> Payment:
    word, kind = _PAYMENT_WORDS[ChargeStatus(charge.status)]
    shown = charge.captured or charge.amount
    at: datetime = charge.captured_at or charge.due_at
    note = f"{money(charge.refunded, charge.currency)} tilbake" if charge.refunded else None
    return Payment(
        name=charge.description or agreement.product_name,
        day=long_date(charge.market.local_date(at)),
        amount=money(shown, charge.currency),
        word=word,
        kind=kind,
        note=note,
    )


def offer(act: Act, agreement: Agreement) -> Offer:
    """Return what the landing page shows."""
    price, period = price_of(agreement)
    currency = agreement.currency
    first: dict[str, Any] | None = agreement.initial_charge
    return Offer(
        product=agreement.product_name,
        description=agreement.product_description,
        price=price,
        period=period,
        now=money(first["amount"], currency) if first else None,
        now_description=first["description"] if first else None,
        is_reserved=bool(first and first["transactionType"] == "RESERVE_CAPTURE"),
        campaign=_campaign(agreement),
        phone=f"+{agreement.phone}" if agreement.phone else "",
        button=f"Godkjenn og betal {money(first['amount'], currency)}" if first else "Godkjenn",
        merchant=agreement.unit.name,
        brand=agreement.market.brand(act.now),
        max_amount=_own_ceiling(agreement),
        sign=sign(currency),
    )


def _campaign(agreement: Agreement) -> str | None:
    campaign, end = agreement.campaign, campaign_end(agreement)
    if campaign is None or end is None:
        return None
    price = money(campaign["price"], agreement.currency)
    if campaign["type"] == "PERIOD_CAMPAIGN":
        return f"{length(campaign['period']['unit'], campaign['period']['count'])} for {price}, deretter ordinær pris"
    if campaign["type"] == "EVENT_CAMPAIGN":
        return f"{price} {campaign['eventText']}, deretter ordinær pris fra {long_date(end)}"
    return f"{price} frem til {long_date(end)}, deretter ordinær pris"


def phones(act: Act) -> list[tuple[str, int]]:
    """Return (MSISDN, number of texts) of every phone that was texted or asked, latest first."""
    texted = act.session.execute(
        select(Message.to, func.count(), func.max(Message.created_at)).group_by(Message.to)
    ).all()
    found = {to.lstrip("+"): (count, at) for to, count, at in texted}
    asked = (
        select(Agreement.phone, func.max(Agreement.created_at))
        .where(Agreement.phone.is_not(None))
        .group_by(Agreement.phone)
    )
    for number, at in act.session.execute(asked):
        assert number is not None  # the statement says so
        count, latest = found.get(number, (0, at))
        found[number] = (count, max(latest, at))
    return [(number, count) for number, (count, _) in sorted(found.items(), key=lambda item: item[1][1], reverse=True)][
        :100
    ]


def latest_agreements(act: Act) -> list[Agreement]:
    """Return the newest agreements."""
    return list(act.session.scalars(select(Agreement).order_by(Agreement.number.desc()).limit(_AGREEMENTS_SHOWN)))
