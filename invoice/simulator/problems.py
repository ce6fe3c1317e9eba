"""How Vipps says no: problem+json by name, and the gateway's own shape.

Source: Vipps Recurring API problems (2023-12), changelog (2026-06).
"""

from __future__ import annotations

import json

from invoice.simulator.answers import Answer, json_answer
from invoice.simulator.ids import new_uuid

_PAGE = "https://developer.vippsmobilepay.com/docs/APIs/recurring-api/recurring-api-problems#"
BLANK = "about:blank"

# identifier -> (status, title)
PROBLEMS = {
    "validation-error": (400, "Bad Request"),
    "invalid-agreement-id": (400, "Invalid agreement ID"),
    "invalid-json": (400, "Invalid JSON"),
    "unsupported-media-type": (415, "Unsupported Media Type"),
    "not-authorized": (403, "Not authorized"),
    "idempotency-key-header": (400, "Invalid Idempotency-Key header"),
    "missing-request-header": (400, "Missing request header"),
    "charge-amount-too-high": (400, "Charge amount too high"),
    "charge-due-too-soon": (400, "Charge due too soon"),
    "charge-due-in-too-long": (400, "Charge due in too long"),
    "unsupported-feature": (400, "Unsupported feature"),
    "illegal-agreement-update": (400, "Illegal agreement update"),
    "invalid-suggested-max-amount": (400, "Invalid suggested max amount"),
    "cancel-charge-failed": (400, "Cancel charge failed"),
    "charge-creation-failed": (400, "Charge creation failed"),
    "charge-capture-failed": (400, "Charge capture failed"),
    "invalid-sale-unit": (403, "Invalid sale unit"),
    "resource-not-found": (404, "Not Found"),
    "operation-failed": (400, "Operation failed"),
    "not-acceptable": (406, "Not Acceptable"),
    "conflict": (409, "Conflict"),
    "idempotency-conflict": (409, "Idempotency conflict"),
}

Reasons = list[tuple[str, str]]  # (name of the field, reason)


class Refusal(Exception):
    """A definite no to a request."""

    def answer(self, path: str) -> Answer:
        """Return what the caller of `path` gets."""
        raise NotImplementedError


class Problem(Refusal):
    """A no from Recurring itself."""

    def __init__(self, identifier: str, detail: str, reasons: Reasons | None = None) -> None:
        super().__init__(identifier, detail)
        self.identifier = identifier
        self.detail = detail
        self.reasons = reasons or []

    def answer(self, path: str) -> Answer:
        """Return problem+json; `instance` is the vendor's internal path."""
        status, title = PROBLEMS[self.identifier]
        body = {
            "type": BLANK if status == 404 else _PAGE + self.identifier,
            "title": title,
            "status": status,
            "detail": self.detail,
            "instance": path.replace("/recurring/", "/vipps-recurring-merchant-api/", 1),
            "contextId": new_uuid(),
            "extraDetails": [{"name": name, "reason": reason} for name, reason in self.reasons],
        }
        return Answer(status, json.dumps(body, ensure_ascii=False), "application/problem+json")


class WebhookProblem(Refusal):
    """A no from the Webhooks API: always 400, and the trace has another name.

    Source: Vipps Webhooks OpenAPI (2026-04), which knows no other refusal, not even for an id that is not there.
    """

    def __init__(self, reasons: Reasons) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def answer(self, path: str) -> Answer:
        """Return problem+json with `traceId`."""
        trace = new_uuid().replace("-", "")
        body = {
            "type": "https://tools.ietf.org/html/rfc7231#section-6.5.1",
            "title": "Bad Request",
            "status": 400,
            "detail": "One or more validation errors occurred.",
            "instance": path.removeprefix("/webhooks"),
            "traceId": f"00-{trace}-{trace[:16]}-00",
            "extraDetails": [{"name": name, "reason": reason} for name, reason in self.reasons],
        }
        return Answer(400, json.dumps(body, ensure_ascii=False), "application/problem+json")


class Breakdown(Refusal):
    """An error of the vendor's own."""

    def answer(self, path: str) -> Answer:  # noqa: ARG002 - nobody knows where it broke
        """Return a 500 that says nothing."""
        body = {"type": BLANK, "title": "Internal Server Error", "status": 500, "detail": str(self)}
        return Answer(500, json.dumps(body), "application/problem+json")


class GatewayRefusal(Refusal):
    """A no from the gateway in front (Azure API Management)."""

    _MESSAGES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}  # noqa: RUF012 - never changed

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers = headers or {}

    def answer(self, path: str) -> Answer:  # noqa: ARG002 - the gateway does not name the path
        """Return the gateway's own shape."""
        outer = {"responseCode": self.status, "responseMessage": self._MESSAGES[self.status]}
        return json_answer(self.status, {"responseInfo": outer, "result": {"message": self.message}}, self.headers)


def invalid(*reasons: tuple[str, str]) -> Problem:
    """Return a validation error for these (field, reason) pairs."""
    return Problem("validation-error", "One or more fields are invalid.", list(reasons))


def missing(what: str) -> Problem:
    """Return "<what> not found."."""
    return Problem("resource-not-found", f"{what} not found.")
