"""The templated callbacks of the original contract: which event calls which address, and what is put into it.

A partner's address is a template: `{{name}}` stands for a value, whatever the case of its letters. Credentials in it
are taken out when the subscription is requested and kept apart, encrypted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from invoice.errors import Invalid
from invoice.lifecycle import CHARGE_STATUS_WORDS, Channel
from invoice.money import to_major
from invoice.names import transaction_id
from invoice.phone import shown
from invoice.providers.guard import Guard, split_login
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import CallbackLogin, Charge, Event, Subscription

MAX_LOGIN = 500  # bytes, decoded; encrypted it fits its column
_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
_AUTHORITY = re.compile(r"[^/]*//[^/?#]*")

# event -> the callback that tells it. Vipps' own steps before a payment are nothing that a partner can act on.
CALLS = {
    "consent.opened": Channel.STATUS,
    "charge.reserved": Channel.STATUS,
    "charge.charged": Channel.STATUS,
    "charge.failed": Channel.STATUS,
    "charge.cancelled": Channel.STATUS,
    "charge.partially_refunded": Channel.STATUS,
    "charge.refunded": Channel.STATUS,
    "subscription.activated": Channel.CONFIRM,
    "message.delivered": Channel.SMS,
    "message.undelivered": Channel.SMS,
    "message.failed": Channel.SMS,
}
# channel -> (wire name, where the template is kept)
FIELDS = {
    Channel.STATUS: ("statusCallbackUrl", "status_callback_url"),
    Channel.CONFIRM: ("confirmSubscriptionCallbackUrl", "confirm_callback_url"),
    Channel.SMS: ("smsStatusCallbackUrl", "sms_callback_url"),
}
# The original's `statusCode`. It has none for money that went back; what remains of a part is still captured.
STATUS_CODES = {
    "charge.reserved": "Authorized",
    "charge.charged": "Captured",
    "charge.failed": "Failed",
    "charge.cancelled": "Annulled",
    "charge.partially_refunded": "Captured",
    "charge.refunded": "Annulled",
}
_SUCCESSES = frozenset(
    {"charge.reserved", "charge.charged", "charge.partially_refunded", "subscription.activated", "message.delivered"}
)


@dataclass(frozen=True)
class _News:
    """What a placeholder can speak of."""

    subscription: Subscription
    event: Event
    charge: Charge | None

    @property
    def charge_name(self) -> str | None:
        """The payment's. At the first look at the page it has a name, and no row yet."""
        name: str | None = self.event.data.get("charge")
        return name

    @property
    def amount(self) -> int:
        """What the news is about, or else what is paid each time."""
        amount = self.event.data.get("amount")
        return self.subscription.amount if amount is None else int(amount)

    @property
    def status(self) -> str:
        """The word of this news: the payment's status at Vipps, "Accessed", the text's status or the subscription's."""
        if self.event.type == "consent.opened":
            return "Accessed"
        if self.event.type == "subscription.activated":
            return CHARGE_STATUS_WORDS[self.subscription.status]
        return self.event.type.partition(".")[2].upper()

    @property
    def agreement_status(self) -> str:
        """The newest consent's, in Vipps' words."""
        agreement = queries.adopted_agreement(self.subscription.id) or queries.latest_agreement(self.subscription.id)
        return agreement.status.value if agreement else ""

    @property
    def agreement_id(self) -> str:
        """Vipps' id of it."""
        agreement = queries.adopted_agreement(self.subscription.id) or queries.latest_agreement(self.subscription.id)
        return (agreement.provider_agreement_id if agreement else None) or ""


def _of_charge(read: Callable[[Charge], str]) -> Callable[[_News], str]:
    """Read something of the payment; empty where the news is of none."""
    return lambda news: read(news.charge) if news.charge else ""


def _word(is_so: bool) -> str:
    return "true" if is_so else "false"


def _is_text(news: _News) -> bool:
    return news.event.type.startswith("message.")


def _number(news: _News) -> str:
    return str(news.subscription.id)


