"""The reading side of the Mobile Invoice contract: each payment, and the capture of what is set aside."""

from __future__ import annotations

from invoice.web.openapi.parts import Answer, Example, Operation, parameter, text
from invoice.web.openapi.samples import DOCUMENTED, PARTNER, REFERENCE, RESERVED, TRANSACTION, UNKNOWN_GUID

_AFTER = parameter("after", "The `nextAfter` of the page before.", text(format="uuid"))
_SINCE = parameter(
    "fromDate",
    "A date or a minute, UTC: `2026-11-21` or `2026-11-21T08:00`.",
    text(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?$"),
    required=True,
)
_PAID = {
    "transactionId": TRANSACTION,
    "createdDateUtc": "2026-11-10T11:00:00Z",
    "paymentTransactionId": REFERENCE,
    "status": "CHARGED",
    "success": True,
    "statusDescription": "Paid.",
    "statusCode": "Captured",
    "paymentSetup": None,
    "paymentDateUtc": "2026-11-10T11:00:00Z",
    "partnerId": PARTNER,
    "currency": "NOK",
    "amount": "10.00",
    "returnUrl": None,
    "statusCallbackUrl": None,
    "referenceId": REFERENCE,
    "paymentProvider": "Vipps",
    "paymentEntity": "+4712457890",
    "description": "Recurring payment subscription request",
    "ocr": None,
    "subscriptionId": 1,
    "orderNumber": DOCUMENTED["orderNumber"],
    "memberId": None,
    "period": 0,
    "dueDate": "2026-11-10",
    "capturedAmount": "10.00",
    "refundedAmount": "0.00",
    "captureBeforeUtc": None,
}
_NOT_FOUND = f"Transaction with id '{UNKNOWN_GUID}' not found."

FIND = Operation(
    query=(
        parameter("partnerId", "Your number.", text(pattern="^[0-9]{1,10}$"), required=True),
        parameter(
            "referenceId",
            "The payment's `referenceId`, or an order number: that finds the first payment of the order.",
            text(minLength=1, maxLength=64),
            required=True,
        ),
    ),
    answers={
        200: Answer("The payment.", ("Transaction",)),
        400: Answer("`Missing required parameter referenceId.`", ("Words",)),
        403: Answer("`partnerId` does not belong to these credentials.", ("Message",)),
        404: Answer("`Transaction for partner id '10295' and reference id '...' not found.`", ("Words",)),
    },
    examples={
        "by-reference": Example(
            "By its reference", 200, given={"partnerId": str(PARTNER), "referenceId": REFERENCE}, answer=_PAID
        ),
        "by-order": Example(
            "The first payment of an order",
            200,
            given={"partnerId": str(PARTNER), "referenceId": DOCUMENTED["orderNumber"]},
            answer=_PAID,
        ),
        "unknown": Example(
            "No such payment",
            404,
            given={"partnerId": str(PARTNER), "referenceId": "none"},
            answer="Transaction for partner id '10295' and reference id 'none' not found.",
        ),
        "another-partner": Example(
            "Another partner's number",
            403,
            given={"partnerId": "20000", "referenceId": "none"},
            answer={"message": "partnerId does not belong to these credentials."},
        ),
    },
)

SINCE = Operation(
    text="Oldest first, 500 to a page.",
    query=(_SINCE, _AFTER),
    answers={
        200: Answer("A page of them.", ("Transactions",)),
        400: Answer("`Missing required parameter fromDate.`", ("Words",)),
    },
    examples={
        "none": Example(
            "A day without any",
            200,
            given={"partnerId": PARTNER, "fromDate": "2031-01-01"},
            answer={"transactions": []},
        ),
    },
)

OF_SUBSCRIPTION = Operation(
    text="Oldest first, 500 to a page.",
    query=(_AFTER,),
    answers={
        200: Answer("A page of them.", ("Transactions",)),
        404: Answer("`Recurring not found`", ("Words",)),
    },
    examples={
        "none": Example(
            "A subscription that nobody has accepted",
            200,
            given={"partnerId": PARTNER, "recurringPaymentId": "2"},
            answer={"transactions": []},
        ),
        "unknown": Example(
            "No such subscription",
            404,
            given={"partnerId": PARTNER, "recurringPaymentId": "4711"},
            answer="Recurring not found",
        ),
    },
)

GET = Operation(
    answers={
        200: Answer("The payment.", ("Transaction",)),
        404: Answer(f"`{_NOT_FOUND}`", ("Words",)),
    },
    examples={
        "paid": Example("A payment", 200, given={"partnerId": PARTNER, "transactionId": TRANSACTION}, answer=_PAID),
        "unknown": Example(
            "No such payment",
            404,
            given={"partnerId": PARTNER, "transactionId": UNKNOWN_GUID},
            answer=_NOT_FOUND,
        ),
    },
)

CAPTURE = Operation(
    query=(
        parameter(
            "amount",
            "A part of what is left, in kroner or euros; without it all that is left.",
            text(pattern=r"^[0-9]{1,6}(\.[0-9]{1,2})?$"),
        ),
    ),
    answers={
        200: Answer("Accepted; `Captured` when Vipps says so.", ("Transaction",)),
        404: Answer(f"`{_NOT_FOUND}`", ("Words",)),
        409: Answer(
            "It is not set aside, its deadline is over, its subscription cancelled, or a capture of it under way.",
            ("Words",),
        ),
    },
    examples={
        "a-part": Example("A part", 200, given={"partnerId": PARTNER, "transactionId": RESERVED, "amount": "5"}),
        "paid-already": Example(
            "What is paid already",
            409,
            given={"partnerId": PARTNER, "transactionId": TRANSACTION},
            answer=f"Charge {REFERENCE} cannot be captured: it is CHARGED.",
        ),
        "too-much": Example(
            "More than is left",
            400,
            given={"partnerId": PARTNER, "transactionId": RESERVED, "amount": "5000"},
            answer={
                "message": "The request is invalid.",
                "modelState": {"request.Amount": ["amount must be from 1.00 to 99.00, which is what is left."]},
            },
        ),
    },
)

TABLE = {
    "transactions.find_transaction": FIND,
    "transactions.list_transactions": SINCE,
    "transactions.list_of_subscription": OF_SUBSCRIPTION,
    "transactions.get_transaction": GET,
    "transactions.capture": CAPTURE,
}
