"""How the original module writes: its JSON, and its sentences about what a provider answered."""

from __future__ import annotations

import json

import pytest

from invoice.errors import Conflict, Exchange, ProviderDenied, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.services.outcomes import Outcome, Standing
from invoice.web import module_format

URL = "https://apitest.vipps.no/recurring/v2/agreements/agr_CUfJvfx"
# The beginning of what the documented example shows: 120 bytes of it, and then the mark.
SAMPLE = (
    b'[{"field":"status","message":"Missing message for error: status.notActive","code":"status.notActive",'
    b'"contextId":"a47463b0-0000-4000-8000-000000000000"}]'
)


def said(status: int = 400, body: bytes = SAMPLE, reason: str = "Bad Request", method: str = "PATCH") -> Exchange:
    return Exchange(method, URL, status, reason, body)


def test_an_answer_is_told_as_in_the_documented_example():
    text = module_format.text_of_exchange(said())

    assert text == (
        f"Client error: `PATCH {URL}` resulted in a `400 Bad Request` response:\n"
        '[{"field":"status","message":"Missing message for error: status.notActive","code":"status.notActive",'
        '"contextId":"a47463 (truncated...)\n'
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", None),
        (b"x" * 120, "x" * 120),
        (b"x" * 121, "x" * 120 + " (truncated...)"),
        (b"two\r\n\tlines", "two\r\n\tlines"),
        (b"a\x00b", None),
        (b"a\x1bb", None),
        ("æ".encode() * 60, "æ" * 60),
        (b"x" * 119 + "æ".encode(), None),  # cut inside a letter: no text any more
        (b"\xff\xfe", None),
    ],
)
def test_a_body_is_told_when_it_is_text_and_up_to_its_120th_byte(body: bytes, told: str | None):
    line = f"Client error: `PATCH {URL}` resulted in a `400 Bad Request` response"

    assert module_format.text_of_exchange(said(body=body)) == (line if told is None else f"{line}:\n{told}\n")


@pytest.mark.parametrize(
    ("status", "label"),
    [(400, "Client error"), (499, "Client error"), (500, "Server error"), (302, "Unsuccessful request")],
)
def test_a_status_has_its_label(status: int, label: str):
    assert module_format.text_of_exchange(said(status, b"", "Whatever")).startswith(f"{label}: `PATCH {URL}` resulted")


@pytest.mark.parametrize(
    ("failure", "begins"),
    [("connect", "cURL error 7: "), ("timeout", "cURL error 28: "), ("broken", "cURL error 56: ")],
)
def test_a_call_without_an_answer_is_told_as_curl_does(failure: str, begins: str):
    error = ProviderUncertain("Vipps did not answer")
    error.failure = failure

    assert module_format.text_of(error).startswith(begins)


def test_an_error_is_told_by_the_answer_that_it_came_from():
    refusal = ProviderRefused("Vipps refused: no", status=401)
    refusal.exchange = said(401, b"", "Unauthorized", "POST")
    try:
        raise ProviderDenied("Vipps gave no token") from refusal
    except ProviderDenied as denied:
        text = module_format.text_of(denied)

    assert text == f"Client error: `POST {URL}` resulted in a `401 Unauthorized` response"


@pytest.mark.parametrize("error", [ProviderUnavailable("our share of calls is used up"), Conflict("It is too late")])
def test_an_error_that_never_was_on_the_wire_is_told_in_our_words(error: ProviderUnavailable | Conflict):
    assert module_format.text_of(error) == error.message


def test_an_unknown_outcome_says_what_to_do_and_what_not():
    outcome = Outcome("chr-1", Standing.UNKNOWN, Conflict("Vipps has not answered yet"))

    text = module_format.text_of_outcome(outcome)

    assert text == (
        "The outcome is not known yet (Vipps has not answered yet). chr-1 stays in the books and is settled by itself: "
        "look at it, and do not ask for it again under another name."
    )


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ({"a": "x\"<>&'/\\"}, r'{"a":"x\u0022\u003C\u003E\u0026\u0027\/\\"}'),
        ({"a": "\\"}, r'{"a":"\\"}'),
        ({"a": '\\"'}, r'{"a":"\\\u0022"}'),
        ({"a": "\n\t\u2028ø"}, r'{"a":"\n\t\u2028\u00f8"}'),
        ({"a/b": 1}, r'{"a\/b":1}'),
        ({}, "{}"),
        ({"successes": [], "errors": []}, '{"successes":[],"errors":[]}'),
        ({"n": None, "t": True, "i": 25000}, '{"n":null,"t":true,"i":25000}'),
        ("\ud800", r'"\ud800"'),
    ],
)
def test_json_is_written_as_symfony_does_and_reads_as_it_was(value: object, wire: str):
    answer = module_format.answer(value)

    assert answer.get_data(as_text=True) == wire
    assert json.loads(wire) == value
    assert answer.content_type == "application/json"


def test_json_in_a_string_is_escaped_twice():
    inner = module_format.nested([{"id": "chr_1", "url": "a/b"}])

    assert inner == '[{"id":"chr_1","url":"a\\/b"}]'
    assert module_format.answer([inner]).get_data(as_text=True) == (
        r'["[{\u0022id\u0022:\u0022chr_1\u0022,\u0022url\u0022:\u0022a\\\/b\u0022}]"]'
    )
