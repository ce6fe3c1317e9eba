"""The bodies that break a plain service, sent to every route that may be sent one, and odd values in every address.

Both lists of routes come from the description, and that covers the route map: a new route is in them by itself. What
is invalid is never a success and changes nothing; whatever it is, nothing stumbles.
"""

from __future__ import annotations

import itertools
import json
from copy import deepcopy
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from tests.conftest import StandingClock
from tests.web.bad_bodies import SHAPES, basic, everything, what_is_wrong_with
from tests.web.described import Described, World, a_world, an_app, faults, operations, sealed, some_names, undocumented  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("as_in_production")

# Values that are nobody's: each is refused wherever the description does not allow it.
_NUL, _HALF = "a\x00b", "a\ud800b"
ODD: list[Any] = [
    *(None, True, False, [], {}, [[]], {"a": 1}, "", " ", "\n", _NUL, _HALF, "a\u202eb", "a\x1bb"),
    *(0, -1, -5, 1.9, 12.345, 2**31, 2**63, 10**400, "2147483648", "9" * 400, "1e2", "NaN", "x" * 30_000),
    *(" 1_000 ", "1.9", "-5", "+5", "٢", "２", "²", "0x1", "1\n", "12,50", "'; DROP TABLE partners; --", "{{7*7}}"),
]
# Whatever stands in such a text, no text holds it.
_NEVER = (_NUL, _HALF)
RAW = [
    *[(bad.what, bad.raw) for bad in SHAPES],
    ("100,000 levels", b"[" * 100_000),
    ("more than a megabyte", b" " * (1024 * 1024 + 1)),
]


def paths(world: World, at: Described) -> str:
    """Return the address of an operation, about something that is there."""
    path = at.path
    for parameter in at.operation["parameters"]:
        if parameter["in"] == "path":
            value = str(next(iter(parameter["examples"].values()))["value"])
            path = path.replace(f"{{{parameter['name']}}}", world.real.get(value, value))
    return path


def post(world: World, at: Described, raw: bytes, content_type: str = "application/json") -> TestResponse:
    return world.client.open(
        paths(world, at), method=at.method.upper(), data=raw, content_type=content_type, headers=basic()
    )


def is_success(answer: TestResponse) -> bool:
    """Tell whether something was done; the module answers 200 to everything."""
    if answer.status_code >= 400:
        return False
    told = answer.get_json(silent=True)
    return not isinstance(told, dict) or not (told.get("success") is False or told.get("successes") == [])


def judge(world: World, at: Described, answer: TestResponse) -> list[str]:
    wrong = what_is_wrong_with(answer)
    return ([wrong] if wrong else []) + undocumented(world.sealed, at, answer)


def readers(world: World) -> list[Described]:
    """Return what reads a JSON body of a partner."""
    return [at for at in operations(world.document) if at.body is not None and at.operation["security"]]


def test_no_broken_body_is_taken_by_any_route(world: World):
    problems = []
    before = everything()
    for at, (what, raw) in itertools.product(readers(world), RAW):
        if at.name in _TAKES and what in _TAKES[at.name]:
            continue
        calls = list(world.payments.calls)

        answer = post(world, at, raw)

        wrong = judge(world, at, answer)
        wrong += ["a success"] if is_success(answer) else []
        wrong += ["something changed"] if everything() != before or _acts(world) != _acted(calls) else []
        problems += [f"{at.name}, {what}: {w} ({answer.status_code} {answer.text[:100]})" for w in wrong]

    assert len(readers(world)) >= 10
    assert problems == []


# What is broken for all others and right here: a body may be left out, a text is an id, an empty list asks for nothing.
_TAKES = {"resend": ("empty", "blanks")}


def _acted(calls: list[str]) -> list[str]:
    """Return the calls that do something: looks and tokens are none."""
    return [each for each in calls if not each.startswith(("find", "show", "check", "list", "token"))]


def _acts(world: World) -> list[str]:
    return _acted(world.payments.calls)


