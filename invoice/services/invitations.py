"""What invites a person: the words, the link in them, and how often.

The text is composed here and written down; `messages` sends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from invoice.clock import utc_now
from invoice.config import Settings
from invoice.errors import Busy, Conflict, Invalid, Limited
from invoice.lifecycle import CHARGE_STATUS_WORDS, MessageStatus, SubscriptionStatus
from invoice.money import to_major
from invoice.phone import printable, to_gsm
from invoice.services import messages
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import Message, Partner, Subscription
from invoice.store.queries import Texts

MAX_CHARACTERS = 1600  # Source: Twilio Messaging API, error 21617.
_WINDOW, _HOUR = timedelta(hours=24), timedelta(hours=1)
_OF_A_RANGE = 4  # digits at the end in which the numbers of a range differ
_PAUSED = "This partner's texts are paused: hardly any of their links were opened. An operator has been told."
_PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z][A-Za-z0-9_]*) *\}\}")


@dataclass(frozen=True)
class Invitation:
    """What an invitation tells."""

    merchant: str
    product: str
    amount: int
    currency: str
    interval: str
    market: str
    language: str | None  # None: the market's
    link: str


@dataclass(frozen=True)
class Words:
    """A partner's own words for a text, and who is to be seen as its sender."""

    text: str | None = None
    originator: str | None = None


# Writes the invitation of a partner that sent no text of its own.
InviteText = Callable[[Invitation], str]


def compose(text: str, link: str, values: Mapping[str, str] | None = None) -> str:
    """Return a partner's text with values for its placeholders, and the link at the end unless it stands there.

    values: by name in lower case. A name that is none of them stands for nothing, as in the original.
    """
    known = {"url": link, "paymentselectionpageurl": link, **(values or {})}
    return _finished(_PLACEHOLDER.sub(lambda found: known.get(found[1].lower(), ""), text), link)


def _finished(text: str, link: str) -> str:
    body = to_gsm(printable(text))
    return body if link in body else f"{body.rstrip()} {link}".lstrip()


class Invitations:
    """Composes texts and writes them down, as many as may be sent."""

    def __init__(self, settings: Settings, invite_text: InviteText) -> None:
        self._settings = settings
        self._invite_text = invite_text

    def write(self, subscription: Subscription, text: str | None) -> str:
        """Return the text with the link, the partner's own or ours. Raises Invalid for one that is too long to send."""
        link = f"{self._settings.invoice_public_url}/s/{subscription.link_token}"
        partner = db.session.get_one(Partner, subscription.partner_id)
        words = text or partner.sms_text
        values = _values(subscription)
        body = compose(words, link, values) if words else _finished(self._ours(subscription, partner, link), link)
        if len(body) > MAX_CHARACTERS:
            raise Invalid({"smsText": [f"smsText must be at most {MAX_CHARACTERS} characters, link included."]})
        return body

    def _ours(self, subscription: Subscription, partner: Partner, link: str) -> str:
        return self._invite_text(
            Invitation(
                merchant=partner.name,
                product=subscription.name,
                amount=subscription.amount,
                currency=subscription.currency,
                interval=subscription.interval.value,
                market=partner.market,
                language=partner.language,
                link=link,
            )
        )

    def enter(self, subscription: Subscription, body: str, originator: str | None) -> Message:
        """Write a text down in the caller's transaction, unless it is one too many.

        Raises Limited, with the reason, over a cap or while the partner's texts are paused, Invalid for a country that
        no texts go to.
        """
        self._check_country(subscription.msisdn)
        partner = db.session.get_one(Partner, subscription.partner_id)
        if partner.texts_paused_at is not None:
            raise Limited(_PAUSED, retry_after_s=int(_HOUR.total_seconds()))
        self._check_caps(subscription, partner.sms_limit)
        return messages.enter(subscription, body, originator or partner.sms_originator)

    def resend(self, subscription: Subscription, called: str, words: Words) -> Message:
        """Have the link texted again, in new words or in those of the last text. The caller holds the lock.

        Raises Conflict when nobody can accept it any more or a text is on its way, and what `enter` does.
        """
        last = queries.last_text(subscription.id)
        if subscription.status != SubscriptionStatus.PENDING:
            word = CHARGE_STATUS_WORDS[subscription.status]
            raise Conflict(f'Subscription with status: "{word}" for "{called}" cannot be texted')
        if subscription.link_expires_at <= utc_now():
            raise Conflict(f'The link of "{called}" has expired')
        if last is not None and last.status == MessageStatus.QUEUED:
            raise Busy(f'A text for "{called}" is on its way')
        if queries.first_draft(subscription.id).settled_at is None:
            raise Busy(f'"{called}" is being asked for at Vipps')
        body = last.body if last and words.text is None else self.write(subscription, words.text)
        originator = words.originator or (last.originator if last else None)
        text = self.enter(subscription, body, originator)
        messages.release(subscription, self._settings.invoice_public_url)
        return text

    def _check_country(self, msisdn: str) -> None:
        countries = self._settings.sms_countries
        if not msisdn.startswith(countries):
            raise Invalid({"msisdn": [f"msisdn must begin with one of {', '.join(countries)} to be sent a text."]})

    def _check_caps(self, subscription: Subscription, of_its_own: int | None) -> None:
        """Count what went out in the last 24 hours, or one; whoever counts the same waits for us to be done."""
        settings, number = self._settings, subscription.msisdn
        queries.hold_count(f"texts of {subscription.partner_id}")
        queries.hold_count(f"texts to {number}")
        queries.hold_count(f"texts to the range {number[:-_OF_A_RANGE]}")
        is_first = queries.last_text(subscription.id) is None
        partner_id = subscription.partner_id
        _check(
            settings.invoice_sms_per_product if is_first else 0,
            Texts(number, partner_id=partner_id, product=subscription.name),
            "This number was sent {cap} for this product within 24 hours. POST /api/recurring/<id>/resend sends the "
            "link of a subscription again.",
        )
        _check(settings.invoice_sms_per_number, Texts(number), "This number was sent {cap} within 24 hours.")
        _check(
            settings.invoice_sms_per_range,
            Texts(range=number[:-_OF_A_RANGE]),
            "Numbers that differ from this one in their last four digits were sent {cap} within an hour.",
            _HOUR,
        )
        of_partner = Texts(partner_id=partner_id)
        cap = settings.invoice_sms_per_partner if of_its_own is None else of_its_own
        _check(cap, of_partner, "This partner has sent {cap} within 24 hours.")


def _check(cap: int, which: Texts, reason: str, window: timedelta = _WINDOW) -> None:
    """Raise Limited when the texts of a kind have come to their cap (0: none)."""
    now = utc_now()
    filled_at = queries.text_that_fills(cap, now - window, which) if cap else None
    if filled_at is not None:
        wait = filled_at + window - now
        told = "a text" if cap == 1 else f"{cap} texts"
        raise Limited(reason.format(cap=told), retry_after_s=int(wait.total_seconds()) + 1)


def _values(subscription: Subscription) -> dict[str, str]:
    """Return what a text may speak of: the properties of the request, under the names that they have there."""
    campaign = subscription.campaign_amount
    return {
        "partnerid": str(subscription.partner_id),
        "msisdn": subscription.msisdn,
        "currency": subscription.currency,
        "ordernumber": subscription.order_number or "",
        "amount": to_major(subscription.amount),
        "campaignamount": "" if campaign is None else to_major(campaign),
        "paymentprovider": "Vipps",
        "name": subscription.name,
        "description": subscription.description,
        "memberid": subscription.member_id or "",
        "subscriptionid": str(subscription.id),
    }
