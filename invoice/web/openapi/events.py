"""Events: what partners pull, where they have them sent, and what they have sent again."""

from __future__ import annotations

from invoice.web.events import MAX_PAGE
from invoice.web.openapi.parts import Answer, Example, Operation, parameter, text, whole
from invoice.web.openapi.samples import EVENT, SECRET, UNKNOWN_EVENT

_URL = "https://www.example.com/vipps-events"
_ENDPOINT = {
    "url": _URL,
    "createdUtc": "2026-11-10T11:00:00.000Z",
    "previousSecretUntilUtc": None,
    "failingSinceUtc": None,
    "pausedUntilUtc": None,
    "waiting": 0,
    "parked": 0,
}
_REQUESTED = {
    "id": EVENT,
    "type": "subscription.requested",
    "occurredAt": "2026-11-10T11:00:00.000Z",
    "sequence": 1,
    "subscriptionId": 1,
    "requestId": "order-12346",
    "data": {"orderNumber": "unique-order-number-12346", "sendSMS": True},
}
_NO_ENDPOINT = Answer("No endpoint is registered.", ("Words",))
_NO_EVENT = Answer("`There is no such event.`", ("Words",))
_BAD_TIME = {
    "message": "The request is invalid.",
    "modelState": {"request.To": ["to must be later than from."]},
}

PULL = Operation(
    text="Nothing is ever put in before `nextAfter`: nobody who follows the list misses an event.",
    query=(
        parameter("after", "The `nextAfter` of the page before.", text(pattern="^evt_[0-9a-f]{32}$")),
        parameter("limit", "How many, 100 unless told.", whole(minimum=1, maximum=MAX_PAGE)),
    ),
    answers={200: Answer("A page of events.", ("Events",))},
    examples={
        "first": Example(
            "The first event",
            200,
            given={"limit": 1},
            answer={"events": [_REQUESTED], "nextAfter": EVENT, "hasMore": True},
        ),
        "too-many": Example(
            "More than a page holds",
            400,
            given={"limit": 201},
            answer={
                "message": "The request is invalid.",
                "modelState": {"request.Limit": ["limit must be from 1 to 200."]},
            },
        ),
    },
)

GET = Operation(
    answers={200: Answer("The event and its deliveries.", ("EventWithDeliveries",)), 404: _NO_EVENT},
    examples={
        "requested": Example(
            "An event that was sent nowhere", 200, given={"eventId": EVENT}, answer={**_REQUESTED, "deliveries": []}
        ),
        "unknown": Example("No such event", 404, given={"eventId": UNKNOWN_EVENT}, answer="There is no such event."),
    },
)

REPLAY = Operation(
    answers={
        202: Answer("It is sent again.", ("Queued",)),
        404: _NO_EVENT,
        409: Answer("There is nowhere to send it to, or it is on its way already.", ("Words",)),
    },
    examples={
        "again": Example("Once more", 202, given={"eventId": EVENT}, answer={"queued": 1}),
        "unknown": Example("No such event", 404, given={"eventId": UNKNOWN_EVENT}, answer="There is no such event."),
    },
)

REPLAY_SPAN = Operation(
    text="At most 1000 events.",
    body="TimeSpan",
    media_types=("application/json", "text/json"),
    answers={202: Answer("They are sent again.", ("Queued",))},
    examples={
        "a-day": Example(
            "A day",
            202,
            body={"from": "2026-11-09T00:00:00Z", "to": "2026-11-10T00:00:00Z"},
            answer={"queued": 0},
        ),
        "backwards": Example(
            "Backwards",
            400,
            body={"from": "2026-11-10T00:00:00Z", "to": "2026-11-09T00:00:00Z"},
            answer=_BAD_TIME,
        ),
    },
)

PUT_ENDPOINT = Operation(
    body="EndpointRequest",
    media_types=("application/json", "text/json"),
    answers={
        201: Answer("Registered; the secret is shown only now.", ("NewEndpoint",)),
        200: Answer("The address was changed; the secret stays.", ("Endpoint",)),
    },
    examples={
        "new": Example("A new one", 201, body={"url": _URL}, answer={**_ENDPOINT, "secret": SECRET}),
        "not-public": Example(
            "An address inside",
            400,
            body={"url": "https://10.0.0.7/events"},
            answer={
                "message": "The request is invalid.",
                "modelState": {"request.Url": ["url must name its host, not give its number."]},
            },
        ),
    },
)

GET_ENDPOINT = Operation(
    answers={200: Answer("The endpoint.", ("Endpoint",)), 404: _NO_ENDPOINT},
    examples={"registered": Example("A registered one", 200, answer=_ENDPOINT)},
)

DELETE_ENDPOINT = Operation(
    answers={204: Answer("No more is sent there."), 404: _NO_ENDPOINT},
    examples={"registered": Example("A registered one", 204)},
)

ROTATE = Operation(
    answers={200: Answer("The new secret.", ("EndpointSecret",)), 404: _NO_ENDPOINT},
    examples={
        "registered": Example(
            "A registered one",
            200,
            answer={"secret": SECRET, "previousSecretUntilUtc": "2026-11-11T11:00:00.000Z"},
        )
    },
)

TABLE = {
    "events.pull": PULL,
    "events.get_event": GET,
    "events.replay_event": REPLAY,
    "events.replay_events": REPLAY_SPAN,
    "events.put_endpoint": PUT_ENDPOINT,
    "events.get_endpoint": GET_ENDPOINT,
    "events.delete_endpoint": DELETE_ENDPOINT,
    "events.rotate_secret": ROTATE,
}
