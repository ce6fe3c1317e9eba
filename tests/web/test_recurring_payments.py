"""The door of the module's endpoints: who is let in, verbs, formats, the token, bodies that break other services."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import requests

from invoice.services import accounts, partners
from invoice.services.accounts import AccountKeys
from tests import factories
from tests.journeys.stand import PARTNER, TIMEOUT_S, Stand, standing
from tests.web.module import FIXED, MODES, OWN_UNIT, PREFIX, STRICT, Module, elsewhere

DATA_ENDPOINTS = (
    "agreement/get",
    "agreement/cancel",
    "charge/make",
    "charge/get",
    "charge/cancel",
    "charge/refund",
)
LISTS = DATA_ENDPOINTS[1:]
ANOTHER = 20001


@pytest.fixture(scope="module")
def here(migrated_sqlite: Path) -> Iterator[Stand]:
    """One stand for all of this module: what the tests do to it is nobody else's agreement."""
    with TemporaryDirectory() as folder:
        database = Path(folder) / "invoice.sqlite3"
        database.write_bytes(migrated_sqlite.read_bytes())
        with standing(Path(folder), f"sqlite:///{database}") as made:
            factories.a_partner(ANOTHER)
            yield made


@pytest.fixture(params=MODES)
def module(request: pytest.FixtureRequest, here: Stand) -> Module:
    here.advance(minutes=1)  # a share of calls of its own for each test
    return Module(here).mode(request.param)


def call(here: Stand, method: str, path: str, **how: Any) -> requests.Response:
    return requests.request(method, f"{here.service}{PREFIX}{path}", timeout=TIMEOUT_S, **how)


def message(answer: requests.Response) -> str:
    assert answer.headers["Content-Type"] == "application/json"
    return str(answer.json()["message"])


# Who is let in


@pytest.mark.parametrize("path", [*DATA_ENDPOINTS, "test/auth"])
def test_without_credentials_the_door_asks_for_them(here: Stand, path: str):
    answer = call(here, "POST", path)

    assert (answer.status_code, message(answer)) == (401, "No authentication credentials provided.")
    assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')


@pytest.mark.parametrize("path", [*DATA_ENDPOINTS, "test/auth"])
@pytest.mark.parametrize("auth", [("10295", "wrong"), ("99999", "x"), ("", "")])
def test_wrong_credentials_are_forbidden_and_not_asked_for_again(here: Stand, path: str, auth: tuple[str, str]):
    answer = call(here, "POST", path, auth=auth)

    assert (answer.status_code, message(answer)) == (403, "This route can only be accessed by authenticated users.")
    assert "WWW-Authenticate" not in answer.headers


def test_a_suspended_partner_is_a_stranger(here: Stand):
    factories.a_partner(20002)
    partners.suspend(20002)

    answer = Module(here, 20002).post("agreement/cancel", [])

    assert (answer.status_code, message(answer)) == (403, "This route can only be accessed by authenticated users.")


# Verbs and formats


