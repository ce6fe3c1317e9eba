"""Every example of the module's README, and every observed row of its behaviour, in both manners.

The provider is the stand-in, which speaks version 3; where a row is about another answer, that answer is put on the
wire in the place of the stand-in's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from invoice.clock import business_date
from invoice.services.accounts import AccountKeys
from tests import factories
from tests.journeys.stand import PARTNER, Stand, standing
from tests.web.module import FIXED, MODES, NO_BODY, STRICT, Module, genuine

AGREEMENTS = "/recurring/v3/agreements"
BROKEN = {"success": False, "error": "json_decode error: Syntax error"}
NOTHING: dict[str, Any] = {"successes": [], "errors": []}
UNKNOWN = "This agreement does not exist"
LOCKED_OUT = 20009  # a partner whose own keys Vipps does not take


@pytest.fixture(scope="module")
def here(migrated_sqlite: Path) -> Iterator[Stand]:
    """One stand for all of this module: each test has agreements of its own."""
    with TemporaryDirectory() as folder:
        database = Path(folder) / "invoice.sqlite3"
        database.write_bytes(migrated_sqlite.read_bytes())
        with standing(Path(folder), f"sqlite:///{database}") as made:
            factories.a_partner(LOCKED_OUT)
            yield made


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def module(here: Stand, mode: str) -> Module:
    here.advance(minutes=1)  # a share of calls of its own for each test
    return Module(here).mode(mode)


def at_vipps(here: Stand, agreement: str) -> dict[str, Any]:
    return next(a for a in here.ledger()["agreements"] if a["id"] == agreement)


def charges(here: Stand, agreement: str) -> list[dict[str, Any]]:
    """Vipps' charges of an agreement but for the initial one, oldest first."""
    return [c for c in here.ledger()["charges"] if c["agreementId"] == agreement and c["type"] != "INITIAL"]


def initial(here: Stand, agreement: str) -> str:
    return next(
        str(c["id"]) for c in here.ledger()["charges"] if c["agreementId"] == agreement and c["type"] == "INITIAL"
    )


def an_ended(module: Module) -> str:
    """Return an agreement that the person has ended in the app."""
    agreement = module.agreement()
    module.stand.decide(agreement, "stop")
    module.stand.settle()
    return agreement


def sent(here: Stand, method: str, path: str) -> list[Any]:
    return [e for e in here.exchanges if (e.method, e.path) == (method, path)]


