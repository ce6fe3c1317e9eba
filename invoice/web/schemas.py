"""The documented payload of a subscription request, and how strictly it is read.

Partners send every value as a string, as the document does, or as the proper type, as the help pages do. Names are
matched without regard to case, unknown fields ignored. No value is bent: "1.9" is no integer and other scripts'
digits are none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

from invoice.cards import holds_card_number
from invoice.errors import Invalid
from invoice.lifecycle import Interval
from invoice.money import CURRENCIES, MAXIMUM, MINIMUM, to_major, to_minor
from invoice.phone import is_originator, normalise
from invoice.services.invitations import Words
from invoice.services.wishes import SubscriptionRequest
from invoice.web.parameters import MAX_ID

BASIS = {1: Interval.WEEK, 2: Interval.MONTH, 3: Interval.YEAR}
_BASIS_OF = {interval: basis for basis, interval in BASIS.items()}

_INTEGER = re.compile(r"[0-9]{1,10}")
_FLAGS = {"true": True, "false": False}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Letters that turn the reading order: in a merchant's text they can only mislead.
_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# The documented payload has them beside plain ones; in a text message they would cost a second segment.
_NO_BREAK = re.compile(" *\u00a0[ \u00a0]*")


class Text(fields.Field[str]):
    """A text, or an integer where a partner's language writes numbers without quotes. Empty counts as absent."""

    def __init__(self, *, most: int, lines: bool = False, is_free: bool = False, **kwargs: Any) -> None:
        """most: characters.  lines: whether line breaks may stand in it.  is_free: words, without a card's number."""
        super().__init__(**kwargs)
        self.most, self.lines, self.is_free = most, lines, is_free

    def deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Take an empty text as none."""
        return super().deserialize(None if value == "" else value, *args, **kwargs)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        text = str(value) if type(value) is int else value
        if not isinstance(text, str):
            raise ValidationError("must be a text.")
        if len(text) > self.most:
            raise ValidationError(f"must be at most {self.most} characters.")
        allowed = "\n\r\t" if self.lines else ""
        if any(unicodedata.category(c) == "Cc" and c not in allowed for c in text) or _REORDERING.search(text):
            raise ValidationError("must not hold control characters.")
        if self.required and not text.strip():
            raise ValidationError("is required.")
        if self.is_free and holds_card_number(text):
            raise ValidationError("must not hold the number of a card.")
        return _NO_BREAK.sub(" ", text)


class WholeNumber(fields.Field[int]):
    """An integer, or its ASCII digits."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if type(value) is int:
            return value
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            return int(value)
        raise ValidationError("must be a whole number.")


class Kroner(fields.Field[int]):
    """An amount in major units with at most two decimals, as text or number; inside: minor units."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise ValidationError("must be an amount, such as 12.50.")
        # A number of ten thousand digits is refused by its length, before anything converts it.
        if isinstance(value, int) and not 0 <= value < 10**6:
            raise ValidationError("must be from 0 to 999999.99.")
        try:
            return to_minor(str(value))
        except Invalid as error:
            raise ValidationError(error.message + ".") from error


class Flag(fields.Field[bool]):
    """true or false, or the words."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _FLAGS:
            return _FLAGS[value.lower()]
        raise ValidationError("must be true or false.")


class Phone(Text):
    """A phone number; inside: E.164."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            return normalise(super()._deserialize(value, *args, **kwargs))
        except Invalid as error:
            raise ValidationError(error.message + ".") from error


class WebAddress(Text):
    """An https address; this machine's own may use http, so that one can try."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        try:
            parts = urlsplit(text)
            host, _port = parts.hostname or "", parts.port
        except ValueError:
            raise ValidationError("must be a web address.") from None
        if not host or re.search(r"[\s\\]", text):
            raise ValidationError("must be a web address, such as https://www.example.com/page.")
        if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
            raise ValidationError("must begin with https://.")
        return text


def _one_of(words: tuple[str, ...]) -> validate.OneOf:
    return validate.OneOf(words, error="must be one of {choices}.")


def _check_originator(value: str | None) -> None:
    if value is not None and not is_originator(value):
        raise ValidationError("must be a short number, a name of 2 to 11 letters and digits, or a number with +.")


class ResendSchema(Schema):
    """How a text can be worded; a part of `RecurringPaymentSubscriptionRequest`."""

    class Meta:
        """Partners may send more than we read."""

        unknown = EXCLUDE

    error_messages = {"type": "must be an object."}  # noqa: RUF012 - marshmallow's way

    sms_text = Text(data_key="smsText", most=1000, lines=True, is_free=True, load_default=None, allow_none=True)
    sms_originator = Text(
        data_key="smsNotificationOriginator",
        most=16,
        load_default=None,
        allow_none=True,
        validate=_check_originator,
    )


