"""The stand-in's answers and our client's requests, held against the vendor's OpenAPI files."""

from __future__ import annotations

import functools
import json
import operator
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from invoice import clock
from invoice.errors import ProviderRefused
from invoice.lifecycle import AgreementStatus, Interval
from invoice.providers.base import (
    Draft,
    EventCampaign,
    FixedPrice,
    FlexiblePrice,
    InitialCharge,
    NewCharge,
    PeriodCampaign,
    PriceCampaign,
    Terms,
    VariablePrice,
)
from invoice.providers.vipps import SalesUnit, VippsClient
from invoice.simulator.accounts import DEMO_UNIT
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.serving import make_simulator_server
from tests import spec
from tests.conftest import StandingClock
from tests.simulator.conftest import START, TODAY, Merchant

if reason := spec.absent():
    pytest.skip(reason, allow_module_level=True)

AGREEMENTS = "/recurring/v3/agreements"
HOOKS = "/webhooks/v1/webhooks"
HOOK_URL = "http://127.0.0.1:5000/hooks/vipps/token"

# Answers that the files list and the stand-in never gives.
NEVER_GIVEN = {
    # What makes the real one answer so is not documented; 500 can be ordered as a fault.
    ("POST", "/accesstoken/get", 400),
    ("POST", "/accesstoken/get", 500),
    # For accounting and donations; Recurring does not take its tokens.
    *(("POST", "/miami/v1/token", status) for status in (200, 400, 401, 500)),
}


# The stand-in, through everything that the files list.


def tell_agreements(merchant: Merchant) -> None:
    """Draft, fetch, list, update, accept and stop, well and badly."""
    for changes in (
        {"campaign": {"type": "PERIOD_CAMPAIGN", "price": 100, "period": {"unit": "WEEK", "count": 4}}},
        {"campaign": {"type": "PRICE_CAMPAIGN", "price": 100, "end": "2031-01-01T00:00:00Z"}},
        {
            "campaign": {
                "type": "EVENT_CAMPAIGN",
                "price": 100,
                "eventDate": "2031-01-01T00:00:00Z",
                "eventText": "until summer",
            }
        },
        {"pricing": {"type": "VARIABLE", "suggestedMaxAmount": 50_000, "currency": "NOK"}, "scope": "name email"},
        {"pricing": {"type": "FLEXIBLE", "currency": "NOK"}, "interval": None, "externalId": None},
        {"merchantRedirectUrl": "https://shop.example.com/" + "x" * 2000, "productDescription": "x" * 100},
        {"paymentMethod": {"blockedSources": ["COMMERCIAL_CARDS"]}},
        {"initialCharge": {"amount": 9900, "description": "x", "transactionType": "DIRECT_CAPTURE", "orderId": "i-1"}},
    ):
        merchant.agreement(merchant.active(**changes))
    merchant.call("POST", AGREEMENTS, merchant.draft_body(productName="x" * 46))
    merchant.call("POST", AGREEMENTS, merchant.draft_body(skipLandingPage=True))
    taken = {"amount": 9900, "description": "x", "transactionType": "DIRECT_CAPTURE", "orderId": "i-1"}
    merchant.call("POST", AGREEMENTS, merchant.draft_body(initialCharge=taken))
    merchant.call("GET", f"{AGREEMENTS}/agr_unknown")

    waiting = merchant.draft()["agreementId"]
    merchant.agreement(waiting)
    merchant.call("PATCH", f"{AGREEMENTS}/{waiting}/accept", {"phoneNumber": "4712457890"})
    merchant.call("PATCH", f"{AGREEMENTS}/{waiting}/accept", {"phoneNumber": "4712457890"})
    merchant.call("PATCH", f"{AGREEMENTS}/agr_unknown/accept", {"phoneNumber": "4712457890"})

    for body in ({"productName": "x"}, {"interval": {"type": "FLEXIBLE"}}, {"status": "STOPPED"}, {"nothing": 1}):
        merchant.call("PATCH", f"{AGREEMENTS}/{waiting}", body)
    merchant.agreement(waiting)
    merchant.call("PATCH", f"{AGREEMENTS}/agr_unknown", {"productName": "x"})
    merchant.decide(merchant.draft()["agreementId"], "reject")
    merchant.draft()
    merchant.advance(minutes=11)  # nobody answers that one
    merchant.draft()
    for status in ("PENDING", "ACTIVE", "STOPPED", "EXPIRED", "ASLEEP"):
        merchant.call("GET", f"{AGREEMENTS}?status={status}&pageNumber=1&pageSize=3&createdAfter=0")