# Which row of the module's behaviour each test stands for; those of another file are named with it.
ROWS = {
    "A.0 no credentials": "test_recurring_payments.test_without_credentials_the_door_asks_for_them",
    "A.0 wrong credentials": "test_recurring_payments.test_wrong_credentials_are_forbidden_and_not_asked_for_again",
    "A.0 wrong verb": "test_recurring_payments.test_another_verb_is_told_which_one_there_is",
    "A.0 _format": "test_recurring_payments.test_another_format_is_not_acceptable_whoever_asks",
    "A.0 Content-Type": "test_recurring_payments.test_neither_the_type_of_a_body_nor_the_format_need_be_said",
    "A.0 always 200": "test_recurring_payments.test_no_body_breaks_anything_or_is_taken_for_a_wish",
    "A.0 two envelopes": "test_cancelling_something_else_than_a_list",
    "A.0 JSON text": "test_module_format.test_json_is_written_as_symfony_does_and_reads_as_it_was",
    "A.0 token first": "test_wrong_keys_are_told_before_anything_is_tried",
    "A.0 order": "test_recurring_payments_lists.test_two_thousand_items_are_made_in_their_order_within_the_limits",
    "A.0 error text": "test_module_format.test_an_answer_is_told_as_in_the_documented_example",
    "A.0 120 bytes": "test_module_format.test_a_body_is_told_when_it_is_text_and_up_to_its_120th_byte",
    "A.0 cURL": "test_module_format.test_a_call_without_an_answer_is_told_as_curl_does",
    "A.1 token": "test_recurring_payments.test_the_token_stands_alone_in_the_answer_whatever_the_verb",
    "A.1 failure": "test_recurring_payments.test_strict_says_nothing_about_a_token_that_could_not_be_had",
    "A.2 200": "test_an_agreement_is_shown_as_in_the_readme",
    "A.2 4xx": "test_an_agreement_that_there_is_not",
    "A.2 5xx": "test_an_agreement_that_vipps_does_not_show",
    "A.2 other status": "test_an_agreement_of_a_status_that_nobody_knows",
    "A.2 v3 shape": "test_an_agreement_with_other_pricing_and_a_campaign_is_brought_into_the_old_shape",
    "A.2 other type": "test_an_agreement_that_is_asked_for_by_something_else_than_a_text",
    "A.2 no JSON": "test_an_agreement_that_is_asked_for_in_no_json",
    "A.2 bad keys": "test_wrong_keys_are_told_before_anything_is_tried",
    "A.3 PATCH": "test_what_is_sent_for_an_end",
    "A.3 agreementId in the answer": "test_a_cancelled_agreement_that_vipps_answers_for_by_name",
    "A.3 400": "test_agreements_are_cancelled_as_in_the_readme",
    "A.3 204": "test_agreements_are_cancelled_as_in_the_readme",
    "A.3 200 without agreementId": "test_a_cancelled_agreement_that_vipps_answers_for_without_its_name",
    "A.3 []": "test_cancelling_something_else_than_a_list",
    "A.3 text or object": "test_cancelling_something_else_than_a_list",
    "A.3 no text in the list": "test_cancelling_a_list_with_something_else_in_it",
    "A.3 no JSON": "test_cancelling_something_else_than_a_list",
    "A.4 what is sent": "test_what_is_sent_for_a_charge",
    "A.4 prices": "test_an_item_of_a_list_of_charges",
    "A.4 README": "test_the_readme_does_not_work_with_the_module_itself",
    "A.4 no price": "test_a_missing_price_is_sent_as_zero",
    "A.4 silent drop": "test_an_item_without_an_agreement",
    "A.4 no list": "test_something_else_than_a_list_of_charges",
    "A.4 successes and errors": "test_charges_are_made_as_in_the_readme",
    "A.4 header": "test_recurring_payments_lists.test_a_charge_in_doubt_is_made_once_however_often_it_is_asked_for",
    "A.5 double JSON": "test_charges_are_shown_as_in_the_readme",
    "A.5 one for each item": "test_charges_are_shown_once_for_each_item_and_other_fields_are_not_looked_at",
    "A.5 errors": "test_charges_that_vipps_does_not_show",
    "A.6 204": "test_charges_are_cancelled_as_in_the_readme",
    "A.6 200 and other 2xx": "test_a_cancelled_charge_that_vipps_answers_for_otherwise",
    "A.6 no charge_id": "test_cancelling_a_charge_without_a_name",
    "A.6 4xx": "test_a_charge_that_cannot_be_cancelled_is_told_in_vipps_words",
    "A.7 what is sent, 204": "test_charges_are_refunded_as_in_the_readme",
    "A.7 200 and 202": "test_a_refund_that_vipps_answers_for_otherwise",
    "A.7 no price": "test_a_refund_without_a_price",
    "A.7 equal refunds": "test_two_equal_refunds_of_a_charge_are_one",
}


@pytest.mark.parametrize("test", sorted(set(ROWS.values())))
def test_every_row_has_its_test(test: str):
    file, _, name = test.rpartition(".")
    path = Path(__file__).with_name(f"{file}.py") if file else Path(__file__)

    assert f"def {name}(" in path.read_text()


# A.2  agreement/get


def test_an_agreement_that_there_is_not(module: Module, mode: str):
    assert module.ask("agreement/get", "agr_none") == {STRICT: {}, FIXED: {"success": False, "error": UNKNOWN}}[mode]


