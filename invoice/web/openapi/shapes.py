"""The values that travel: what stands under `components/schemas`, and under which media types each is sent."""

from __future__ import annotations

from invoice.lifecycle import CHARGE_STATUS_WORDS
from invoice.services.outbox import EVENTS
from invoice.web.openapi.bodies import RESEND, SUBSCRIBE
from invoice.web.openapi.parts import Json, maybe, ref, sure, text, whole
from invoice.web.transactions import STATUSES

JSON, XML, HTML = ("application/json",), ("application/xml", "text/xml"), ("text/html",)

_INSTANT = text(format="date-time")
_DATE = text(format="date")
_KRONER = text(pattern=r"^[0-9]+\.[0-9]{2}$")
_NUMBER = whole(minimum=1, maximum=2**31 - 1)

_SETUP: Json = {
    "type": "object",
    "required": ["method", "url", "fields", "subscriptionId"],
    "properties": {
        "method": {"const": "GET"},
        "url": text("Where to send the person.", format="uri"),
        "fields": {"type": "object", "description": "Empty: nothing is to be sent along.", "properties": {}},
        "subscriptionId": _NUMBER,
        "smsNotificationParts": whole("As how many parts the text is sent.", minimum=1),
        "warnings": {"type": "array", "items": text()},
    },
}

_SUBSCRIPTION = sure(
    subscriptionId=_NUMBER,
    memberId=maybe(text()),
    msisdn=maybe(text()),
    orderNumber=maybe(text()),
    name=text(),
    description=text(),
    currency=text(),
    amount=_KRONER,
    campaignAmount=maybe(_KRONER),
    basis=whole(enum=[1, 2, 3]),
    chargeStatus=text(enum=list(dict.fromkeys(CHARGE_STATUS_WORDS.values()))),
    agreementUrl=text(),
    createdUtc=_INSTANT,
    startUtc=maybe(_INSTANT),
    nextChargeDate=maybe(_DATE),
    endedUtc=maybe(_INSTANT),
)

_TRANSACTION = sure(
    transactionId=text(format="uuid"),
    createdDateUtc=_INSTANT,
    paymentTransactionId=maybe(text("The same as `referenceId` once Vipps has it.")),
    status=text(enum=list(dict.fromkeys(status for _, status, _ in STATUSES.values()))),
    success={"type": "boolean"},
    statusDescription=text(),
    statusCode=text(enum=list(dict.fromkeys(code for code, _, _ in STATUSES.values()))),
    paymentSetup={"type": "null"},
    paymentDateUtc=maybe(_INSTANT),
    partnerId=_NUMBER,
    currency=text(),
    amount=_KRONER,
    returnUrl={"type": "null"},
    statusCallbackUrl=maybe(text()),
    referenceId=text("Our name of the payment, unique: Vipps' `orderId`, and in its settlement reports."),
    paymentProvider={"const": "Vipps"},
    paymentEntity=maybe(text("The phone number.")),
    description=text(),
    ocr={"type": "null"},
    subscriptionId=_NUMBER,
    orderNumber=maybe(text()),
    memberId=maybe(text()),
    period=maybe(whole("Counted from 0, the payment at signing; none where a partner made it itself.")),
    dueDate=_DATE,
    capturedAmount=_KRONER,
    refundedAmount=_KRONER,
    captureBeforeUtc=maybe(_INSTANT),
)

_EVENT_ID = text(pattern="^evt_[0-9a-f]{32}$")
_EVENT = sure(
    id=_EVENT_ID,
    type=text("New types may be added.", examples=list(EVENTS)),
    occurredAt=_INSTANT,
    sequence=whole("Counts the events of one subscription, without gaps.", minimum=1),
    subscriptionId=_NUMBER,
    requestId=maybe(text("The `X-Request-Id` of the request that it came of.")),
    data={"type": "object", "description": "What belongs to the type.", "additionalProperties": True},
)
_FATE = sure(
    channel=text(),
    status=text(enum=["waiting", "ready", "inflight", "delivered", "parked", "void"]),
    tries=whole(minimum=0),
    nextTryUtc=maybe(_INSTANT),
    lastFault=maybe(text()),
    settledUtc=maybe(_INSTANT),
)
_SECRET: Json = {"secret": text(pattern="^whsec_"), "previousSecretUntilUtc": maybe(_INSTANT)}
_ENDPOINT: Json = {
    "url": text(),
    "createdUtc": _INSTANT,
    "previousSecretUntilUtc": maybe(_INSTANT),
    "failingSinceUtc": maybe(_INSTANT),
    "pausedUntilUtc": maybe(_INSTANT),
    "waiting": whole(minimum=0),
    "parked": whole(minimum=0),
}

_AGREEMENT: Json = {
    "type": "object",
    "description": "As version 2 of Vipps showed it. In the strict manner `{}` for one that there is not.",
    "properties": {
        **{name: text() for name in ("id", "status", "productName", "currency", "interval")},
        **{name: maybe(text()) for name in ("start", "stop", "productDescription")},
        "price": whole("Øre or cents."),
        "intervalCount": whole(),
        "campaign": {"type": ["object", "null"], "additionalProperties": True},
    },
}
_WHOLE_PRICE: Json = {"type": ["integer", "string"], "pattern": "^[0-9]{1,12}$", "description": "Øre or cents."}
_AGREEMENT_ID, _CHARGE_ID = text("Vipps' id of the agreement."), text("The charge as it was named.")
_WORDS = maybe(text(maxLength=500))