def tell_charges(merchant: Merchant) -> None:
    """Create, fetch, list, cancel, capture and refund, well and badly; let time decide what becomes of some."""
    agreement_id = merchant.active(pricing={"type": "FLEXIBLE", "currency": "NOK"})
    path = f"{AGREEMENTS}/{agreement_id}/charges"
    for name, changes in {
        "paid": {},
        "called-off": {"externalId": "x"},
        "held": {"transactionType": "RESERVE_CAPTURE"},
        "refused": {"amount": 151, "retryDays": 0, "processingMode": "SINGLE_ATTEMPT"},
        "unknown-for-an-hour": {"amount": 201},
        "far": {"due": (TODAY + timedelta(days=90)).isoformat()},
    }.items():
        merchant.charge(agreement_id, orderId=name, **changes)
    merchant.charge(agreement_id)
    merchant.post_charge(agreement_id, orderId="paid")
    merchant.post_charge(agreement_id, due="2030-01-15")
    merchant.post_charge("agr_unknown")
    items = [merchant.charge_body(agreementId=agreement_id, orderId=f"b-{n}", amount=n) for n in range(98, 220)]
    merchant.call("POST", f"{AGREEMENTS}/charges", items)
    merchant.on_charge("called-off", "cancel")
    merchant.on_charge("called-off", "cancel")

    merchant.advance(days=4, hours=23)  # a little after nine on the due day
    merchant.fetch("unknown-for-an-hour")
    merchant.advance(days=3)
    for name in ("paid", "called-off", "held", "refused", "unknown-for-an-hour", "far"):
        merchant.call("GET", f"{path}/{name}")
        merchant.fetch(name)
    for amount in (1000, 90_000):
        merchant.on_charge("held", "capture", {"amount": amount})
        merchant.fetch("held")
    merchant.on_charge("held", "cancel")
    for amount in (1000, 90_000, 8900):
        merchant.on_charge("paid", "refund", {"amount": amount, "description": "x"})
        merchant.fetch("paid")
    following = merchant.call("GET", path).headers["Continuation-Token"]
    merchant.call("GET", path, **{"Continuation-Token": following})
    merchant.call("GET", f"{path}?status=FAILED")
    tell_missing_charges(merchant, path)


def tell_missing_charges(merchant: Merchant, path: str) -> None:
    merchant.call("GET", f"{path}/none")
    merchant.call("GET", "/recurring/v3/charges/none")
    merchant.call("GET", f"{AGREEMENTS}/agr_unknown/charges")
    merchant.call("DELETE", f"{path}/none")
    merchant.call("POST", f"{path}/none/capture", {"amount": 100})
    merchant.call("POST", f"{path}/none/refund", {"amount": 100, "description": "x"})


def tell_other_endings(merchant: Merchant) -> None:
    """Answer 202 where the file has it, and 409 for a key that was used for something else."""
    agreement_id = merchant.active()
    path = f"{AGREEMENTS}/{agreement_id}"
    for name in ("c-1", "c-2"):
        merchant.charge(agreement_id, orderId=name, transactionType="RESERVE_CAPTURE", due="2030-01-30")
    merchant.advance(days=8)
    used = "a-key-that-was-used"
    merchant.call("PATCH", path, {"productName": "x"}, key=used)
    merchant.call("PATCH", path, {"productName": "y"}, key=used)
    merchant.call("DELETE", f"{path}/charges/c-1", key=used)
    merchant.call("POST", f"{path}/charges/c-1/capture", {"amount": 100}, key=used)
    merchant.call("POST", f"{path}/charges/c-1/refund", {"amount": 100, "description": "x"}, key=used)
    merchant.switch(answer_202=True)
    merchant.call("POST", f"{path}/charges/c-1/capture", {"amount": 100})
    merchant.call("DELETE", f"{path}/charges/c-2")
    merchant.call("PATCH", path, {"productName": "z"})
    merchant.switch(answer_202=False)