def test_an_agreement_is_shown_as_in_the_readme(module: Module):
    agreement = module.agreement()
    held = at_vipps(module.stand, agreement)

    answer = module.post("agreement/get", agreement)

    assert answer.text == (
        f'{{"id":"{agreement}","start":"{held["start"]}","stop":null,"status":"ACTIVE","productName":"Avisen",'
        '"price":9900,"productDescription":"Avisen hver dag","interval":"WEEK","intervalCount":1,"currency":"NOK",'
        '"campaign":null}'
    )
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("fault", ["500", "502"])
def test_an_agreement_that_vipps_does_not_show(module: Module, mode: str, fault: str):
    agreement = module.agreement()
    module.stand.fault("fetch_agreement", fault, times=1)

    said = module.ask("agreement/get", agreement)

    path = f"{AGREEMENTS}/{agreement}"
    error = f"Server error: `GET {module.stand.vipps}{path}` resulted in a `{fault} "
    assert said == {} if mode == STRICT else said["success"] is False and said["error"].startswith(error)


def test_an_agreement_of_a_status_that_nobody_knows(module: Module, mode: str):
    agreement = module.agreement()
    odd = at_vipps(module.stand, agreement) | {"status": "FROZEN"}
    module.stand.wire.instead("find_agreement", 200, odd)

    said = module.ask("agreement/get", agreement)

    assert said == {} if mode == STRICT else said["status"] == "FROZEN"


def test_an_agreement_with_other_pricing_and_a_campaign_is_brought_into_the_old_shape(module: Module):
    agreement = module.agreement()
    odd = at_vipps(module.stand, agreement) | {
        "pricing": {"type": "VARIABLE", "suggestedMaxAmount": 50000, "maxAmount": 30000, "currency": "NOK"},
        "interval": None,
        "campaign": {"type": "PRICE_CAMPAIGN", "price": 100, "end": "2030-02-01T00:00:00Z", "explanation": "x"},
    }
    module.stand.wire.instead("find_agreement", 200, odd)

    said = module.ask("agreement/get", agreement)

    assert (said["price"], said["currency"], said["interval"], said["intervalCount"]) == (50000, "NOK", None, None)
    assert said["campaign"] == {"campaignPrice": 100, "end": "2030-02-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [("[]", "array"), ('["agr_1"]', "array"), ("{}", "stdClass"), ("7", "int"), ("1.5", "float"), ("null", "null")],
)
def test_an_agreement_that_is_asked_for_by_something_else_than_a_text(module: Module, mode: str, body: str, kind: str):
    said = module.ask_raw("agreement/get", body)

    php = f"getAgreement(): Argument #1 ($agreementId) must be of type string, {kind} given"
    ours = "The body must be the agreement's id, a JSON string."
    assert said == {"success": False, "error": {STRICT: php, FIXED: ours}[mode]}


@pytest.mark.parametrize("body", ["", "agr_CUfJvfx", '"agr_', "[1,]"])
def test_an_agreement_that_is_asked_for_in_no_json(module: Module, mode: str, body: str):
    said = module.ask_raw("agreement/get", body)

    ours = "The body is empty." if not body else "The body must be valid JSON."
    assert said == (BROKEN if mode == STRICT else {"success": False, "error": ours})


@pytest.mark.parametrize(
    "path", ["agreement/get", "agreement/cancel", "charge/make", "charge/get", "charge/cancel", "charge/refund"]
)
def test_wrong_keys_are_told_before_anything_is_tried(here: Stand, mode: str, path: str):
    module = Module(here, LOCKED_OUT).mode(mode)
    module.bring(AccountKeys("234567", "demo-client-dk", "wrong-secret", "demo-subscription-key-dk"))

    said = module.ask(path, "agr_1" if path == "agreement/get" else [])

    assert said == {"success": False, "error": genuine(here, "POST", "/accesstoken/get")}


# A.3  agreement/cancel


