"""What we send to Vipps, frozen: each body is checked against Vipps' limits before it is stored, let alone sent.

Pure. Facts: the vendor's OpenAPI file of October 2025; the limits stand in `vipps_limits`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

from invoice.errors import ProviderRefused
from invoice.lifecycle import Interval
from invoice.money import MAXIMUM, MINIMUM
from invoice.phone import to_msisdn
from invoice.providers import vipps_limits as limits
from invoice.providers.base import (
    AgreementView,
    Draft,
    EventCampaign,
    FixedPrice,
    InitialCharge,
    NewCharge,
    PeriodCampaign,
    PriceCampaign,
    Terms,
    VariablePrice,
)

_ORDER_ID = re.compile(r"[a-zA-Z0-9-]{1,64}", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FOR_EVER = ("type", "currency")
LOCAL = "local-check"  # the problem of a refusal that Vipps never heard of


def cut(text: str, limit: int) -> str:
    """Return `text` in at most `limit` characters, an ellipsis telling that something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def freeze(body: object) -> str:
    """Return a body as the bytes that are stored and sent."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def draft(wish: Draft) -> str:
    """Freeze a draft. Raises ProviderRefused, naming the field, for what Vipps would refuse."""
    currency = wish.price.currency
    body: dict[str, Any] = {"pricing": _pricing(wish.price)}
    if wish.interval is not None:
        body["interval"] = _period(wish.interval)
    body |= {
        "merchantRedirectUrl": _url("merchantRedirectUrl", wish.redirect_url, limits.REDIRECT_URL),
        "merchantAgreementUrl": _url("merchantAgreementUrl", wish.manage_url, limits.MANAGE_URL),
        "phoneNumber": to_msisdn(wish.phone),
        "productName": _text("productName", wish.product_name, limits.NAME),
        "productDescription": cut(wish.description, limits.DESCRIPTION),
        "externalId": _external_id(wish.external_id),
    }
    if wish.initial is not None:
        body["initialCharge"] = _initial(wish.initial, wish.product_name, currency)
    if wish.campaign is not None:
        if not isinstance(wish.price, FixedPrice):
            raise _refusal("campaign", "goes with a fixed price only")
        body["campaign"] = _campaign(wish.campaign, currency)
    return freeze(body)


def terms(change: Terms) -> str:
    """Freeze a change of an agreement's terms, likewise."""
    body: dict[str, Any] = {}
    if change.product_name is not None:
        body["productName"] = cut(change.product_name, limits.NAME)
    if change.description is not None:
        body["productDescription"] = cut(change.description, limits.DESCRIPTION)
    if change.manage_url is not None:
        body["merchantAgreementUrl"] = _url("merchantAgreementUrl", change.manage_url, limits.MANAGE_URL)
    if change.price is not None:
        body["pricing"] = {name: value for name, value in _pricing(change.price).items() if name not in _FOR_EVER}
    if change.interval is not None:
        body["interval"] = {"type": "RECURRING", "period": _period(change.interval)}
    if not body:
        raise _refusal("agreement", "is asked to change in nothing")
    return freeze(body)


def shows(view: AgreementView, request: str) -> bool:
    """Tell whether an agreement says what a frozen change asks for; only what people see and pay is compared."""
    wanted = json.loads(request)
    held = {"productName": view.product_name, "productDescription": view.description}
    same = all(held[name] == wanted[name] for name in held.keys() & wanted.keys())
    return same and all(amount == view.amount for amount in wanted.get("pricing", {}).values())


def fault_of(charge: NewCharge, today: date) -> str | None:
    """Return why Vipps would not take a charge, or None."""
    days = (charge.due_on - today).days
    checks = (
        (_ORDER_ID.fullmatch(charge.name) is None, "orderId: must be 1 to 64 letters, digits and dashes"),
        (not charge.description, "description: must not be empty"),
        (not 0 <= charge.retry_days <= limits.MAX_RETRY_DAYS, "retryDays: must be from 0 to 14"),
        (days < limits.EARLIEST_DAYS, "due: must be tomorrow or later"),
        (days > limits.LATEST_DAYS, "due: must be within two years"),
        (_is_out_of_range(charge.amount, charge.currency), f"amount: {_range_of(charge.currency)}"),
    )
    return next((words for is_wrong, words in checks if is_wrong), None)


def batch(charges: list[NewCharge]) -> str:
    """Freeze a batch of at most 2,000 charges."""
    if len(charges) > limits.MAX_BATCH:
        raise _refusal("charges", f"must be at most {limits.MAX_BATCH}")
    return freeze([{"agreementId": charge.agreement_id, **_charge(charge)} for charge in charges])