def tell_webhooks(merchant: Merchant) -> None:
    made = merchant.register(HOOK_URL)
    merchant.call("GET", HOOKS)
    merchant.call("GET", HOOKS, **{"Vipps-System-Name": "x" * 31})
    merchant.call("POST", HOOKS, {"url": "gopher://x", "events": []})
    merchant.client.post(HOOKS, data="text", headers=merchant.headers(), content_type="text/plain")
    merchant.call("GET", HOOKS, **{"Merchant-Serial-Number": "999999"})
    for _ in range(2):
        merchant.call("DELETE", f"{HOOKS}/{made['id']}")


def tell_refusals_at_the_door(merchant: Merchant) -> None:
    """Wrong keys, wrong types, too much and too often: what no operation lists for itself."""
    merchant.client.post("/accesstoken/get", headers=merchant.keys() | {"client_secret": "wrong"})
    merchant.client.post("/accesstoken/get")
    for path in (AGREEMENTS, HOOKS):
        good = merchant.headers()
        merchant.client.get(path, headers={**good, "Authorization": "Bearer nonsense"})
        merchant.client.get(path, headers={**good, "Ocp-Apim-Subscription-Key": "wrong"})
        merchant.client.post(path, data=b" " * (8 * 1024 * 1024 + 1), headers=good, content_type="application/json")
    merchant.call("GET", AGREEMENTS, **{"Merchant-Serial-Number": "999999"})
    merchant.client.post(AGREEMENTS, data="text", headers=merchant.headers(), content_type="text/plain")
    for call, path in (("list_agreements", AGREEMENTS), ("webhooks", HOOKS)):
        merchant.fault(call, "429")
        merchant.call("GET", path)
    merchant.fault("token", "429")
    merchant.client.post("/accesstoken/get", headers=merchant.keys())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[spec.Exchange]]:
    """Everything that was said in the script above."""
    made = create_simulator(tmp_path_factory.mktemp("told"), base_url="http://127.0.0.1:8001")
    made.clock.move(START - made.clock.now())
    exchanges = spec.record(made.app)
    merchant = Merchant(made)
    for tell in (tell_agreements, tell_charges, tell_other_endings, tell_webhooks, tell_refusals_at_the_door):
        tell(merchant)
    yield exchanges
    made.stop()


def test_every_answer_that_the_files_list_is_given(told: list[spec.Exchange]) -> None:
    given = {(*operation, each.status) for each in told if (operation := spec.operation_of(each))}
    listed = {each for name in (spec.RECURRING, spec.TOKEN, spec.WEBHOOKS) for each in spec.documented(name)}

    assert listed - given == NEVER_GIVEN


def test_every_answer_is_inside_the_files(told: list[spec.Exchange]) -> None:
    assert spec.violations(told) == []


def test_every_status_of_a_charge_and_of_an_agreement_was_seen(told: list[spec.Exchange]) -> None:
    bodies = [json.loads(each.answer_body) for each in told if each.status == 200]
    rows = [row for body in bodies for row in (body if isinstance(body, list) else [body])]
    seen = {row["status"] for row in rows if "status" in row}

    assert seen == {
        *("PENDING", "ACTIVE", "STOPPED", "EXPIRED"),
        *("DUE", "PROCESSING", "RESERVED", "PARTIALLY_CAPTURED", "CHARGED", "FAILED", "CANCELLED"),
        *("PARTIALLY_REFUNDED", "REFUNDED"),
    }


# Our client.

USED_BY_OUR_CLIENT = {
    ("POST", "/accesstoken/get"),
    ("POST", AGREEMENTS),
    ("GET", AGREEMENTS),
    ("GET", AGREEMENTS + "/{agreementId}"),
    ("PATCH", AGREEMENTS + "/{agreementId}"),
    ("PATCH", AGREEMENTS + "/{agreementId}/accept"),
    ("POST", AGREEMENTS + "/charges"),
    ("POST", AGREEMENTS + "/{agreementId}/charges"),
    ("GET", AGREEMENTS + "/{agreementId}/charges"),
    ("GET", AGREEMENTS + "/{agreementId}/charges/{chargeId}"),
    ("DELETE", AGREEMENTS + "/{agreementId}/charges/{chargeId}"),
    ("POST", AGREEMENTS + "/{agreementId}/charges/{chargeId}/capture"),
    ("POST", AGREEMENTS + "/{agreementId}/charges/{chargeId}/refund"),
    ("GET", "/recurring/v3/charges/{chargeId}"),
    ("GET", "/v1/webhooks"),
    ("POST", "/v1/webhooks"),
    ("DELETE", "/v1/webhooks/{id}"),
}