def test_agreements_are_cancelled_as_in_the_readme(module: Module, mode: str):
    living, ended = module.agreement(), an_ended(module)

    said = module.ask("agreement/cancel", [living, ended])

    refused = f"{ended}: {genuine(module.stand, 'PATCH', f'{AGREEMENTS}/{ended}')}"
    assert at_vipps(module.stand, living)["status"] == "STOPPED"
    if mode == FIXED:
        assert said == {"successes": [living], "errors": [refused]}
    else:  # version 3 answers with 204
        assert said == {"successes": [], "errors": [f"{living}: {NO_BODY}", refused]}


def test_what_is_sent_for_an_end(module: Module):
    agreement = module.agreement()

    module.ask("agreement/cancel", [agreement])

    [call] = sent(module.stand, "PATCH", f"{AGREEMENTS}/{agreement}")
    assert json.loads(call.body) == {"status": "STOPPED"}


def test_a_cancelled_agreement_that_vipps_answers_for_by_name(module: Module):
    agreement = module.agreement()
    module.stand.wire.instead("stop", 200, {"agreementId": agreement})

    assert module.ask("agreement/cancel", [agreement]) == {"successes": [agreement], "errors": []}


def test_a_cancelled_agreement_that_vipps_answers_for_without_its_name(module: Module, mode: str):
    first, second, third = (module.agreement() for _ in range(3))
    module.stand.behind("stop", lambda: module.stand.wire.instead("stop", 200, {}))
    module.stand.wire.instead("stop", 200, {"agreementId": first})

    # The second is answered oddly: the module ends there, and tells nothing of the first.
    said = module.ask("agreement/cancel", [first])
    module.stand.wire.instead("stop", 200, {"other": 1})
    said = module.ask("agreement/cancel", [second, third])

    states = [at_vipps(module.stand, agreement)["status"] for agreement in (first, second, third)]
    if mode == FIXED:
        assert (said, states) == ({"successes": [second, third], "errors": []}, ["STOPPED"] * 3)
    else:
        assert said["success"] is False
        assert "agreementId" in said["error"]
        assert states == ["STOPPED", "STOPPED", "ACTIVE"]


@pytest.mark.parametrize(
    ("body", "strict", "fixed"),
    [
        ("[]", NOTHING, NOTHING),
        ('"agr_1"', "cancelAgreements(): Argument #1 ($agreementIds) must be of type array, string given", None),
        ("{}", "cancelAgreements(): Argument #1 ($agreementIds) must be of type array, stdClass given", None),
        ("agr_1", "json_decode error: Syntax error", "The body must be valid JSON."),
        ("", "json_decode error: Syntax error", "The body is empty."),
    ],
)
def test_cancelling_something_else_than_a_list(module: Module, mode: str, body: str, strict: Any, fixed: Any):
    said = module.ask_raw("agreement/cancel", body)

    expected = strict if mode == STRICT else fixed or "The body must be a JSON list."
    assert said == (expected if isinstance(expected, dict) else {"success": False, "error": expected})


def test_cancelling_a_list_with_something_else_in_it(module: Module, mode: str):
    first, last = module.agreement(), module.agreement()

    said = module.ask("agreement/cancel", [first, 5, last])

    if mode == FIXED:
        assert said == {"successes": [first, last], "errors": ["item 2: An item must be an agreement's id, a text."]}
    else:
        error = "cancelAgreement(): Argument #1 ($agreementId) must be of type string, int given"
        assert said == {"success": False, "error": error}
    assert at_vipps(module.stand, first)["status"] == "STOPPED"
    assert at_vipps(module.stand, last)["status"] == ("STOPPED" if mode == FIXED else "ACTIVE")


# A.4  charge/make


def test_charges_are_made_as_in_the_readme(here: Stand):
    module = Module(here).mode(FIXED)
    agreement = module.agreement()
    module.ask("charge/make", [{"agreement_id": agreement, "price": 25000}])  # five prices are the ceiling
    item = {"agreement_id": agreement, "price": "250", "description": "Custom description"}

    said = module.ask(
        "charge/make", [item, item | {"price": "25000"}, item | {"price": "25000", "agreement_id": "agr_UVUFcx31"}]
    )

    _, made = charges(here, agreement)
    assert (made["amount"], made["description"]) == (250, "Custom description")
    assert said["successes"] == [made["id"]]
    refused, unknown = said["errors"]
    assert refused == f"{agreement}: {genuine(here, 'POST', f'{AGREEMENTS}/{agreement}/charges')}"
    assert "charge-amount-too-high" in refused
    assert unknown == f"agr_UVUFcx31: {UNKNOWN}"


