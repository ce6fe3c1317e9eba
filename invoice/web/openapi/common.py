"""What routes of one kind have in common: read off the route map and the decorators of the views."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from invoice.web import auth, idempotency, module_format
from invoice.web.openapi.parts import Answer, Json, Operation, parameter, text, whole
from invoice.web.parameters import API_VERSIONS

# A status, or a range of them, as OpenAPI writes it.
Answers = dict[str, Answer]

_TOKEN = text(pattern="^[A-Za-z0-9_-]{1,64}$")
# argument of a view -> (its name in the contract, what it is)
_ARGUMENTS: dict[str, tuple[str, Json]] = {
    "partner_id": ("partnerId", whole("Your number.", minimum=0, maximum=2**31 - 1)),
    "identifier": ("id", text("A subscription's number, or a member's id.", minLength=1, maxLength=100)),
    "payment_type_id": ("paymentTypeId", text("5 is Vipps.", enum=["5"])),
    "since": (
        "from",
        text("A date or a minute, UTC.", pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?$"),
    ),
    "transaction_id": ("transactionId", text("A payment.", format="uuid")),
    "recurring_payment_id": ("recurringPaymentId", text("A subscription's number.", pattern="^[0-9]{1,10}$")),
    "event_id": ("eventId", {**_TOKEN, "description": "An event."}),
    "token": ("token", {**_TOKEN, "description": "The last part of a link that we gave out."}),
    "return_id": ("returnId", {**_TOKEN, "description": "The last part of the address that Vipps leads back to."}),
    "registration": ("registration", {**_TOKEN, "description": "Of the webhook."}),
    "message_id": ("messageId", whole("Of the text.", minimum=0, maximum=2**31 - 1)),
    "filename": ("filename", text("A file.")),
}
_PLACEHOLDER = re.compile(r"<(?:[a-z]+(?:\([^)]*\))?:)?([a-z_]+)>")

_VERSION = parameter("api-version", "All are answered alike.", text(enum=list(API_VERSIONS)))
_FORMAT = parameter("_format", "As the module's framework has it.", text(enum=["json"]))
_KEY: Json = {
    "name": idempotency.HEADER,
    "in": "header",
    "description": "With it the request is carried out once, however often it is sent.",
    "schema": text(pattern="^[!-~]{1,255}$"),
}
_ONCE = ("recurring_payments.make_charges", "recurring_payments.refund_charges")

_MESSAGE = ("Message",)
_FOR_PROGRAMS: Answers = {
    "400": Answer("Another host, or a query that is not UTF-8.", _MESSAGE),
    "405": Answer("Another method.", _MESSAGE, ("Allow",)),
    "5XX": Answer("Not done, or not known to be done: send it again, with the same key.", _MESSAGE),
}
_FOR_PEOPLE: Answers = {
    "400": Answer("Another host, or a query that is not UTF-8.", ("Page", "Message")),
    "404": Answer("There is no such link.", ("Page",)),
    "405": Answer("Another method.", ("Page",), ("Allow",)),
    "429": Answer("Too many links that open nothing, or presses of the button.", ("Page",), ("Retry-After",)),
    "5XX": Answer("Something went wrong here; nobody pays twice by trying again.", ("Page",)),
}
_FOR_PARTNERS: Answers = {
    "401": Answer("No proof of who asks, or a wrong one.", _MESSAGE, ("WWW-Authenticate",)),
    "413": Answer("The body is too long.", _MESSAGE),
    "429": Answer("Too many requests, or too many wrong secrets.", _MESSAGE, ("Retry-After",)),
}
_IN_THE_MODULE: Answers = {
    "403": Answer("Wrong credentials.", _MESSAGE),
    "406": Answer("Another `_format`.", _MESSAGE),
}
_WITH_A_KEY: Answers = {
    "409": Answer(
        "The same request is being carried out under this `Idempotency-Key` (`Retry-After`).",
        ("Words",),
        ("Retry-After",),
    ),
    "422": Answer("The `Idempotency-Key` stands for another request.", ("Words",)),
}


@dataclass(frozen=True)
class Route:
    """One rule of the route map, and what its decorators say."""

    rule: Rule
    view: Any

    @property
    def endpoint(self) -> str:
        """Its name, "<blueprint>.<view>"."""
        return str(self.rule.endpoint)

    @property
    def path(self) -> str:
        """The address as OpenAPI writes it."""
        return _PLACEHOLDER.sub(lambda found: f"{{{_ARGUMENTS[found[1]][0]}}}", self.rule.rule)

    @property
    def methods(self) -> list[str]:
        """The methods that somebody wrote down, and not those that every address has."""
        # Flask's mark on a rule of werkzeug's.
        automatic = {"HEAD", "OPTIONS"} if getattr(self.rule, "provide_automatic_options", True) else {"HEAD"}
        return sorted((self.rule.methods or set()) - automatic)

    def operation_id(self, method: str) -> str:
        """Return the name of an operation: that of the view, with the method where it has several."""
        first, *rest = self.endpoint.rpartition(".")[2].split("_")
        rest += [method] if len(self.methods) > 1 else []
        return first + "".join(word.capitalize() for word in rest)

    @property
    def is_for_partners(self) -> bool:
        return getattr(self.view, auth.MARK, "") == "partner"

    @property
    def is_in_module(self) -> bool:
        return self.rule.rule.startswith(module_format.PREFIX)

    @property
    def is_for_people(self) -> bool:
        return self.endpoint.startswith(("pages.", "static")) or self.endpoint == "api_docs.show_page"

    @property
    def is_idempotent(self) -> bool:
        return hasattr(self.view, idempotency.MARK)


def routes(app: Flask) -> list[Route]:
    """Return every route of the application."""
    return [Route(rule, app.view_functions[rule.endpoint]) for rule in app.url_map.iter_rules()]


def parameters(route: Route, row: Operation) -> list[Json]:
    """Return everything that a request to a route can hold beside its body."""
    found = [_in_path(name) for name in _PLACEHOLDER.findall(route.rule.rule)]
    found += row.query
    if route.is_for_partners:
        found.append(_FORMAT if route.is_in_module else _VERSION)
    if route.is_idempotent or route.endpoint in _ONCE:
        found.append(_KEY)
    return found


def _in_path(argument: str) -> Json:
    name, schema = _ARGUMENTS[argument]
    rest = {key: value for key, value in schema.items() if key != "description"}
    return {"name": name, "in": "path", "required": True, "description": schema["description"], "schema": rest}


def answers(route: Route, row: Operation) -> Answers:
    """Return every answer that a route can give, its own before those that all of its kind have."""
    found = {str(status): answer for status, answer in row.answers.items()}
    for each in _kinds(route, row):
        for status, answer in each.items():
            found[status] = found[status].joined(answer) if status in found else answer
    return dict(sorted(found.items()))


def _kinds(route: Route, row: Operation) -> list[Answers]:
    if route.is_for_people:
        return [_FOR_PEOPLE]
    found: list[Answers] = []
    if route.rule.arguments:
        found.append({"404": Answer("The address cannot be one of ours.", _MESSAGE)})
    if route.is_for_partners:
        found += [_FOR_PARTNERS, _IN_THE_MODULE if route.is_in_module else _of_the_contract(route, row)]
    if route.is_idempotent:
        found.append(_WITH_A_KEY)
    return [*found, _FOR_PROGRAMS]


def _of_the_contract(route: Route, row: Operation) -> Answers:
    found = {"400": Answer("What is wrong, by the name of its field.", ("InvalidRequest",))}
    if row.body:
        found["415"] = Answer("Not JSON in UTF-8.", _MESSAGE)
    if "partner_id" in route.rule.arguments:
        found["403"] = Answer("`partnerId` does not belong to these credentials.", _MESSAGE)
    return found