@contextmanager
def opened(data: Path) -> Iterator[tuple[Simulator, VippsClient]]:
    """Put a stand-in on a real socket, and our client before it; its links lead to the client's own address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    simulator = create_simulator(data, base_url=f"http://127.0.0.1:{port}")
    simulator.clock.move(START - simulator.clock.now())
    server = make_simulator_server(simulator, "127.0.0.1", port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    keys = {name: getattr(DEMO_UNIT, name) for name in SalesUnit.__dataclass_fields__}
    yield simulator, VippsClient(f"http://127.0.0.1:{port}", SalesUnit(**keys), ())
    server.shutdown()
    thread.join()
    server.server_close()
    simulator.stop()


@pytest.fixture
def door(tmp_path: Path, time: StandingClock) -> Iterator[tuple[Simulator, VippsClient]]:
    with opened(tmp_path / "data") as both:
        yield both


def a_draft(**changes: Any) -> Draft:
    return replace(
        Draft(
            external_id="sub_4f1c",
            product_name="Nordavis Digital – hele avisen, hver eneste dag, året rundt 📰",
            description="Alt innhold " * 20,
            price=FixedPrice(9900, "NOK"),
            interval=Interval.MONTH,
            phone="+4712457890",
            redirect_url="http://127.0.0.1:5000/back",
            manage_url="https://pay.example.com/manage/1",
        ),
        **changes,
    )


UNTIL = datetime(2031, 1, 1, tzinfo=UTC)
DRAFTS: list[dict[str, Any]] = [
    {},
    *({"interval": interval} for interval in Interval),
    {"price": VariablePrice(50_000, "NOK"), "interval": None},
    {"price": FlexiblePrice("NOK"), "initial": InitialCharge(9900, "chg-first-2")},
    {"campaign": PriceCampaign(100, UNTIL)},
    {"campaign": PeriodCampaign(100, Interval.WEEK, 4)},
    {"campaign": EventCampaign(100, UNTIL, "til sommeren 🌞")},
]
TERMS = (
    Terms(price=FixedPrice(19_900, "NOK")),
    Terms(None, "Nordavis – " * 9, "Alt innhold " * 20, "https://pay.example.com/manage/2", Interval.YEAR),
)


def a_charge(agreement_id: str, name: str, amount: int = 9900, **changes: Any) -> NewCharge:
    text, due_on = "Nordavis Digital, februar 2030 – æøå", TODAY + timedelta(days=5)
    return replace(NewCharge(agreement_id, name, amount, "NOK", text, due_on, 2), **changes)


def use_everything(simulator: Simulator, client: VippsClient) -> None:
    """Call each method of our client, for what is there and for what is not."""
    use_agreements(simulator, client)
    use_charges(simulator, client)
    address, _ = client.register_webhook(HOOK_URL)
    assert client.list_webhooks() == [address]
    client.delete_webhook(address.webhook_id)
    client.delete_webhook(address.webhook_id)


def use_agreements(simulator: Simulator, client: VippsClient) -> None:
    for number, changes in enumerate(DRAFTS):
        drafted = client.draft_agreement(client.draft_request(a_draft(**changes)), key=f"draft-{number}")
    taken = client.draft_request(a_draft(initial=InitialCharge(9900, "chg-first-2")))
    with pytest.raises(ProviderRefused):
        client.draft_agreement(taken, key="draft-x")
    client.accept_agreement(drafted.agreement_id, "+4712457890", key="accept-1")
    assert client.find_agreement(drafted.agreement_id)
    assert client.find_agreement("agr_unknown") is None
    assert client.list_agreements(AgreementStatus.ACTIVE, START - timedelta(days=1))

    agreement_id = client.draft_agreement(client.draft_request(a_draft()), key="draft-y").agreement_id
    Merchant(simulator).decide(agreement_id, "approve")
    for number, terms in enumerate(TERMS):
        client.update_agreement(agreement_id, client.terms_request(terms), key=f"terms-{number}")
    client.stop_agreement(agreement_id, key="stop-1")
    with pytest.raises(ProviderRefused):
        client.stop_agreement(agreement_id, key="stop-2")


def use_charges(simulator: Simulator, client: VippsClient) -> None:
    first = a_draft(initial=InitialCharge(9900, "chg-first-1", is_reserved=True))
    agreement_id = client.draft_agreement(client.draft_request(first), key="draft-z").agreement_id
    Merchant(simulator).decide(agreement_id, "approve")
    names = [f"chg-{number}" for number in range(120)]
    batch = [a_charge(agreement_id, name, 100) for name in names]
    batch += [a_charge(agreement_id, "chg-0"), a_charge("agr_unknown", "chg-x"), a_charge(agreement_id, "chg-y", 1)]
    told = client.create_charges(client.charges_request(batch), key="batch-1")
    assert (len(told.accepted), set(told.refused)) == (120, {"chg-0", "chg-x", "chg-y"})
    held = a_charge(agreement_id, "chg-held", is_reserved=True)
    client.create_charge(agreement_id, client.charge_request(held), key="charge-1")
    assert client.find_charge(agreement_id, "chg-1")
    assert client.find_charge(agreement_id, "none") is None
    assert client.find_charge_by_name("chg-1")
    assert client.find_charge_by_name("none") is None
    assert len(client.list_charges(agreement_id)) == 122
    client.cancel_charge(agreement_id, "chg-1", key="cancel-1")

    Merchant(simulator).advance(hours=2)  # the token is too old now
    client.capture_charge(agreement_id, "chg-first-1", client.capture_request(9900), key="capture-1")
    for number, amount in enumerate((4000, 9900)):
        request = client.refund_request(amount, "Tilbakebetaling: " + "lang begrunnelse " * 20)
        with nullcontext() if amount == 4000 else pytest.raises(ProviderRefused):
            client.refund_charge(agreement_id, "chg-first-1", request, key=f"refund-{number}")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[spec.Exchange]:
    """Everything that our client said, and what it was answered."""
    clock.follow(lambda: START)
    with opened(tmp_path_factory.mktemp("said")) as (simulator, client):
        exchanges = spec.record(simulator.app)
        use_everything(simulator, client)
    clock.follow(None)
    return [each for each in exchanges if each.is_ours]


def test_what_our_client_says_and_hears_is_inside_the_files(said: list[spec.Exchange]) -> None:
    assert {spec.operation_of(each) for each in said} == USED_BY_OUR_CLIENT
    assert 401 in {each.status for each in said}
    assert spec.violations(said) == []


# Whether the check itself would notice.


def test_a_wrong_request_of_our_client_fails_the_test_that_it_is_made_in(
    door: tuple[Simulator, VippsClient],
) -> None:
    simulator, client = door

    with (
        pytest.raises(AssertionError, match=r"request POST /recurring/v3/agreements -> 400: .*'pricing' is a required"),
        spec.held(simulator.app),
        pytest.raises(ProviderRefused),
    ):
        client.draft_agreement('{"productName":"Avisen"}', key="key-1")


def test_a_wrong_answer_of_the_stand_in_fails_the_test_that_it_is_given_in(
    door: tuple[Simulator, VippsClient],
) -> None:
    simulator, client = door
    agreement_id = Merchant(simulator).active()
    sound = simulator.app.wsgi_app
    simulator.app.wsgi_app = lambda *call: [b"".join(sound(*call)).replace(b'"ACTIVE"', b'"AWAKE!"')]  # type: ignore[method-assign]

    with (
        pytest.raises(
            AssertionError, match=r"answer GET /recurring/v3/agreements/agr_.* -> 200: .*'AWAKE!' is not one"
        ),
        spec.held(simulator.app),
    ):
        client.find_agreement(agreement_id)


def test_what_was_said_before_hides_nothing(told: list[spec.Exchange]) -> None:
    fetched = next(each for each in told if each.method == "GET" and "/agr_" in each.path and each.status == 200)
    odd = replace(fetched, answer_body=fetched.answer_body.replace(b'"ACTIVE"', b'"AWAKE!"'))
    later = Headers({**dict(fetched.headers), "Vipps-System-Name": "mobile-invoice", "Idempotency-Key": "a/b"})

    assert spec.violations([fetched] * 3) == []
    assert len(spec.violations([fetched, odd, fetched, odd])) == 1
    assert len(spec.violations([fetched, replace(fetched, headers=later)])) == 1


Path_ = tuple[Any, ...]
ODD = {"odd": "value"}
# An object without named fields: the file takes anything for it.
OPEN = "paymentMethod"


def places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Yield the way to every value in a JSON document, the whole of it included."""
    yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children:
        if step != OPEN:
            yield from places(child, (*at, step))


