"""The contract of the Drupal module "Vipps Recurring Payments": lists, and answers that are mostly 200."""

from __future__ import annotations

from invoice.web.openapi.parts import Answer, Example, Operation
from invoice.web.openapi.samples import AGREEMENT, REFERENCE

_RESULTS = Answer(
    "What came of each item, in order; or, with `success` false, that the whole request has come to nothing.",
    ("Results", "Failure"),
)
_NOT_THERE = "This agreement does not exist"
_NO_LIST = {"success": False, "error": "The body must be a JSON list."}


def _unknown(body: object) -> Example:
    return Example(
        "No such agreement", 200, body=body, answer={"successes": [], "errors": [f"agr_unknown: {_NOT_THERE}"]}
    )


def _list(text: str, body: str, **examples: Example) -> Operation:
    """Return an operation on a list of items. The media type of the body is not looked at."""
    text += " The body is read as JSON whatever its `Content-Type` says; at most 2000 items."
    told = {name.replace("_", "-"): example for name, example in examples.items()}
    no_list = Example("No list", 200, body={"agreement_id": AGREEMENT}, answer=_NO_LIST)
    return Operation(text=text, body=body, answers={200: _RESULTS}, examples={**told, "no-list": no_list})


TABLE = {
    "recurring_payments.test_auth": Operation(
        text="Only for an API key that may see the token, of a partner with a sales unit of its own. Any method.",
        answers={
            200: Answer("The access token.", ("Token",)),
            403: Answer("These credentials do not give access to the token.", ("Message",)),
            500: Answer("In the strict manner: Vipps did not answer.", ("Token",)),
            503: Answer("Vipps did not answer.", ("Message",)),
        },
        examples={
            "not-allowed": Example(
                "Without the right to it",
                403,
                answer={"message": "These credentials do not give access to the token."},
            )
        },
    ),
    "recurring_payments.get_agreement": Operation(
        text="The body is a JSON text.",
        body="AgreementId",
        answers={200: Answer("The agreement; with `success` false, that there is none.", ("Agreement", "Failure"))},
        examples={
            "one": Example("An agreement", 200, body=AGREEMENT),
            "unknown": Example(
                "No such agreement", 200, body="agr_unknown", answer={"success": False, "error": _NOT_THERE}
            ),
        },
    ),
    "recurring_payments.cancel_agreements": _list(
        "From now on nothing is charged on them.",
        "AgreementIds",
        one=Example("An agreement", 200, body=[AGREEMENT], answer={"successes": [AGREEMENT], "errors": []}),
        unknown=_unknown(["agr_unknown"]),
    ),
    "recurring_payments.make_charges": _list(
        "Each falls due in two days. Send a `charge_id` or an `Idempotency-Key`: the same again is then one charge.",
        "NewCharges",
        documented=Example(
            "With a name of yours, and a price in a text as documented",
            200,
            body=[
                {
                    "agreement_id": AGREEMENT,
                    "price": "250",
                    "description": "Custom description",
                    "charge_id": "invoice-4711",
                }
            ],
            answer={"successes": ["invoice-4711"], "errors": []},
        ),
        unknown=_unknown([{"agreement_id": "agr_unknown", "price": 250}]),
        no_price=Example(
            "Without a price",
            200,
            body=[{"agreement_id": AGREEMENT}],
            answer={"successes": [], "errors": [f"{AGREEMENT}: price is missing."]},
        ),
    ),
    "recurring_payments.get_charges": _list(
        "Each agreement's charges are a text that holds JSON.",
        "AgreementItems",
        one=Example("An agreement", 200, body=[{"agreement_id": AGREEMENT}]),
        unknown=_unknown([{"agreement_id": "agr_unknown"}]),
    ),
    "recurring_payments.cancel_charges": _list(
        "A second time changes nothing.",
        "ChargeItems",
        unknown=Example(
            "No such agreement",
            200,
            body=[{"agreement_id": "agr_unknown", "charge_id": "invoice-4711"}],
            answer={"successes": [], "errors": [f"invoice-4711: {_NOT_THERE}"]},
        ),
    ),
    "recurring_payments.refund_charges": _list(
        "Never more than was taken and not given back yet.",
        "RefundItems",
        a_part=Example(
            "A part",
            200,
            body=[{"agreement_id": AGREEMENT, "charge_id": REFERENCE, "price": 100, "description": "Sorry"}],
            answer={"successes": [REFERENCE], "errors": []},
        ),
    ),
}
