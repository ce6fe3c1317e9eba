"""What a description is made of: one `Operation` a route, and the `Example`s that a test sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What comes with one HTTP status.

    shapes: names of `shapes.SHAPES`; several where the body can be one or another, none for an empty body.
    """

    text: str
    shapes: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()

    def joined(self, other: Answer) -> Answer:
        """Return one answer that says both."""
        return Answer(
            f"{self.text} {other.text}",
            tuple(dict.fromkeys(self.shapes + other.shapes)),
            tuple(dict.fromkeys(self.headers + other.headers)),
        )


@dataclass(frozen=True)
class Example:
    """A request that works as it stands, and its answer.

    given: parameter -> value.  body: what is sent, None for nothing.  answer: the body that comes; None: not shown.
    """

    title: str
    status: int
    given: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    answer: Any = None


@dataclass(frozen=True)
class Operation:
    """What a route does beside what its kind has in common.

    text: what the summary, the first line of the view, does not say.  body: name of a shape; one that ends in "?" may
    be left out.  query: parameters.
    """

    answers: Mapping[int, Answer]
    text: str = ""
    body: str = ""
    media_types: tuple[str, ...] = ("application/json",)
    query: tuple[Json, ...] = ()
    examples: Mapping[str, Example] = field(default_factory=dict)


def parameter(name: str, text: str, schema: Json, *, required: bool = False) -> Json:
    """Return a parameter of the query."""
    found: Json = {"name": name, "in": "query", "description": text, "schema": schema}
    return {**found, "required": True} if required else found


def sure(*, title: str = "", **properties: Any) -> Json:
    """Return an object all of whose members are always there."""
    found = {"type": "object", "required": list(properties), "properties": properties}
    return {"title": title, **found} if title else found


def text(about: str = "", **more: Any) -> Json:
    """Return a text."""
    return {"type": "string", **({"description": about} if about else {}), **more}


def whole(about: str = "", **more: Any) -> Json:
    """Return a whole number."""
    return {"type": "integer", **({"description": about} if about else {}), **more}


def maybe(schema: Json) -> Json:
    """Return the same, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def ref(name: str, kind: str = "schemas") -> Json:
    """Return where a component stands."""
    return {"$ref": f"#/components/{kind}/{name}"}
