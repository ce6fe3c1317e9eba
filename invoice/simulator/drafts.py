"""What a request about an agreement must look like. Pure: says what is wrong, changes nothing.

Source: Vipps Recurring v3 OpenAPI 3.1.2 (2025-10); Vipps agent-toolkit (2026-08-21).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from invoice.simulator.fields import Fields, url_fault
from invoice.simulator.market import Market
from invoice.simulator.models import Agreement
from invoice.simulator.problems import Problem, invalid
from invoice.simulator.switches import Values

UNITS = ("YEAR", "MONTH", "WEEK", "DAY")
TRANSACTION_TYPES = ("DIRECT_CAPTURE", "RESERVE_CAPTURE")
CURRENCIES = ("NOK", "EUR", "DKK")
PRICING_TYPES = ("LEGACY", "VARIABLE", "FLEXIBLE")
ORDER_ID = r"[A-Za-z0-9-]+"
EXTERNAL_ID = r"[^\n\r\u2028\u2029]+"  # one line: the file's pattern is ^.{1,64}$
MSISDN = r"[1-9]\d{6,14}"
_ANY = 2**31 - 1
SCOPES = {"name", "address", "email", "phoneNumber", "birthDate", "nin"}


@dataclass(frozen=True)
class Pricing:
    """What the agreement costs."""

    type: str
    price: int | None
    suggested_max_amount: int | None


@dataclass(frozen=True)
class Draft:
    """A checked request for an agreement."""

    pricing: Pricing
    product_name: str
    product_description: str | None
    redirect_url: str
    manage_url: str | None
    interval: tuple[str, int] | None
    phone: str | None
    initial_charge: dict[str, Any] | None
    campaign: dict[str, Any] | None
    external_id: str | None
    scope: str | None
    payment_method: dict[str, Any] | None
    is_app: bool
    is_pushed: bool


def read_draft(body: Any, now: datetime, market: Market, switches: Values) -> Draft:
    """Return the checked request. market: the sales unit's.

    Raises Problem naming every field that is wrong; 403 for skipLandingPage where it is not allowed.
    """
    fields = Fields(body)
    is_pushed = fields.flag("skipLandingPage")
    if is_pushed and not switches.skip_landing_page_allowed:
        raise Problem("not-authorized", "The sales unit is not allowed to skip the landing page.")
    is_app = fields.flag("isApp")
    pricing = _pricing(fields, market)
    draft = Draft(
        pricing=pricing,
        product_name=fields.text("productName", size=(1, 45), required=True) or "",
        product_description=fields.text("productDescription", size=(0, 100)),
        redirect_url=_url(fields, "merchantRedirectUrl", 2048, any_scheme=is_app, deeplink=True),
        manage_url=_manage_url(fields, market, any_scheme=is_app),
        interval=read_interval(fields, "interval"),
        phone=_phone(fields, is_required=is_pushed),
        initial_charge=_initial_charge(fields, market, switches),
        campaign=_campaign(fields, market, pricing, now),
        external_id=fields.text("externalId", size=(1, 64), pattern=EXTERNAL_ID),
        scope=_scope(fields),
        payment_method=_payment_method(fields),
        is_app=is_app,
        is_pushed=is_pushed,
    )
    fields.refuse_others()
    if fields.reasons:
        raise invalid(*fields.reasons)
    return draft


def _pricing(parent: Fields, market: Market) -> Pricing:
    fields = parent.child("pricing", required=True)
    if fields is None:
        return Pricing("LEGACY", None, None)
    kind = fields.choice("type", PRICING_TYPES) or "LEGACY"
    if fields.choice("currency", CURRENCIES, required=True) not in (None, market.currency):
        fields.wrong("currency", f"Must be the currency of the sales unit's market ({market.currency})")
    price = _amount(fields, "amount", market) if kind == "LEGACY" else None
    ceiling = _max_amount(fields, market) if kind == "VARIABLE" else None
    fields.refuse_others()
    return Pricing(kind, price, ceiling)


def _amount(fields: Fields, name: str, market: Market) -> int | None:
    return fields.integer(name, low=market.least, high=market.most, required=True)


def _max_amount(fields: Fields, market: Market) -> int | None:
    """Return the suggestedMaxAmount; one outside the market's limits has a name of its own."""
    value = fields.integer("suggestedMaxAmount", low=-_ANY, required=True)
    if value is not None and not market.least <= value <= market.most:
        reason = ("pricing.suggestedMaxAmount", f"Must be from {market.least} to {market.most}")
        raise Problem("invalid-suggested-max-amount", "The suggested max amount is outside the limits.", [reason])
    return value


def _manage_url(fields: Fields, market: Market, *, any_scheme: bool) -> str | None:
    # Required for Norwegian merchants. Source: Vipps Recurring v3, 2025-10.
    if not market.needs_manage_url and not fields.has("merchantAgreementUrl"):
        fields.raw("merchantAgreementUrl")
        return None
    return _url(fields, "merchantAgreementUrl", 1024, any_scheme=any_scheme)


def _url(fields: Fields, name: str, most: int, *, any_scheme: bool, deeplink: bool = False) -> str:
    url = fields.text(name, size=(1, most), required=True) or ""
    fault = url_fault(url, deeplink=deeplink) if url and not any_scheme else None
    if fault:
        fields.wrong(name, fault)
    return url


def read_interval(parent: Fields, name: str) -> tuple[str, int] | None:
    """Return (unit, count 1..31), or None: pay per use."""
    fields = parent.child(name)
    if fields is None:
        return None
    unit = fields.choice("unit", UNITS, required=True)
    count = fields.integer("count", low=1, high=31, required=True)
    fields.refuse_others()
    return (unit, count) if unit and count else None


