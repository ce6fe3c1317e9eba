"""The bodies that marshmallow reads, as JSON Schema: read off the very schemas that judge them.

Each field is described as it is taken: a partner may write a number as a text, and an empty text counts as none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marshmallow import Schema, fields, validate

from invoice.web.openapi.parts import Json
from invoice.web.schemas import Flag, Kroner, Phone, ResendSchema, SubscribeSchema, Text, WebAddress, WholeNumber

# Control letters and letters that turn the reading order, as `schemas.Text` refuses them.
_CONTROLS = "\\u007f-\\u009f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
_ONE_LINE = f"^[^\\u0000-\\u001f{_CONTROLS}]*$"
_LINES = f"^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f{_CONTROLS}]*$"

_ABOUT = {
    "partnerId": "Your number.",
    "msisdn": "A phone number of Norway, Denmark, Finland or Sweden, with country code; eight digits are Norwegian. "
    "Blanks, dots, dashes, brackets and `00` are read.",
    "currency": "The currency of both amounts, in upper or lower case.",
    "orderNumber": "Your name of the request, unique. The same request again gets the same answer, another one a 409.",
    "amount": "What each period costs, in kroner or euros with at most two decimals: 1–20000 NOK, 0.01–300000 DKK, "
    "0.01–2000 EUR.",
    "campaignAmount": "What is taken at signing instead of `amount`. `0`: the first period is free.",
    "paymentProvider": "`Vipps`.",
    "description": "What is sold. Vipps shows 100 characters.",
    "basis": "How often: 1 weekly, 2 monthly, 3 yearly.",
    "memberId": "Your id of the person; cancel and resend take it.",
    "agreementUrl": 'The page behind "manage" in the app; `recurring=<subscriptionId>` joins its query. '
    "Without one we serve a page.",
    "name": "The product. Vipps shows 45 characters.",
    "statusCallbackUrl": "A template that is called when a payment changes.",
    "confirmSubscriptionCallbackUrl": "A template that is called when the subscription begins.",
    "smsStatusCallbackUrl": "A template that is called when the text fares on.",
    "sendSMS": "`true`: the link is texted. The answer carries it in any case.",
    "smsText": "The text; `{{url}}` stands for the link, which is put at the end otherwise. Without one we write it.",
    "smsNotificationOriginator": "Who the text comes from: a short number, a name of 2 to 11 letters and digits, or a "
    "number with `+`.",
}


def described(schema: Schema) -> Json:
    """Return a marshmallow schema as JSON Schema, by the names on the wire."""
    found = {str(field.data_key or name): _property(field) for name, field in schema.fields.items()}
    required = [str(field.data_key or name) for name, field in schema.fields.items() if field.required]
    properties = {name: {"description": _ABOUT[name], **found[name]} for name in sorted(found, key=list(_ABOUT).index)}
    return {
        "type": "object",
        "properties": properties,
        **({"required": sorted(required, key=list(_ABOUT).index)} if required else {}),
    }


def _property(field: fields.Field[Any]) -> Json:
    describe = next(_DESCRIBED[kind] for kind in type(field).__mro__ if kind in _DESCRIBED)
    found = describe(field)
    if not field.allow_none:
        return found
    return {**found, "type": [*_listed(found["type"]), "null"]}


def _listed(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _text(field: Any) -> Json:
    found: Json = {
        "type": ["string", "integer"],
        "maxLength": field.most,
        "pattern": _LINES if field.lines else _ONE_LINE,
    }
    if field.required:
        found["minLength"] = 1
    for check in field.validators:
        if isinstance(check, validate.OneOf):
            return {"type": "string", "enum": [*check.choices, *(word.lower() for word in check.choices)]}
    return found


def _phone(field: Any) -> Json:
    return {"type": ["string", "integer"], "minLength": 1, "maxLength": field.most}


def _address(field: Any) -> Json:
    return {"type": "string", "maxLength": field.most, "format": "uri-reference" if field.allow_none else "uri"}


def _whole_number(field: Any) -> Json:
    found: Json = {"type": ["integer", "string"], "pattern": "^[0-9]{1,10}$"}
    for check in field.validators:
        if isinstance(check, validate.Range):
            found.update(minimum=check.min, maximum=check.max)
        if isinstance(check, validate.OneOf):
            found.update(enum=[*check.choices, *(str(each) for each in check.choices)])
    return found


def _amount(_: Any) -> Json:
    return {
        "type": ["string", "number"],
        "pattern": r"^[0-9]{1,6}(\.[0-9]{1,2})?$",
        "minimum": 0,
        "maximum": 999999.99,
    }


def _flag(_: Any) -> Json:
    return {"type": ["boolean", "string"], "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"}


_DESCRIBED: dict[type, Callable[[Any], Json]] = {
    WebAddress: _address,
    Phone: _phone,
    Text: _text,
    WholeNumber: _whole_number,
    Kroner: _amount,
    Flag: _flag,
}

SUBSCRIBE, RESEND = described(SubscribeSchema()), described(ResendSchema())