def test_the_readme_does_not_work_with_the_module_itself(here: Stand):
    module = Module(here).mode(STRICT)
    agreement = module.agreement()

    said = module.ask("charge/make", [{"agreement_id": agreement, "price": "250", "description": "Custom description"}])

    assert said == NOTHING
    assert charges(here, agreement) == []


def test_what_is_sent_for_a_charge(module: Module, mode: str):
    here, agreement, name = module.stand, module.agreement(), f"chr-of-mine-{mode}"
    today = business_date("NO")

    said = module.ask("charge/make", [{"agreement_id": agreement, "price": 25000, "charge_id": name}])

    [call] = sent(here, "POST", f"{AGREEMENTS}/{agreement}/charges")
    assert json.loads(call.body) == {
        "orderId": f"{PARTNER}-{name}",
        "amount": 25000,
        "description": "Avisen",
        "transactionType": "DIRECT_CAPTURE",
        "due": (today + timedelta(days=2)).isoformat(),
        "retryDays": 5,
    }
    assert said == {"successes": [name], "errors": []}


# body of an item (but for the agreement) -> what its manner makes of it
Judgement = dict[str, str | None]  # mode -> the beginning of the error; None: charged; "": nothing is said at all
ITEMS: list[tuple[str, dict[str, Any], Judgement]] = [
    ("a whole number", {"price": 12345}, {FIXED: None, STRICT: None}),
    ("a text", {"price": "12345"}, {FIXED: None, STRICT: ""}),
    ("a decimal", {"price": 250.5}, {FIXED: "price must be a whole number", STRICT: ""}),
    ("a text that is no number", {"price": "250 kr"}, {FIXED: "price must be a whole number", STRICT: ""}),
    ("a sign", {"price": "-250"}, {FIXED: "price must be a whole number", STRICT: ""}),
    ("below zero", {"price": -250}, {FIXED: "price must be from 100 to", STRICT: "Client error: price must be"}),
    ("too small", {"price": 99}, {FIXED: "price must be from 100 to 2000000", STRICT: "Client error: `POST http"}),
    ("too large", {"price": 2000001}, {FIXED: "price must be from 100 to", STRICT: "Client error: `POST http"}),
    ("beyond all", {"price": 10**30}, {FIXED: "price must be from 100 to", STRICT: ""}),
    ("no price", {}, {FIXED: "price is missing.", STRICT: "Client error: `POST http"}),
    ("null", {"price": None}, {FIXED: "price is missing.", STRICT: "Client error: `POST http"}),
    ("true", {"price": True}, {FIXED: "price must be a whole number", STRICT: ""}),
    ("a number for words", {"price": 250, "description": 5}, {FIXED: "description must be a text.", STRICT: ""}),
    ("a number for a name", {"price": 250, "charge_id": 5}, {FIXED: "charge_id must be a text.", STRICT: ""}),
    ("a wrong name", {"price": 250, "charge_id": "a b"}, {FIXED: "charge_id must", STRICT: "Client error: charge_id"}),
    ("no words", {"price": 250, "description": ""}, {FIXED: None, STRICT: None}),
    ("long words", {"price": 250, "description": "æ" * 200}, {FIXED: None, STRICT: None}),
]