@pytest.mark.parametrize("path", DATA_ENDPOINTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_verb_is_told_which_one_there_is(here: Stand, path: str, method: str):
    answer = call(here, method, path, auth=Module(here).auth)

    found = f'No route found for "{method} {PREFIX}{path}": Method Not Allowed (Allow: POST)'
    assert (answer.status_code, message(answer)) == (405, found)
    assert "POST" in answer.headers["Allow"]
    assert b"\\u0022" in answer.content


@pytest.mark.parametrize("path", [*DATA_ENDPOINTS, "test/auth"])
@pytest.mark.parametrize("auth", [None, ("10295", f"{factories.SECRET}-10295")])
def test_another_format_is_not_acceptable_whoever_asks(here: Stand, path: str, auth: Any):
    answer = call(here, "POST", f"{path}?_format=html", auth=auth)

    assert answer.status_code == 406
    assert message(answer) == "No route found for the specified format. Supported formats: json."


@pytest.mark.parametrize("query", ["", "?_format=json"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", None])
def test_neither_the_type_of_a_body_nor_the_format_need_be_said(module: Module, query: str, content_type: str | None):
    headers = {"Content-Type": content_type} if content_type else {}

    answer = call(module.stand, "POST", f"agreement/cancel{query}", data="[]", headers=headers, auth=module.auth)

    assert (answer.status_code, answer.content) == (200, b'{"successes":[],"errors":[]}')
    assert answer.headers["Content-Type"] == "application/json"


def test_an_address_that_is_none_is_told_in_json(here: Stand):
    answer = call(here, "POST", "agreement/gett", auth=Module(here).auth)

    assert answer.status_code == 404
    assert message(answer)


# The token


@pytest.fixture(params=MODES)
def owner(request: pytest.FixtureRequest, here: Stand) -> Iterator[Module]:
    """A partner with a sales unit of its own."""
    accounts.bring(PARTNER, OWN_UNIT)
    yield Module(here).mode(request.param)
    accounts.leave(PARTNER)


def a_key(**rights: bool) -> Iterator[dict[str, str]]:
    key = partners.add_key(PARTNER, **rights)
    try:
        yield {"Authorization": f"Bearer {key}"}
    finally:
        for secret in partners.secrets_of(PARTNER):
            if secret.kind == "KEY":
                partners.revoke_key(PARTNER, secret.id)


@pytest.fixture
def key() -> Iterator[dict[str, str]]:
    yield from a_key(may_see_token=True)


@pytest.fixture
def weak_key() -> Iterator[dict[str, str]]:
    yield from a_key()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_token_stands_alone_in_the_answer_whatever_the_verb(owner: Module, key: dict[str, str], method: str):
    answer = call(owner.stand, method, "test/auth", headers=key)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=UTF-8")
    opened = requests.get(
        f"{owner.stand.vipps}/recurring/v3/agreements",
        headers={"Authorization": f"Bearer {answer.text}", "Ocp-Apim-Subscription-Key": OWN_UNIT.subscription_key},
        timeout=TIMEOUT_S,
    )
    assert opened.status_code == 200


def test_without_the_right_there_is_no_token(owner: Module, weak_key: dict[str, str]):
    for how in ({"headers": weak_key}, {"auth": owner.auth}):
        answer = call(owner.stand, "GET", "test/auth", **how)

        assert answer.status_code == 403
        assert message(answer) == "These credentials do not give access to the token."


def test_nobody_sees_the_token_that_opens_what_others_have(module: Module, key: dict[str, str]):
    answer = call(module.stand, "GET", "test/auth", headers=key)

    assert answer.status_code == 403


def test_without_an_answer_there_is_no_token(here: Stand, key: dict[str, str]):
    for mode, status in ((STRICT, 500), (FIXED, 503)):
        accounts.bring(PARTNER, OWN_UNIT)
        Module(here).mode(mode)
        here.advance(hours=2)  # the token at hand is over
        here.fault("token", "500")
        try:
            answer = call(here, "GET", "test/auth", headers=key)
        finally:
            here.end_faults()
            accounts.leave(PARTNER)
        assert answer.status_code == status
        assert "Bearer" not in answer.text
    assert message(answer).startswith(f"Server error: `POST {here.vipps}/accesstoken/get` resulted in a `500 ")


def test_strict_says_nothing_about_a_token_that_could_not_be_had(here: Stand, key: dict[str, str]):
    accounts.bring(PARTNER, AccountKeys("345678", "demo-client-fi", "wrong", "demo-subscription-key-fi"))
    Module(here).mode(STRICT)

    answer = call(here, "GET", "test/auth", headers=key)

    accounts.leave(PARTNER)
    assert answer.status_code == 500
    assert answer.text == "The website encountered an unexpected error. Try again later."


# Bodies


DEEP = b"[" * 100_000 + b"]" * 100_000
BODIES = [
    b"",
    b" ",
    b"null",
    b"true",
    b"7",
    b"1e400",
    b"NaN",
    b"[NaN]",
    b"9" * 5000,
    b'"' + b"x" * 70_000 + b'"',
    b'"\\u0000"',
    b'"\\ud800"',
    b'["agr_\\u0000"]',
    b'["\\ud800"]',
    b'[{"agreement_id":"agr_\\u0000","charge_id":"\\u0000","price":"250"}]',
    b'[{"agreement_id":"\\ud800","charge_id":"\\ud800","price":250,"description":"\\ud800\\u0000"}]',
    b'[{"agreement_id":"agr_1","agreement_id":"agr_2","charge_id":"a","price":1}]',
    b'[{"agreement_id":7,"charge_id":[],"price":{},"description":false}]',
    b'[{"agreement_id":"agr_1","charge_id":"c","price":' + b"9" * 400 + b"}]",
    b'[{"agreement_id":"agr_1","charge_id":"c","price":-250}]',
    b'[{"agreement_id":"agr_1","charge_id":"c","price":1e2}]',
    b'[{"agreement_id":"' + b"x" * 5000 + b'","charge_id":"' + b"y" * 5000 + b'","price":250}]',
    b'[{"agreement_id":"../../x","charge_id":"../refund","price":250}]',
    b'[[[["x"]]]]',
    b"{}",
    b"[{}]",
    b"[null]",
    b'\xef\xbb\xbf["agr_1"]',
    b"\xff\xfe",
    '["agr_1"]'.encode("utf-16"),
    DEEP,
    DEEP[:150_000],
]


@pytest.mark.parametrize("path", DATA_ENDPOINTS)
def test_no_body_breaks_anything_or_is_taken_for_a_wish(module: Module, path: str):
    before = len(module.stand.ledger()["charges"])

    for body in BODIES:
        answer = module.post(path, body)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json"), body[:80]
        said = answer.json()
        assert not said.get("successes"), body[:80]

    assert len(module.stand.ledger()["charges"]) == before


@pytest.mark.parametrize("path", LISTS)
def test_more_than_2000_items_are_turned_down_as_a_whole(module: Module, path: str):
    items = [f"agr_{n}" for n in range(2001)] if path == "agreement/cancel" else [{"agreement_id": "agr_1"}] * 2001

    said = module.ask(path, items)

    assert said == {
        "success": False,
        "error": "The list has 2001 items: send at most 2000 at once. Nothing was done.",
    }


@pytest.mark.parametrize("path", DATA_ENDPOINTS)
def test_a_body_may_be_as_long_as_a_mebibyte_and_no_longer(module: Module, path: str):
    assert module.post(path, b" " * (1024 * 1024)).status_code == 200
    assert module.post(path, b" " * (1024 * 1024 + 1)).status_code == 413


def test_other_faces_keep_their_smaller_limit(here: Stand):
    url = f"{here.service}/api/recurring/subscribe"

    headers = {"Content-Type": "application/json"}
    answer = requests.post(url, data=b" " * 70_000, headers=headers, auth=Module(here).auth, timeout=TIMEOUT_S)

    assert answer.status_code == 413


@pytest.mark.parametrize("key", ["", "with blank", "ø", "x" * 256])
def test_a_key_that_is_none_is_told_where_it_would_count(here: Stand, key: str):
    module, headers = Module(here).mode(FIXED), {"Idempotency-Key": key.encode()}
    for path in ("charge/make", "charge/refund"):
        said = call(here, "POST", path, data="[]", headers=headers, auth=module.auth).json()
        assert said["success"] is False
        assert said["error"].startswith("Idempotency-Key must be")

    module.mode(STRICT)  # the module never looks at it
    assert call(here, "POST", "charge/make", data="[]", headers=headers, auth=module.auth).json()["errors"] == []


@pytest.mark.parametrize("path", ["charge/make", "charge/refund"])
def test_a_key_stands_for_one_list(module: Module, path: str):
    """Else a mended or shortened list would meet the charges of other items under its key."""
    one, other = module.agreement(), module.agreement()
    key, calls = f"{path}-{one}", len(module.stand.wire.sent)
    items = [{"agreement_id": agreement, "charge_id": "", "price": 250} for agreement in (one, other)]
    first = module.ask(path, items, key=key)

    assert module.ask(path, items[1:], key=key) == {
        "success": False,
        "error": "This Idempotency-Key stands for another request. Use a new one.",
    }
    assert module.ask(path, items, key=key) == first
    creates = [sent for sent in module.stand.wire.sent[calls:] if sent.name in ("create", "refund")]
    assert len(creates) == (2 if path == "charge/make" else 0)
    # Of another endpoint it is another one's request, too.
    assert module.ask("charge/refund", items, key=key).get("success") is (False if path == "charge/make" else None)


# Isolation


def items_for(path: str, agreement: str, charge: str) -> Any:
    if path == "agreement/get":
        return agreement
    if path == "agreement/cancel":
        return [agreement]
    return [{"agreement_id": agreement, "charge_id": charge, "price": 123, "description": "x"}]


@pytest.mark.parametrize("path", DATA_ENDPOINTS)
@pytest.mark.parametrize("mode", MODES)
def test_what_another_partner_has_does_not_exist(here: Stand, path: str, mode: str):
    owner, stranger = Module(here), Module(here, ANOTHER).mode(mode)
    agreement = owner.agreement()
    charge = next(c["id"] for c in here.ledger()["charges"] if c["agreementId"] == agreement)
    unknown_agreement, unknown_charge = "agr_" + "x" * (len(agreement) - 4), "X" * len(charge)
    calls, ledger = len(here.exchanges), here.ledger()

    theirs = stranger.post(path, items_for(path, agreement, charge))
    unknown = stranger.post(path, items_for(path, unknown_agreement, unknown_charge))

    renamed = unknown.content.replace(unknown_agreement.encode(), agreement.encode())
    assert theirs.content == renamed.replace(unknown_charge.encode(), charge.encode())
    assert theirs.status_code == unknown.status_code
    assert dict(theirs.headers, **{"X-Request-Id": "", "Date": ""}) == dict(
        unknown.headers, **{"X-Request-Id": "", "Date": ""}
    )
    assert here.ledger() == ledger
    assert [e for e in here.exchanges[calls:] if "recurring" in e.path] == []


@pytest.mark.parametrize("path", ["charge/cancel", "charge/refund"])
def test_a_charge_of_another_agreement_does_not_exist(module: Module, path: str):
    mine, other = module.agreement(), module.agreement()
    charge = next(c["id"] for c in module.stand.ledger()["charges"] if c["agreementId"] == other)

    said = module.ask(path, items_for(path, mine, charge))

    assert said["successes"] == []
    assert said["errors"][0].endswith("This charge does not exist")
    assert next(c for c in module.stand.ledger()["charges"] if c["id"] == charge)["summary"]["refunded"] == 0


def test_an_agreement_of_another_unit_is_looked_for_only_under_ones_own(here: Stand, owner: Module):
    stranger = Module(here, ANOTHER).mode(FIXED)
    agreement = elsewhere(here)

    assert stranger.ask("agreement/get", agreement) == {"success": False, "error": "This agreement does not exist"}
    assert owner.ask("agreement/get", agreement)["id"] == agreement


def test_keys_of_the_platforms_own_account_open_nothing_of_it(here: Stand):
    platform = AccountKeys("123456", "demo-client", "demo-secret", "demo-subscription-key")
    agreement = Module(here).agreement()
    stranger = Module(here, ANOTHER).mode(FIXED).bring(platform)
    try:
        said = stranger.ask("agreement/get", agreement)
    finally:
        accounts.leave(ANOTHER)

    assert said == {"success": False, "error": "This agreement does not exist"}
