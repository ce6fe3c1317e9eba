"""An answer before it is HTTP, so that it can be kept and given again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Answer:
    """Status, body and what kind of body."""

    status: int
    body: str = ""
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Return `value` as JSON."""
    return Answer(status, json.dumps(value, ensure_ascii=False), JSON_TYPE, headers or {})


def nothing(status: int = 204, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer without a body."""
    return Answer(status, headers=headers or {})