# name as documented -> its value. All of the original's that recurring payments have, and aliases that it used.
PLACEHOLDERS: dict[str, Callable[[_News], str]] = {
    "transactionId": lambda news: transaction_id(news.charge_name) if news.charge_name else "",
    "referenceId": lambda news: news.charge_name or "",
    "paymentTransactionId": _of_charge(lambda charge: charge.name),
    "status": lambda news: news.status,
    "statusCode": lambda news: STATUS_CODES.get(news.event.type, ""),
    "statusDescription": lambda news: str(news.event.data.get("reason") or news.event.data.get("error") or ""),
    "success": lambda news: _word(news.event.type in _SUCCESSES),
    "paymentType": lambda _: "Vipps",
    "paymentProvider": lambda _: "Vipps",
    "partnerId": lambda news: str(news.subscription.partner_id),
    "subscriptionId": _number,
    "recurring": _number,
    "recurringId": _number,
    "recurringPaymentId": _number,
    "preTransactionId": _number,
    "memberId": lambda news: news.subscription.member_id or "",
    "orderNumber": lambda news: news.subscription.order_number or "",
    "msisdn": lambda news: shown(news.subscription.msisdn),
    "amount": lambda news: to_major(news.amount),
    "currency": lambda news: news.subscription.currency,
    "dueDate": _of_charge(lambda charge: charge.due_on.isoformat()),
    "chargeStatus": lambda news: CHARGE_STATUS_WORDS[news.subscription.status],
    "agreementStatus": lambda news: news.agreement_status,
    "agreementId": lambda news: news.agreement_id,
    "smsNotificationSent": lambda news: _word(news.event.type != "message.failed") if _is_text(news) else "",
    "smsNotificationDelivered": lambda news: _word(news.event.type == "message.delivered") if _is_text(news) else "",
    "smsNotificationParts": lambda news: str(news.event.data.get("segments", "")),
    "eventId": lambda news: news.event.public_id,
}
_BY_LOWER = {name.lower(): read for name, read in PLACEHOLDERS.items()}


@dataclass(frozen=True)
class Target:
    """A callback as it was registered: the template, and the "name:password" that stood in it."""

    template: str
    login: str | None = field(repr=False)


def targets(guard: Guard, urls: Mapping[Channel, str | None]) -> dict[Channel, Target]:
    """Return the callbacks of a request, checked and without credentials.

    Names are not resolved here: a name server must not hold up a request. They are when we connect.
    Raises Invalid with a sentence for each address that cannot be called.
    """
    found, wrong = {}, {}
    for channel, url in urls.items():
        try:
            if url is not None:
                found[channel] = _target(guard, url)
        except Invalid as refused:
            name = FIELDS[channel][0]
            wrong[name] = [f"{name} {refused.message}"]
    if wrong:
        raise Invalid(wrong)
    return found


def _target(guard: Guard, url: str) -> Target:
    authority = _AUTHORITY.match(url)
    if authority is None or "{{" in authority.group():
        raise Invalid(message="must be a web address, with placeholders in its path and query only.")
    # A placeholder may hold what no address does, a blank for example: the shape is that of the address without it.
    _, quoted = split_login(_PLACEHOLDER.sub("x", url))
    template = url if quoted is None else url.replace(f"{quoted}@", "", 1)
    guard.check(_PLACEHOLDER.sub("x", template))
    login = unquote(quoted) if quoted else None
    if login is not None and (len(login.encode()) > MAX_LOGIN or not login.isprintable()):
        raise Invalid(message=f"must hold credentials of at most {MAX_LOGIN} characters.")
    return Target(template, login if login is None or ":" in login else f"{login}:")


def enter(subscription: Subscription, chosen: Mapping[Channel, Target]) -> None:
    """Keep the callbacks with their subscription, in the caller's transaction."""
    for channel, target in chosen.items():
        setattr(subscription, FIELDS[channel][1], target.template)
        # Made here, while nothing else is locked, and not with the first event.
        queries.lane_of(subscription.partner_id, channel)
        if target.login is not None:
            login = CallbackLogin(subscription_id=subscription.id, channel=channel, login=target.login)
            db.session.add(login)


def owed(subscription: Subscription, event: Event) -> Iterator[tuple[Channel, str]]:
    """Yield the callback that an event makes, with its address as it will be called."""
    channel = CALLS.get(event.type)
    template = getattr(subscription, FIELDS[channel][1]) if channel else None
    if channel and template:
        yield channel, resolve(template, subscription, event)


def resolve(template: str, subscription: Subscription, event: Event) -> str:
    """Return a template with its placeholders' values, percent-encoded; a name that nobody knows is empty."""
    name = event.data.get("charge")
    news = _News(subscription, event, queries.charge_of(subscription.id, name) if name else None)

    def value(match: re.Match[str]) -> str:
        read = _BY_LOWER.get(match[1].strip().lower())
        return quote(read(news), safe="") if read else ""

    return _PLACEHOLDER.sub(value, template)