def changed(value: Any, at: Path_) -> Any:
    """Return a copy in which one value has become an object with a field that no file names."""
    if not at:
        return {**value, **ODD} if isinstance(value, dict) else ODD
    copy = deepcopy(value)
    inner = functools.reduce(operator.getitem, at[:-1], copy)
    inner[at[-1]] = changed(inner[at[-1]], ())
    return copy


def unlike(exchanges: list[spec.Exchange]) -> list[spec.Exchange]:
    """Return one exchange of each operation and status, the longest."""
    found: dict[Any, spec.Exchange] = {}
    for each in sorted(exchanges, key=lambda each: len(each.answer_body) if len(each.answer_body) < 9000 else 0):
        found[spec.operation_of(each), each.status] = each
    return list(found.values())


def test_an_answer_with_one_odd_value_is_noticed(told: list[spec.Exchange]) -> None:
    unnoticed = []
    for each in unlike(told):
        if not each.answer_body or (spec.document_of(each.path) == spec.TOKEN and each.status == 401):
            continue  # the file says nothing about this body
        body = json.loads(each.answer_body)
        for at in places(body):
            odd = replace(each, answer_body=json.dumps(changed(body, at)).encode())
            unnoticed += [] if spec.answer_violations(odd) else [f"{each}: {at}"]

    assert unnoticed == []