class SubscribeSchema(ResendSchema):
    """`RecurringPaymentSubscriptionRequest`. Source: the original's help pages and its wiki page "Vipps Recurring"."""

    partner_id = WholeNumber(
        data_key="partnerId", required=True, validate=validate.Range(1, MAX_ID, error="must be from 1 to 2147483647.")
    )
    msisdn = Phone(most=20, required=True)
    currency = Text(most=3, required=True, validate=_one_of(CURRENCIES))
    order_number = Text(data_key="orderNumber", most=50, load_default=None, allow_none=True)
    amount = Kroner(required=True)
    campaign_amount = Kroner(data_key="campaignAmount", load_default=None, allow_none=True)
    payment_provider = Text(data_key="paymentProvider", most=20, required=True)
    description = Text(most=2000, lines=True, is_free=True, required=True)
    basis = WholeNumber(
        required=True, validate=validate.OneOf(BASIS, error="must be 1 (weekly), 2 (monthly) or 3 (yearly).")
    )
    member_id = Text(data_key="memberId", most=100, is_free=True, load_default=None, allow_none=True)
    # Vipps takes 1024 characters, `recurring` included.
    agreement_url = WebAddress(data_key="agreementUrl", most=1000, load_default=None, allow_none=True)
    name = Text(most=200, is_free=True, required=True)
    status_callback_url = WebAddress(data_key="statusCallbackUrl", most=2000, load_default=None, allow_none=True)
    confirm_callback_url = WebAddress(
        data_key="confirmSubscriptionCallbackUrl", most=2000, load_default=None, allow_none=True
    )
    # The original has it for its one-off invoices only; a text is a text.
    sms_callback_url = WebAddress(data_key="smsStatusCallbackUrl", most=2000, load_default=None, allow_none=True)
    send_sms = Flag(data_key="sendSMS", load_default=False, allow_none=True)

    @validates_schema(skip_on_field_errors=False)
    def check_together(self, data: dict[str, Any], **_: Any) -> None:
        """Check what depends on another field; those that are wrong by themselves have been told already."""
        wrong: dict[str, list[str]] = {}
        if "payment_provider" in data and data["payment_provider"].lower() != "vipps":
            wrong["paymentProvider"] = ["must be Vipps."]
        low, high = MINIMUM.get(data.get("currency", ""), 0), MAXIMUM.get(data.get("currency", ""), 10**8)
        limits = f"must be from {to_major(low)} to {to_major(high)} {data.get('currency', '')}"
        if not low <= data.get("amount", low) <= high:
            wrong["amount"] = [f"{limits}."]
        campaign = data.get("campaign_amount")
        if campaign and not low <= campaign <= high:
            wrong["campaignAmount"] = [f"{limits}, or 0 for a free first period."]
        if wrong:
            raise ValidationError(wrong)


_SUBSCRIBE, _RESEND = SubscribeSchema(), ResendSchema()


def load_subscribe(body: Mapping[str, Any]) -> tuple[int, SubscriptionRequest]:
    """Return (partnerId, the request). Raises Invalid with a sentence for each field that is wrong."""
    data = _load(_SUBSCRIBE, body)
    return data["partner_id"], _request(data)


def load_resend(body: Mapping[str, Any]) -> Words:
    """Return the words of a text. Raises Invalid likewise."""
    data = _load(_RESEND, body)
    return Words(data["sms_text"], data["sms_originator"])


def _load(schema: Schema, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a body by our names; its names are matched without regard to case."""
    by_lower = {(field.data_key or name).lower(): field.data_key or name for name, field in schema.fields.items()}
    known = {by_lower[name.lower()]: value for name, value in body.items() if name.lower() in by_lower}
    if isinstance(known.get("currency"), str):
        known["currency"] = known["currency"].upper()
    try:
        data: dict[str, Any] = schema.load(known)
    except ValidationError as error:
        raise Invalid(_sentences(error)) from error
    return data


def basis_of(interval: Interval) -> int:
    """Return the contract's number of an interval."""
    return _BASIS_OF[interval]


def _request(data: dict[str, Any]) -> SubscriptionRequest:
    taken = {"partner_id", "payment_provider", "basis", "send_sms"}
    rest = {name: value for name, value in data.items() if name not in taken}
    return SubscriptionRequest(interval=BASIS[data["basis"]], send_sms=bool(data["send_sms"]), **rest)


_MISSING = ("Missing data for required field.", "Field may not be null.")


def _sentences(error: ValidationError) -> dict[str, list[str]]:
    """Return wire name -> sentences, each of which names the field."""
    messages = error.normalized_messages()  # type: ignore[no-untyped-call]
    return {
        name: [f"{name} {'is required.' if said in _MISSING else said}" for said in told]
        for name, told in messages.items()
    }