@pytest.mark.parametrize(("change", "judged"), [row[1:] for row in ITEMS], ids=[row[0] for row in ITEMS])
def test_an_item_of_a_list_of_charges(module: Module, mode: str, change: dict[str, Any], judged: Judgement):
    agreement = module.agreement()
    good = {"agreement_id": agreement, "price": 100}

    said = module.ask("charge/make", [good, {"agreement_id": agreement, **change}, good])

    expected = judged[mode]
    amounts = [c["amount"] for c in charges(module.stand, agreement)]
    if expected is None:
        assert (len(said["successes"]), said["errors"]) == (3, [])
        assert amounts == [100, int(change["price"]), 100]
    elif expected:
        [error] = said["errors"]
        assert error.startswith(f"{agreement}: {expected}")
        assert (len(said["successes"]), amounts) == (2, [100, 100])
    else:  # it drops itself, and all that follows
        assert (len(said["successes"]), said["errors"], amounts) == (1, [], [100])


def test_a_missing_price_is_sent_as_zero(here: Stand):
    module = Module(here).mode(STRICT)
    agreement = module.agreement()

    said = module.ask("charge/make", [{"agreement_id": agreement}])

    path = f"{AGREEMENTS}/{agreement}/charges"
    assert json.loads(sent(here, "POST", path)[-1].body)["amount"] == 0
    assert said == {"successes": [], "errors": [f"{agreement}: {genuine(here, 'POST', path)}"]}


@pytest.mark.parametrize("path", ["charge/make", "charge/get", "charge/cancel", "charge/refund"])
@pytest.mark.parametrize("wrong", [{"price": 250}, 5, None, "agr_1", [], {"agreement_id": 7, "price": 250}])
def test_an_item_without_an_agreement(module: Module, mode: str, path: str, wrong: Any):
    agreement = module.agreement()
    good = {"agreement_id": agreement, "price": 123, "charge_id": f"a-{len(module.stand.exchanges)}"}
    if path != "charge/make":
        good["charge_id"] = initial(module.stand, agreement)

    said = module.ask(path, [good, wrong, good])

    told = len(said["successes"]) + len(said["errors"])
    assert told == (3 if mode == FIXED else 1)
    if mode == FIXED:
        assert len([e for e in said["errors"] if "item 2" in e or "agreement_id must be" in e]) == 1


@pytest.mark.parametrize("path", ["charge/make", "charge/get", "charge/cancel", "charge/refund"])
@pytest.mark.parametrize("body", ["", "x", "{}", '"agr_1"', "7", "null", '{"agreement_id":"agr_1","price":250}'])
def test_something_else_than_a_list_of_charges(module: Module, mode: str, path: str, body: str):
    said = module.ask_raw(path, body)

    if mode == STRICT:
        assert said == NOTHING
    else:
        assert said["success"] is False
        assert said["error"] in ("The body is empty.", "The body must be valid JSON.", "The body must be a JSON list.")


@pytest.mark.parametrize(
    ("fault", "label"),
    [("500", "Server error: `POST "), ("429", "Client error: `POST "), ("down", "cURL"), ("timeout_after", "cURL")],
)
def test_a_charge_that_vipps_does_not_answer_for(module: Module, mode: str, fault: str, label: str):
    here, agreement = module.stand, module.agreement()
    here.fault("create_charge", fault, times=1)

    said = module.ask("charge/make", [{"agreement_id": agreement, "price": 250}])

    if fault == "429" and mode == FIXED:
        assert (len(said["successes"]), said["errors"]) == (1, [])  # it is sent as soon as it may be
    elif mode == FIXED:
        assert said["errors"][0].startswith(f"{agreement}: The outcome is not known yet (")
        assert "stays in the books" in said["errors"][0]
    else:
        assert said["errors"][0].startswith(f"{agreement}: {label}")
    here.live(minutes=30)
    # To a strict caller an error is the end of it: what could not be found again by a name is called off.
    living = [c for c in charges(here, agreement) if c["status"] != "CANCELLED"]
    assert len(living) == (1 if mode == FIXED else 0)


# A.5  charge/get