def _item(*required: str, **properties: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


def _list_of(item: Json) -> Json:
    return {"type": "array", "maxItems": 2000, "items": item}


def _page_of(name: str, items: str, after: Json) -> Json:
    """Return a page of a list: `nextAfter` is there while there may be more."""
    listed = {"type": "array", "items": ref(items)}
    return {"type": "object", "required": [name], "properties": {name: listed, "nextAfter": after}}


# name -> (media types, schema)
SHAPES: dict[str, tuple[tuple[str, ...], Json]] = {
    "Message": (JSON, sure(message=text())),
    "InvalidRequest": (
        JSON,
        {
            "type": "object",
            "required": ["message"],
            "properties": {
                "message": text(),
                "modelState": {
                    "type": "object",
                    "description": "`request.<Field>` -> sentences; all that is wrong is told at once.",
                    "additionalProperties": {"type": "array", "items": text()},
                },
            },
        },
    ),
    "Words": ((*JSON, *XML), text("A bare string: a JSON text, or XML for whoever prefers that in `Accept`.")),
    "Page": (HTML, text("A page for people, in five languages.")),
    "Redirection": (HTML, text("A page with the address, for whoever does not follow it.")),
    "PaymentSetup": (JSON, _SETUP),
    "SubscriptionRequest": (JSON, SUBSCRIBE),
    "ResendRequest": (JSON, RESEND),
    "Subscription": (JSON, _SUBSCRIPTION),
    "Subscriptions": (JSON, _page_of("subscriptions", "Subscription", _NUMBER)),
    "Transaction": (JSON, _TRANSACTION),
    "Transactions": (JSON, _page_of("transactions", "Transaction", text(format="uuid"))),
    "Event": (JSON, _EVENT),
    "EventWithDeliveries": (
        JSON,
        sure(**_EVENT["properties"], deliveries={"type": "array", "items": ref("EventDelivery")}),
    ),
    "EventDelivery": (JSON, _FATE),
    "Events": (
        JSON,
        sure(
            events={"type": "array", "items": ref("Event")},
            nextAfter=maybe(_EVENT_ID),
            hasMore={"type": "boolean"},
        ),
    ),
    "Queued": (JSON, sure(queued=whole("How many events.", minimum=0))),
    "TimeSpan": (JSON, _item("from", "to", **{"from": _INSTANT, "to": _INSTANT})),
    "EndpointRequest": (JSON, sure(url=text("https, and a public host.", minLength=1, maxLength=2000))),
    "Endpoint": (JSON, sure(**_ENDPOINT)),
    "NewEndpoint": (JSON, sure(**{**_ENDPOINT, **_SECRET})),
    "EndpointSecret": (JSON, sure(**_SECRET)),
    "AgreementId": (JSON, _AGREEMENT_ID),
    "AgreementIds": (JSON, _list_of(_AGREEMENT_ID)),
    "Agreement": (JSON, _AGREEMENT),
    "NewCharges": (
        JSON,
        _list_of(
            _item(
                *("agreement_id", "price"),
                agreement_id=_AGREEMENT_ID,
                price=_WHOLE_PRICE,
                description=_WORDS,
                charge_id=maybe(text("Your name of it: letters, digits and dashes.", maxLength=64)),
            )
        ),
    ),
    "AgreementItems": (JSON, _list_of(_item("agreement_id", agreement_id=_AGREEMENT_ID))),
    "ChargeItems": (
        JSON,
        _list_of(_item("agreement_id", "charge_id", agreement_id=_AGREEMENT_ID, charge_id=_CHARGE_ID)),
    ),
    "RefundItems": (
        JSON,
        _list_of(
            _item(
                *("agreement_id", "charge_id", "price"),
                agreement_id=_AGREEMENT_ID,
                charge_id=_CHARGE_ID,
                price=_WHOLE_PRICE,
                description=_WORDS,
            )
        ),
    ),
    "Results": (
        JSON,
        sure(
            successes={"type": "array", "items": text()},
            errors={"type": "array", "items": text("`<id>: <text>`")},
        ),
    ),
    "Failure": (JSON, sure(success={"const": False}, error=text())),
    "Token": (HTML, text("The access token, alone.")),
    "State": (JSON, sure(state=text(enum=["waiting", "done"]))),
    "Health": (JSON, sure(status={"const": "ok"})),
    "Readiness": (JSON, {"type": "object", "additionalProperties": {"type": "boolean"}}),
    "Nothing": (JSON, {"type": "object", "properties": {}}),
    "Webhook": (JSON, {"type": "object", "description": "As Vipps writes it.", "additionalProperties": True}),
    "Receipt": (
        ("application/x-www-form-urlencoded",),
        {
            "type": "object",
            "description": "As Twilio writes it.",
            "properties": {"MessageSid": text(), "MessageStatus": text()},
            "additionalProperties": True,
        },
    ),
    "Document": (JSON, {"type": "object", "description": "OpenAPI 3.1.", "additionalProperties": True}),
    "File": (("text/css", "text/javascript"), text()),
}