def test_no_odd_value_is_taken_where_the_description_does_not_allow_it(world: World):
    problems, sent = [], 0
    for at in readers(world):
        good = next(body for name, body in at.examples().items() if body)
        odd = list(spoilt(json.loads(world._put_in(json.dumps(good)))))
        bad = [(what, v) for what, v in odd if has_never(v) or faults(world.document, at.body or {}, v)]
        before = everything()
        for what, value in [*bad, *(each for each in odd if each not in bad)]:
            sent += 1

            answer = post(world, at, json.dumps(value).encode())

            wrong = judge(world, at, answer)
            if (what, value) in bad:
                wrong += ["a success"] if is_success(answer) else []
                is_last = (what, value) == bad[-1]
                wrong += ["something has changed by now"] if is_last and everything() != before else []
            problems += [f"{at.name}, {what}: {w} ({answer.status_code} {answer.text[:100]})" for w in wrong]

    assert sent > 1000
    assert problems == []


def spoilt(good: Any) -> list[tuple[str, Any]]:
    """Return bodies that are good but for one value, and those that lack one."""
    if isinstance(good, str):
        return [(f"{odd!a:.40}", odd) for odd in ODD]
    if isinstance(good, list):
        return [(what, [one]) for what, one in spoilt(good[0])]
    found = []
    for name in good:
        found.append((f"no {name}", {key: value for key, value in good.items() if key != name}))
        for odd in ODD:
            found.append((f"{name} = {odd!a:.40}", {**deepcopy(good), name: odd}))
    return found


def has_never(value: Any) -> bool:
    """Tell whether a text in it holds what no text holds."""
    return any(json.dumps(each)[1:-1] in json.dumps(value) for each in _NEVER)


def test_a_route_that_reads_no_body_does_not_care_for_one(world: World, time: StandingClock):
    problems = []
    for at in operations(world.document):
        if "requestBody" in at.operation or at.method in ("get", "options"):
            continue
        # What it does is done once: the second time it is refused, with a body or without.
        for _ in range(2):
            post(world, at, b"")
        plain = post(world, at, b"")
        for what, raw in RAW:
            time.move(seconds=3)  # a button takes thirty presses a minute
            answer = post(world, at, raw)
            wrong = judge(world, at, answer)
            if answer.status_code not in (plain.status_code, 413):
                wrong.append(f"{answer.status_code} instead of {plain.status_code}")
            problems += [f"{at.name}, {what}: {w}" for w in wrong]

    assert problems == []


def test_no_odd_value_in_an_address_is_taken_or_makes_it_stumble(world: World):
    texts = [str(odd) for odd in ODD if type(odd) in (str, int, float) and odd != _HALF and len(str(odd)) < 5000]
    looks = [at for at in operations(world.document) if at.method == "get"]
    asked = [(at, each, odd) for at in looks for each in at.operation["parameters"] for odd in texts]
    problems = []
    before = everything()
    for at, parameter, odd in asked:
        path, query = address(world, at, {parameter["name"]: odd})
        answer = world.client.get(path, query_string=query, headers=basic(), buffered=True)

        wrong = what_is_wrong_with(answer)
        problems += [f"{at.name} {parameter['name']} = {odd!a:.40}: {wrong}"] if wrong else []
        if is_refused(world, parameter, odd) and answer.status_code < 400:
            problems.append(f"{at.name} {parameter['name']} = {odd!a:.40}: {answer.status_code}")
        if odd == texts[-1] and everything() != before:
            problems.append(f"{at.name} {parameter['name']}: something has changed by now")

    assert len(asked) > 300
    assert problems == []


def address(world: World, at: Described, odd: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return path and query of an operation with what its examples say, but for what is odd."""
    path, query = at.path, {}
    for each in at.operation["parameters"]:
        known = str(next(iter(each.get("examples", {}).values()), {"value": ""})["value"])
        value = odd.get(each["name"], world.real.get(known, known))
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", quote(value, safe=""))
        elif each["in"] == "query" and (each["name"] in odd or each.get("required")):
            query[each["name"]] = value
    return path, query


def is_refused(world: World, parameter: dict[str, Any], odd: str) -> bool:
    """Tell whether the description does not allow a value in the query."""
    return parameter["in"] == "query" and bool(faults(world.document, parameter["schema"], _typed(parameter, odd)))


def _typed(parameter: dict[str, Any], text: str) -> Any:
    """Return what a text in an address stands for."""
    if parameter["schema"].get("type") != "integer":
        return text
    return int(text) if text.isascii() and text.isdigit() else text