def test_charges_are_shown_as_in_the_readme(module: Module, mode: str):
    agreement = module.agreement()
    name = initial(module.stand, agreement)
    [held] = [c for c in module.stand.ledger()["charges"] if c["id"] == name]

    answer = module.post("charge/get", [{"agreement_id": agreement}, {"agreement_id": "agr_knvVufdj"}])

    inner = (
        f'[{{"id":"{name}","status":"CHARGED","due":"{held["due"]}","amount":9900,"amountRefunded":0,'
        f'"transactionId":"{held["transactionId"]}","description":"Avisen","type":"INITIAL"}}]'
    )
    error = UNKNOWN if mode == FIXED else f"Client error: {UNKNOWN}"
    assert answer.json() == {"successes": [inner], "errors": [f"agr_knvVufdj: {error}"]}
    assert answer.text.startswith('{"successes":["[{\\u0022id\\u0022:\\u0022')


def test_charges_are_shown_once_for_each_item_and_other_fields_are_not_looked_at(module: Module):
    one, other = module.agreement(), module.agreement()
    path, item = f"{AGREEMENTS}/{one}/charges", {"price": "x", "charge_id": 7, "description": None}
    before = len(sent(module.stand, "GET", path))

    said = module.ask("charge/get", [item | {"agreement_id": agreement} for agreement in (one, other, one)])

    shown = [json.loads(text)[0]["id"] for text in said["successes"]]
    assert shown == [initial(module.stand, one), initial(module.stand, other), initial(module.stand, one)]
    assert len(sent(module.stand, "GET", path)) == before + 1


def test_charges_that_vipps_does_not_show(module: Module):
    agreement, other = module.agreement(), module.agreement()
    module.stand.fault("list_charges", "500", times=1)

    said = module.ask("charge/get", [{"agreement_id": agreement}, {"agreement_id": other}])

    told = genuine(module.stand, "GET", f"{AGREEMENTS}/{agreement}/charges")
    assert told.startswith("Server error: `GET ")
    assert said["errors"] == [f"{agreement}: {told}"]
    assert len(said["successes"]) == 1


# A.6  charge/cancel


def a_charge(module: Module) -> tuple[str, dict[str, Any]]:
    """Return an agreement and, as an item, a charge of it that is due in two days."""
    agreement = module.agreement()
    name = f"c-{len(module.stand.exchanges)}"
    made = module.ask("charge/make", [{"agreement_id": agreement, "price": 123, "charge_id": name}])
    assert made == {"successes": [name], "errors": []}
    return agreement, {"agreement_id": agreement, "price": 123, "description": "This is", "charge_id": name}


def test_charges_are_cancelled_as_in_the_readme(module: Module, mode: str):
    agreement, item = a_charge(module)

    said = module.ask("charge/cancel", [item])

    name = item["charge_id"]
    well = {"successes": [name], "errors": []}
    assert said == (well if mode == FIXED else {"successes": [], "errors": [f"{name}: {NO_BODY}"]})
    assert [c["status"] for c in charges(module.stand, agreement)] == ["CANCELLED"]


@pytest.mark.parametrize(
    ("status", "body", "strict"),
    [(200, {"ok": 1}, None), (202, {"why": "later"}, '{"status":202,"error":{"why":"later"}}'), (200, [], NO_BODY)],
)
def test_a_cancelled_charge_that_vipps_answers_for_otherwise(
    module: Module, mode: str, status: int, body: Any, strict: str | None
):
    _, item = a_charge(module)
    module.stand.wire.instead("cancel", status, body)

    said = module.ask("charge/cancel", [item])

    if mode == FIXED or strict is None:
        assert said == {"successes": [item["charge_id"]], "errors": []}
    else:
        strict = strict.replace("null returned", "array returned")
        assert said == {"successes": [], "errors": [f"{item['charge_id']}: {strict}"]}


def test_a_charge_that_cannot_be_cancelled_is_told_in_vipps_words(module: Module):
    agreement = module.agreement()
    name = initial(module.stand, agreement)

    said = module.ask("charge/cancel", [{"agreement_id": agreement, "charge_id": name}])

    assert said["errors"] == [f"{name}: {genuine(module.stand, 'DELETE', f'{AGREEMENTS}/{agreement}/charges/{name}')}"]