def single(charge: NewCharge) -> str:
    """Freeze one charge; its agreement stands in the path."""
    return freeze(_charge(charge))


def capture(amount: int) -> str:
    """Freeze a capture."""
    return freeze({"amount": amount})


def refund(amount: int, reason: str) -> str:
    """Freeze a refund."""
    return freeze({"amount": amount, "description": _text("description", reason, limits.DESCRIPTION)})


def _charge(charge: NewCharge) -> dict[str, Any]:
    return {
        "orderId": charge.name,
        "amount": charge.amount,
        "description": cut(charge.description, limits.CHARGE_TEXT),
        "transactionType": _transaction(charge.is_reserved),
        "due": charge.due_on.isoformat(),
        "retryDays": charge.retry_days,
    }


def _transaction(is_reserved: bool) -> str:
    return "RESERVE_CAPTURE" if is_reserved else "DIRECT_CAPTURE"


def _pricing(price: object) -> dict[str, Any]:
    if isinstance(price, FixedPrice):
        amount = _amount("pricing.amount", price.amount, price.currency)
        return {"type": "LEGACY", "amount": amount, "currency": price.currency}
    if isinstance(price, VariablePrice):
        amount = _amount("pricing.suggestedMaxAmount", price.suggested_max, price.currency)
        return {"type": "VARIABLE", "suggestedMaxAmount": amount, "currency": price.currency}
    currency: str = price.currency  # type: ignore[attr-defined]
    if currency not in MINIMUM:
        raise _refusal("pricing.currency", _range_of(currency))
    return {"type": "FLEXIBLE", "currency": currency}


def _period(interval: Interval, count: int = 1) -> dict[str, Any]:
    if not 1 <= count <= 31:
        raise _refusal("interval.count", "must be from 1 to 31")
    return {"unit": interval.value, "count": count}


def _initial(initial: InitialCharge, description: str, currency: str) -> dict[str, Any]:
    if _ORDER_ID.fullmatch(initial.name) is None:
        raise _refusal("initialCharge.orderId", "must be 1 to 64 letters, digits and dashes")
    return {
        "amount": _amount("initialCharge.amount", initial.amount, currency),
        "description": cut(description, limits.CHARGE_TEXT),
        "transactionType": _transaction(initial.is_reserved),
        "orderId": initial.name,
    }


def _campaign(campaign: PriceCampaign | PeriodCampaign | EventCampaign, currency: str) -> dict[str, Any]:
    price = _amount("campaign.price", campaign.price, currency)
    if isinstance(campaign, PriceCampaign):
        return {"type": "PRICE_CAMPAIGN", "price": price, "end": _utc(campaign.ends_at)}
    if isinstance(campaign, PeriodCampaign):
        return {"type": "PERIOD_CAMPAIGN", "price": price, "period": _period(campaign.interval, campaign.count)}
    if not 1 <= len(campaign.text) <= limits.EVENT_TEXT:
        raise _refusal("campaign.eventText", f"must be 1 to {limits.EVENT_TEXT} characters")
    happens = _utc(campaign.happens_at)
    return {"type": "EVENT_CAMPAIGN", "price": price, "eventDate": happens, "eventText": campaign.text}


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def _text(field: str, text: str, limit: int) -> str:
    if not text:
        raise _refusal(field, "must not be empty")
    return cut(text, limit)


def _url(field: str, url: str, limit: int) -> str:
    """Return an address that Vipps takes: https, and for a stand-in on this machine also http."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or not url.isprintable() or " " in url:
        raise _refusal(field, "must be an address such as https://www.example.com/mine")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise _refusal(field, "must use https")
    if len(url) > limit:
        raise _refusal(field, f"must be at most {limit} characters")
    return url


def _external_id(value: str) -> str:
    if not 1 <= len(value) <= limits.EXTERNAL_ID or not value.isprintable():
        raise _refusal("externalId", f"must be 1 to {limits.EXTERNAL_ID} printable characters")
    return value


def _amount(field: str, amount: int, currency: str) -> int:
    if _is_out_of_range(amount, currency):
        raise _refusal(field, _range_of(currency))
    return amount


def _is_out_of_range(amount: int, currency: str) -> bool:
    return currency not in MINIMUM or not MINIMUM[currency] <= amount <= MAXIMUM[currency]


def _range_of(currency: str) -> str:
    if currency not in MINIMUM:
        return f"currency must be one of {', '.join(MINIMUM)}"
    return f"must be from {MINIMUM[currency]} to {MAXIMUM[currency]} in {currency}'s smallest unit"


def _refusal(field: str, words: str) -> ProviderRefused:
    return ProviderRefused(f"{field} {words}", problem=LOCAL)