def test_an_answer_without_a_field_that_is_always_there_is_noticed(told: list[spec.Exchange]) -> None:
    fetched = next(each for each in told if each.method == "GET" and "/charges/" in each.path and each.status == 200)
    body = json.loads(fetched.answer_body)
    noticed = {
        name
        for name in body
        if spec.answer_violations(
            replace(fetched, answer_body=json.dumps({k: v for k, v in body.items() if k != name}).encode())
        )
    }

    assert body.keys() - noticed == {"failureReason", "failureDescription", "externalAgreementId"}


def test_an_answer_of_another_status_or_type_is_noticed(told: list[spec.Exchange]) -> None:
    page = Headers({"Content-Type": "text/html"})
    for each in unlike(told):
        assert spec.answer_violations(replace(each, status=418)), str(each)
        if each.answer_body and spec.document_of(each.path) != spec.TOKEN:
            assert spec.answer_violations(replace(each, answer_headers=page)), str(each)


def test_a_request_with_one_odd_value_is_noticed(said: list[spec.Exchange]) -> None:
    unnoticed = []
    for each in unlike(said):
        body = json.loads(each.body) if each.body and len(each.body) < 9000 else None
        for at in places(body) if body is not None else ():
            odd = replace(each, body=json.dumps(changed(body, at)).encode())
            unnoticed += [] if spec.request_violations(odd) else [f"{each}: {at}"]

    assert unnoticed == []


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", None),
        ("Ocp-Apim-Subscription-Key", None),
        ("Idempotency-Key", None),
        ("Idempotency-Key", "a/b"),
        ("Idempotency-Key", "x" * 41),
        ("Content-Type", "text/plain"),
        ("Vipps-System-Name", "x" * 31),
    ],
)
def test_a_request_with_a_wrong_header_is_noticed(said: list[spec.Exchange], header: str, value: str | None) -> None:
    draft = next(each for each in said if each.path == AGREEMENTS)
    headers = Headers([(name, text) for name, text in draft.headers if name.lower() != header.lower()])
    if value is not None:
        headers[header] = value

    assert spec.request_violations(replace(draft, headers=headers))


def test_a_due_date_with_a_time_is_noticed(said: list[spec.Exchange]) -> None:
    batch = next(each for each in said if each.path == AGREEMENTS + "/charges")

    assert spec.request_violations(replace(batch, body=batch.body.replace(b"2030-01-20", b"2030-01-20T00:00:00Z")))


def test_no_change_to_the_files_is_idle(told: list[spec.Exchange]) -> None:
    idle = [
        change
        for change in spec.CHANGES
        if not any(
            spec.answer_violations(each, without=change)
            for each in told
            if spec.document_of(each.path) == change.document
        )
    ]

    assert idle == []