def test_cancelling_a_charge_without_a_name(module: Module, mode: str):
    said = module.ask("charge/cancel", [{"agreement_id": module.agreement()}])

    [error] = said["errors"]
    assert error.startswith(": Client error" if mode == STRICT else "item 1: charge_id is missing.")


def test_cancelling_twice(module: Module, mode: str):
    _, item = a_charge(module)
    module.ask("charge/cancel", [item])

    said = module.ask("charge/cancel", [item])

    if mode == FIXED:
        assert said == {"successes": [item["charge_id"]], "errors": []}
    else:
        assert said["errors"][0].startswith(f"{item['charge_id']}: Client error: `DELETE ")


# A.7  charge/refund


def refunded(here: Stand, name: str) -> int:
    return next(int(c["summary"]["refunded"]) for c in here.ledger()["charges"] if c["id"] == name)


def paid(module: Module) -> dict[str, Any]:
    """Return, as an item, a charge that was taken at signing. (The stand-in turns the README's 123 down.)"""
    agreement = module.agreement()
    name = initial(module.stand, agreement)
    return {"agreement_id": agreement, "price": 1230, "description": "This is description", "charge_id": name}


def test_charges_are_refunded_as_in_the_readme(module: Module, mode: str):
    item = paid(module)
    name = item["charge_id"]

    said = module.ask("charge/refund", [item])

    well = {"successes": [name], "errors": []}
    assert said == (well if mode == FIXED else {"successes": [], "errors": [f"{name}: {NO_BODY}"]})
    assert refunded(module.stand, name) == 1230
    [call] = sent(module.stand, "POST", f"{AGREEMENTS}/{item['agreement_id']}/charges/{name}/refund")
    assert json.loads(call.body) == {"amount": 1230, "description": "This is description"}


@pytest.mark.parametrize(
    ("status", "body", "strict"), [(200, {"ok": 1}, None), (202, {"x": 1}, '{"status":202,"error":{"x":1}}')]
)
def test_a_refund_that_vipps_answers_for_otherwise(
    module: Module, mode: str, status: int, body: Any, strict: str | None
):
    item = paid(module)
    module.stand.wire.instead("refund", status, body)

    said = module.ask("charge/refund", [item])

    errors = [] if mode == FIXED or strict is None else [f"{item['charge_id']}: {strict}"]
    assert said["errors"] == errors
    assert refunded(module.stand, item["charge_id"]) == 1230


def test_a_refund_without_a_price(module: Module, mode: str):
    item = paid(module)
    del item["price"]

    said = module.ask("charge/refund", [item])

    [error] = said["errors"]
    ours = "price is missing." if mode == FIXED else "Client error: amount must be from 100 to 9900"
    assert error.startswith(f"{item['charge_id']}: {ours}")
    assert refunded(module.stand, item["charge_id"]) == 0


def test_two_equal_refunds_of_a_charge_are_one(module: Module):
    item = paid(module)

    module.ask("charge/refund", [item, item])
    module.ask("charge/refund", [item])

    assert refunded(module.stand, item["charge_id"]) == 1230


def test_two_equal_refunds_under_different_keys_are_two(module: Module):
    item = paid(module)

    for key in ("a", "b", "a", "b"):
        module.ask("charge/refund", [item], key=f"{key}-{item['charge_id']}")

    assert refunded(module.stand, item["charge_id"]) == 2460


def test_two_equal_refunds_in_one_list_under_a_key_are_two(module: Module):
    item = paid(module)

    for _ in range(2):
        module.ask("charge/refund", [item, item], key=f"once-{item['charge_id']}")

    assert refunded(module.stand, item["charge_id"]) == 2460


def test_no_more_goes_back_than_was_taken(module: Module):
    item = paid(module)

    for number in range(4):
        module.ask("charge/refund", [item | {"price": 4000}], key=f"{number}-{item['charge_id']}")

    assert refunded(module.stand, item["charge_id"]) == 8000