def _phone(fields: Fields, *, is_required: bool) -> str | None:
    """Return the number that the landing page is filled in with; a wrong one is ignored. Source: changelog, 2024-07."""
    value = fields.raw("phoneNumber")
    if value is not None and not isinstance(value, str):
        fields.wrong("phoneNumber", "Must be a string")
        return None
    probe = Fields({"n": value})
    phone = probe.text("n", size=(1, 15), pattern=MSISDN)
    if phone is None and is_required:
        fields.wrong("phoneNumber", "Invalid phone number")
    return phone


def _initial_charge(parent: Fields, market: Market, switches: Values) -> dict[str, Any] | None:
    fields = parent.child("initialCharge")
    if fields is None:
        return None
    fields.choice("currency", (market.currency,))  # in the vendor's examples, not in the schema
    charge = {
        "amount": _amount(fields, "amount", market),
        "description": fields.text("description", size=(1, switches.description_limit), required=True),
        "transactionType": fields.choice("transactionType", TRANSACTION_TYPES, required=True),
        "orderId": fields.text("orderId", size=(1, 64), pattern=ORDER_ID),
        "externalId": fields.text("externalId", size=(1, 64), pattern=EXTERNAL_ID),
    }
    fields.refuse_others()
    return charge


def _campaign(parent: Fields, market: Market, pricing: Pricing, now: datetime) -> dict[str, Any] | None:
    fields = parent.child("campaign")
    if fields is None:
        return None
    if pricing.type != "LEGACY":
        parent.wrong("campaign", "Is only allowed with LEGACY pricing")
    kind = fields.choice("type", ("PRICE_CAMPAIGN", "PERIOD_CAMPAIGN", "EVENT_CAMPAIGN"), required=True)
    campaign: dict[str, Any] = {"type": kind, "price": fields.integer("price", low=0, high=market.most, required=True)}
    if kind == "PERIOD_CAMPAIGN":
        period = read_interval(fields, "period") if fields.has("period") else fields.raw("period", required=True)
        campaign["period"] = period and {"unit": period[0], "count": period[1]}
    elif kind:
        name = "end" if kind == "PRICE_CAMPAIGN" else "eventDate"
        at = fields.moment(name, required=True)
        if at and at <= now:
            fields.wrong(name, "Must be in the future")
        campaign[name] = at and at.strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind == "EVENT_CAMPAIGN":
        campaign["eventText"] = fields.text("eventText", size=(1, 15), required=True)
    fields.refuse_others()
    return campaign


def _scope(fields: Fields) -> str | None:
    scope = fields.text("scope", size=(0, 200))
    if scope and not set(scope.split()) <= SCOPES:
        fields.wrong("scope", f"Must hold only {' '.join(sorted(SCOPES))}")
    return scope or None


def _payment_method(parent: Fields) -> dict[str, Any] | None:
    fields = parent.child("paymentMethod")
    if fields is None:
        return None
    blocked = fields.raw("blockedSources")
    if blocked not in (None, [], ["COMMERCIAL_CARDS"]):
        fields.wrong("blockedSources", "Must be a list of COMMERCIAL_CARDS")
    fields.refuse_others()
    return {"blockedSources": blocked or []}


@dataclass(frozen=True)
class Update:
    """A checked change of an agreement: stop, or new values of columns."""

    stop: bool
    columns: dict[str, Any]


def read_update(body: Any, agreement: Agreement) -> Update:
    """Return the checked change. Raises Problem for wrong fields, and for a stop that is not alone."""
    fields = Fields(body)
    stop = fields.choice("status", ("STOPPED",)) == "STOPPED"
    columns: dict[str, Any] = {
        "product_name": fields.text("productName", size=(1, 45)),
        "product_description": fields.text("productDescription", size=(0, 100)),
        "external_id": fields.text("externalId", size=(1, 64), pattern=EXTERNAL_ID),
        "manage_url": _url(fields, "merchantAgreementUrl", 1024, any_scheme=False)
        if fields.has("merchantAgreementUrl")
        else None,
        **_new_price(fields, agreement),
    }
    columns = {name: value for name, value in columns.items() if value is not None} | _new_interval(fields)
    fields.refuse_others()
    if stop and columns:
        fields.wrong("status", "Must be the only field when an agreement is stopped")
    if not fields.reasons and not stop and not columns:
        fields.wrong("body", "Must change something")
    if fields.reasons:
        raise invalid(*fields.reasons)
    return Update(stop, columns)


def _new_price(parent: Fields, agreement: Agreement) -> dict[str, Any]:
    fields = parent.child("pricing")
    if fields is None:
        return {}
    found: dict[str, Any] = {}
    if agreement.pricing_type == "LEGACY":
        found = {"price": _amount(fields, "amount", agreement.market)}
    elif agreement.pricing_type == "VARIABLE":
        found = {"suggested_max_amount": _max_amount(fields, agreement.market)}
    else:
        parent.wrong("pricing", "Cannot be changed with FLEXIBLE pricing")
    fields.refuse_others()
    return found


def _new_interval(parent: Fields) -> dict[str, Any]:
    fields = parent.child("interval")
    if fields is None:
        return {}
    kind = fields.choice("type", ("RECURRING", "FLEXIBLE")) or "RECURRING"
    period = read_interval(fields, "period")
    if kind == "RECURRING" and not fields.has("period"):
        fields.wrong("period", "Is required when type is RECURRING")
    if kind == "FLEXIBLE" and fields.has("period"):
        fields.wrong("period", "Is not allowed when type is FLEXIBLE")
    fields.refuse_others()
    unit, count = period or (None, None)
    return {"interval_unit": unit, "interval_count": count}
