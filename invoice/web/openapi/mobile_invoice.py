"""The Mobile Invoice contract: asking for subscriptions, and what they have become."""

from __future__ import annotations

from invoice.web.openapi.parts import Answer, Example, Operation, parameter, whole
from invoice.web.openapi.samples import DOCUMENTED, LINK, PARTNER

_AFTER = parameter("after", "The `nextAfter` of the page before.", whole(minimum=0, maximum=2**31 - 1))
_WRONG = {
    "message": "The request is invalid.",
    "modelState": {
        "request.Msisdn": ["msisdn must be a phone number with country code, such as +4791234567."],
        "request.Amount": ["amount is required."],
    },
}
_SETUP = {
    "method": "GET",
    "url": f"https://pay.example.com/api/recurring/process/{PARTNER}/{LINK}",
    "fields": {},
}
_BUSY = ("Retry-After",)

SUBSCRIBE = Operation(
    text="Also accepted when Vipps does not answer at the moment: the link works all the same. Values may be texts or "
    "proper types, names in any case; unknown fields are ignored.",
    body="SubscriptionRequest",
    media_types=("application/json", "text/json"),
    answers={
        200: Answer("Accepted.", ("PaymentSetup",)),
        400: Answer("Vipps refused, in Vipps' words: the order number is free again.", ("Words",)),
        403: Answer("`partnerId` does not belong to these credentials.", ("Message",)),
        409: Answer(
            "The order number stands for another request; with `Retry-After`: the same is being asked for at Vipps "
            "right now.",
            ("Words",),
            _BUSY,
        ),
        429: Answer("A cap of texts is reached; nothing was created.", ("Message",)),
    },
    examples={
        "documented": Example(
            "The documented payload",
            200,
            body={**DOCUMENTED, "orderNumber": "unique-order-number-12347"},
            answer={
                **_SETUP,
                "subscriptionId": 4,
                "smsNotificationParts": 1,
                "warnings": ["msisdn: no numbering plan knows this number; the text was accepted all the same."],
            },
        ),
        "minimal": Example(
            "Proper types, and no text",
            200,
            body={
                "partnerId": PARTNER,
                "msisdn": "+4791234567",
                "currency": "NOK",
                "amount": 99,
                "paymentProvider": "Vipps",
                "description": "Avisen hver dag",
                "basis": 2,
                "name": "Avisen",
            },
            answer={**_SETUP, "subscriptionId": 4},
        ),
        "same-order": Example(
            "An order number that stands for another request",
            409,
            body={**DOCUMENTED, "amount": "13.00"},
            answer='orderNumber "unique-order-number-12346" is in use for another subscription',
        ),
        "wrong-fields": Example(
            "Two wrong fields",
            400,
            body={name: value for name, value in {**DOCUMENTED, "msisdn": "12"}.items() if name != "amount"},
            answer=_WRONG,
        ),
        "another-partner": Example(
            "Another partner's number",
            403,
            body={**DOCUMENTED, "partnerId": "20000"},
            answer={"message": "partnerId does not belong to these credentials."},
        ),
    },
)

RESEND = Operation(
    text="The same link, in the words of the last text or in new ones; the body may be left out.",
    body="ResendRequest?",
    media_types=("application/json", "text/json"),
    answers={
        200: Answer("The text is on its way.", ("PaymentSetup",)),
        400: Answer("`Invalid subscription identifier`", ("Words",)),
        404: Answer("`Recurring not found`", ("Words",)),
        409: Answer(
            "Nobody is waited for, the link has expired, a member has several, or a text is on its way "
            "(`Retry-After`).",
            ("Words",),
            _BUSY,
        ),
        429: Answer("A cap of texts is reached.", ("Message",)),
    },
    examples={
        "new-words": Example(
            "Other words",
            200,
            given={"id": "2"},
            body={"smsText": "Husk {{name}}: {{url}}", "smsNotificationOriginator": "My Company"},
            answer={**_SETUP, "subscriptionId": 2, "smsNotificationParts": 1},
        ),
        "same-words": Example(
            "The same words",
            200,
            given={"id": "member-2"},
            answer={**_SETUP, "subscriptionId": 2, "smsNotificationParts": 1},
        ),
        "active": Example(
            "Nobody is waited for",
            409,
            given={"id": "1"},
            body={},
            answer='Subscription with status: "Active" for "1" cannot be texted',
        ),
        "unknown": Example("No such subscription", 404, given={"id": "4711"}, answer="Recurring not found"),
    },
)

CANCEL = Operation(
    text="From then on nothing is charged. A number is a subscription's before it is a member's.",
    answers={
        200: Answer("Accepted; `Cancelled` when Vipps has confirmed it."),
        400: Answer(
            '`Invalid subscription identifier`, or `Subscription with status: "Cancelled" for "635" cannot be '
            "cancelled`, or a member with several.",
            ("Words",),
        ),
        404: Answer("`Recurring not found`", ("Words",)),
    },
    examples={
        "by-number": Example("By its number", 200, given={"id": "1"}),
        "by-member": Example("By the member's id", 200, given={"id": "member-2"}),
        "unknown": Example("No such subscription", 404, given={"id": "4711"}, answer="Recurring not found"),
        "invalid": Example(
            "What nothing can be called", 400, given={"id": "2147483648"}, answer="Invalid subscription identifier"
        ),
    },
)

LIST = Operation(
    text="By number, 500 to a page.",
    query=(_AFTER,),
    answers={200: Answer("A page of them.", ("Subscriptions",))},
    examples={
        "since": Example(
            "Since a date",
            200,
            given={"partnerId": PARTNER, "paymentTypeId": "5", "from": "2026-11-01", "after": 2},
            answer={
                "subscriptions": [
                    {
                        "subscriptionId": 3,
                        "memberId": None,
                        "msisdn": "+4791234567",
                        "orderNumber": None,
                        "name": "Avisen",
                        "description": "Avisen hver dag",
                        "currency": "NOK",
                        "amount": "99.00",
                        "campaignAmount": None,
                        "basis": 2,
                        "chargeStatus": "Active",
                        "agreementUrl": "https://www.example.com/mine?recurring=3",
                        "createdUtc": "2026-11-10T11:00:00Z",
                        "startUtc": "2026-11-10T11:00:00Z",
                        "nextChargeDate": "2026-12-10",
                        "endedUtc": None,
                    }
                ]
            },
        ),
        "no-date": Example(
            "No date",
            400,
            given={"partnerId": PARTNER, "paymentTypeId": "5", "from": "yesterday"},
            answer={
                "message": "The request is invalid.",
                "modelState": {"request.From": ["from must be a date such as 2026-11-21 or 2026-11-21T08:00."]},
            },
        ),
    },
)

TABLE = {
    "mobile_invoice.subscribe": SUBSCRIBE,
    "mobile_invoice.resend": RESEND,
    "mobile_invoice.cancel": CANCEL,
    "mobile_invoice.list_subscriptions": LIST,
}
