"""Each call of the Vipps client as a whole: the frozen body as it was, every page, ids that stay in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from invoice.errors import ProviderError, ProviderRefused, ProviderUncertain
from invoice.lifecycle import AgreementStatus
from invoice.providers.base import WebhookAddress
from invoice.providers.vipps import VippsClient
from invoice.providers.vipps_shapes import AGREEMENT_STATUSES
from invoice.providers.vipps_webhooks import EVENTS
from tests.providers.calls import (
    A_BATCH,
    A_CAPTURE,
    A_CHARGE,
    A_DRAFT,
    A_REFUND,
    ACCEPT,
    AGREEMENT,
    AGREEMENTS,
    BATCH,
    CALLS,
    CAPTURE,
    CHARGES,
    HOOK,
    HOOK_PATH,
    HOOK_URL,
    KEY,
    NEW_TERMS,
    OTHER_HOOK,
    PAGE_2,
    PAGE_3,
    REFUND,
    WEBHOOKS,
    a_charge,
    an_agreement,
    only_call,
    page_of_agreements,
)
from tests.providers.conftest import FakeVipps

# Changes


@pytest.mark.parametrize(
    ("method", "path", "frozen", "send"),
    [
        ("POST", AGREEMENTS, A_DRAFT, lambda c, body: c.draft_agreement(body, key=KEY)),
        ("PATCH", AGREEMENT, NEW_TERMS, lambda c, body: c.update_agreement("agr_1", body, key=KEY)),
        ("POST", BATCH, A_BATCH, lambda c, body: c.create_charges(body, key=KEY)),
        ("POST", CHARGES, A_CHARGE, lambda c, body: c.create_charge("agr_1", body, key=KEY)),
        ("POST", CAPTURE, A_CAPTURE, lambda c, body: c.capture_charge("agr_1", "name-1", body, key=KEY)),
        ("POST", REFUND, A_REFUND, lambda c, body: c.refund_charge("agr_1", "name-1", body, key=KEY)),
    ],
)
def test_a_frozen_body_is_sent_as_it_is(
    vipps: VippsClient,
    fake_vipps: FakeVipps,
    method: str,
    path: str,
    frozen: str,
    send: Callable[[VippsClient, str], Any],
) -> None:
    older = json.dumps(json.loads(frozen), indent=1, sort_keys=True)  # as a release before this one may have frozen it

    with suppress(ProviderError):
        send(vipps, older)

    call = only_call(fake_vipps)
    assert (call.method, call.path, call.body) == (method, path, older)


def test_a_stop_says_nothing_but_stopped(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("PATCH", AGREEMENT, status=204)

    vipps.stop_agreement("agr_1", key=KEY)

    assert only_call(fake_vipps).json == {"status": "STOPPED"}


def test_an_acceptance_in_the_test_environment_names_the_phone(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("PATCH", ACCEPT, status=204)

    vipps.accept_agreement("agr_1", "+4791234567", key=KEY)

    assert only_call(fake_vipps).json == {"phoneNumber": "4791234567"}


def test_a_charge_that_is_called_off_has_no_body(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    method, path, make = CALLS["cancel"]
    fake_vipps.on(method, path, status=204)

    make(vipps)

    assert only_call(fake_vipps).body == ""


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("name", ["update", "stop", "accept", "charge", "cancel", "capture", "refund"])
def test_a_change_that_is_accepted_for_later_is_a_success(
    vipps: VippsClient, fake_vipps: FakeVipps, name: str, status: int
) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, status=status)

    made = make(vipps)

    assert made is None
    assert len(fake_vipps.calls) == 1


# Pages


def test_all_pages_of_charges_are_fetched(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [a_charge(id="a"), a_charge(id="b")], Continuation_Token=PAGE_2)
    fake_vipps.on("GET", CHARGES, [a_charge(id="c")], Continuation_Token=PAGE_3)
    fake_vipps.on("GET", CHARGES, [a_charge(id="d")], Continuation_Token="")

    charges = vipps.list_charges("agr_1")

    assert [charge.name for charge in charges] == ["a", "b", "c", "d"]
    sent = [call.headers.get("Continuation-Token") for call in fake_vipps.calls]
    assert sent == [None, PAGE_2, PAGE_3]


def test_a_list_without_end_is_given_up(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [], Continuation_Token=PAGE_2)

    with pytest.raises(ProviderUncertain):
        vipps.list_charges("agr_1")


def test_a_page_that_fails_fails_the_list(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [a_charge()], Continuation_Token=PAGE_2)
    fake_vipps.on("GET", CHARGES, None, 500)

    with pytest.raises(ProviderUncertain):
        vipps.list_charges("agr_1")


def test_all_pages_of_agreements_are_fetched(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    full = [an_agreement(id=f"agr_{number}") for number in range(2000)]
    fake_vipps.on("GET", page_of_agreements(1), full)
    fake_vipps.on("GET", page_of_agreements(2), [an_agreement(id="agr_last")])

    found = CALLS["list agreements"][2](vipps)

    assert [view.agreement_id for view in found] == [*(a["id"] for a in full), "agr_last"]
    assert [call.path for call in fake_vipps.calls] == [page_of_agreements(1), page_of_agreements(2)]


def test_agreements_that_fill_their_last_page_are_all_fetched(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", page_of_agreements(1), [an_agreement()] * 2000)
    fake_vipps.on("GET", page_of_agreements(2), [])

    assert len(CALLS["list agreements"][2](vipps)) == 2000


@pytest.mark.parametrize(("size", "is_last"), [(0, True), (1, True), (1999, True), (2000, False)])
def test_a_page_of_agreements_tells_whether_it_is_the_last(
    vipps: VippsClient, fake_vipps: FakeVipps, size: int, is_last: bool
) -> None:
    fake_vipps.on("GET", page_of_agreements(3), [an_agreement()] * size)

    page = CALLS["page of agreements"][2](vipps)

    assert (len(page.views), page.is_last) == (size, is_last)


@pytest.mark.parametrize("status", AGREEMENT_STATUSES.values())
def test_agreements_are_asked_for_by_status_and_by_the_millisecond_of_their_draft(
    vipps: VippsClient, fake_vipps: FakeVipps, status: AgreementStatus
) -> None:
    since = datetime(2026, 11, 3, 12, 0, 0, 1500, tzinfo=timezone(timedelta(hours=1)))
    path = page_of_agreements(1, status=status.value, since_ms=1793703600001)
    fake_vipps.on("GET", path, [])

    assert vipps.list_agreements(status, since) == []
    assert [call.path for call in fake_vipps.calls] == [path]


def test_agreements_without_end_are_given_up(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    full = json.dumps([{"id": "agr_1", "status": "ACTIVE"}] * 2000).encode()
    for number in range(1, 101):
        fake_vipps.on("GET", page_of_agreements(number), full)

    with pytest.raises(ProviderUncertain, match="goes on listing agreements"):
        CALLS["list agreements"][2](vipps)

    assert len(fake_vipps.calls) == 100


# Ids in paths

ODD_IDS = [
    ("agr_1/charges/x", "agr_1%2Fcharges%2Fx"),
    ("../../v2", "..%2F..%2Fv2"),
    ("a b?c=d#e", "a%20b%3Fc%3Dd%23e"),
    ("a%2Fb", "a%252Fb"),
    ("a\\b;c", "a%5Cb%3Bc"),
    ("å\r\n", "%C3%A5%0D%0A"),
]


@pytest.mark.parametrize(("identifier", "part"), ODD_IDS)
@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda c, i: c.find_agreement(i), "/recurring/v3/agreements/{}"),
        (lambda c, i: c.update_agreement(i, NEW_TERMS, key=KEY), "/recurring/v3/agreements/{}"),
        (lambda c, i: c.stop_agreement(i, key=KEY), "/recurring/v3/agreements/{}"),
        (lambda c, i: c.accept_agreement(i, "+4791234567", key=KEY), "/recurring/v3/agreements/{}/accept"),
        (lambda c, i: c.list_charges(i), "/recurring/v3/agreements/{}/charges"),
        (lambda c, i: c.create_charge(i, A_CHARGE, key=KEY), "/recurring/v3/agreements/{}/charges"),
        (lambda c, i: c.find_charge(i, "name-1"), "/recurring/v3/agreements/{}/charges/name-1"),
        (lambda c, i: c.find_charge("agr_1", i), "/recurring/v3/agreements/agr_1/charges/{}"),
        (lambda c, i: c.find_charge_by_name(i), "/recurring/v3/charges/{}"),
        (lambda c, i: c.cancel_charge(i, "n", key=KEY), "/recurring/v3/agreements/{}/charges/n"),
        (lambda c, i: c.cancel_charge("a", i, key=KEY), "/recurring/v3/agreements/a/charges/{}"),
        (lambda c, i: c.capture_charge(i, "n", A_CAPTURE, key=KEY), "/recurring/v3/agreements/{}/charges/n/capture"),
        (lambda c, i: c.capture_charge("a", i, A_CAPTURE, key=KEY), "/recurring/v3/agreements/a/charges/{}/capture"),
        (lambda c, i: c.refund_charge(i, "n", A_REFUND, key=KEY), "/recurring/v3/agreements/{}/charges/n/refund"),
        (lambda c, i: c.refund_charge("a", i, A_REFUND, key=KEY), "/recurring/v3/agreements/a/charges/{}/refund"),
    ],
)
def test_an_id_is_one_part_of_its_path(
    vipps: VippsClient,
    fake_vipps: FakeVipps,
    make: Callable[[VippsClient, str], Any],
    path: str,
    identifier: str,
    part: str,
) -> None:
    with suppress(ProviderError):
        make(vipps, identifier)

    assert only_call(fake_vipps).path == path.format(part)


@pytest.mark.parametrize(("identifier", "part"), ODD_IDS)
def test_the_id_of_a_registration_is_one_part_of_its_path(
    vipps: VippsClient, fake_vipps: FakeVipps, identifier: str, part: str
) -> None:
    vipps.delete_webhook(identifier)

    assert only_call(fake_vipps).path == f"{WEBHOOKS}/{part}"


@pytest.mark.parametrize("identifier", ["..", ".", ""])
@pytest.mark.parametrize(
    "make",
    [
        lambda c, i: c.stop_agreement(i, key=KEY),
        lambda c, i: c.accept_agreement(i, "+4791234567", key=KEY),
        lambda c, i: c.find_agreement(i),
        lambda c, i: c.find_charge("agr_1", i),
        lambda c, i: c.find_charge(i, "name-1"),
        lambda c, i: c.find_charge_by_name(i),
        lambda c, i: c.create_charge(i, A_CHARGE, key=KEY),
        lambda c, i: c.cancel_charge("agr_1", i, key=KEY),
        lambda c, i: c.capture_charge("agr_1", i, A_CAPTURE, key=KEY),
        lambda c, i: c.refund_charge("agr_1", i, A_REFUND, key=KEY),
        lambda c, i: c.delete_webhook(i),
    ],
)
def test_an_id_that_would_name_another_path_is_not_sent(
    vipps: VippsClient, fake_vipps: FakeVipps, make: Callable[[VippsClient, str], Any], identifier: str
) -> None:
    with pytest.raises(ProviderRefused, match="Vipps has no id"):
        make(vipps, identifier)

    assert fake_vipps.calls == []


# Webhook registrations


def test_a_registration_asks_for_all_events(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("POST", WEBHOOKS, {"id": HOOK, "secret": "s3cret"}, 201)

    registered = vipps.register_webhook(HOOK_URL)

    assert registered == (WebhookAddress(HOOK, HOOK_URL), "s3cret")
    assert only_call(fake_vipps).json == {"url": HOOK_URL, "events": list(EVENTS)}


def registered(*webhook_ids: str) -> dict[str, Any]:
    """Vipps' list of registrations."""
    return {"webhooks": [{"id": each, "url": HOOK_URL, "events": list(EVENTS)} for each in webhook_ids]}


@pytest.mark.parametrize("status", [204, 404])
def test_a_registration_that_is_gone_counts_as_ended(vipps: VippsClient, fake_vipps: FakeVipps, status: int) -> None:
    fake_vipps.on("DELETE", HOOK_PATH, None, status)

    vipps.delete_webhook(HOOK)

    assert only_call(fake_vipps).method == "DELETE"


@pytest.mark.parametrize("others", [(), (OTHER_HOOK,)])
def test_a_registration_that_vipps_no_longer_lists_counts_as_ended(
    vipps: VippsClient, fake_vipps: FakeVipps, others: tuple[str, ...]
) -> None:
    fake_vipps.on("DELETE", HOOK_PATH, {"title": "Bad Request", "detail": "Webhook not found."}, 400)
    fake_vipps.on("GET", WEBHOOKS, registered(*others))

    vipps.delete_webhook(HOOK)

    assert [call.method for call in fake_vipps.calls] == ["DELETE", "GET"]


def test_a_refused_end_of_a_registration_that_is_still_listed_is_told(
    vipps: VippsClient, fake_vipps: FakeVipps
) -> None:
    fake_vipps.on("DELETE", HOOK_PATH, {"title": "Bad Request", "detail": "No."}, 400)
    fake_vipps.on("GET", WEBHOOKS, registered(OTHER_HOOK, HOOK))

    with pytest.raises(ProviderRefused, match="No"):
        vipps.delete_webhook(HOOK)


def test_a_refused_end_of_a_registration_is_not_believed_while_the_list_does_not_come(
    vipps: VippsClient, fake_vipps: FakeVipps
) -> None:
    fake_vipps.on("DELETE", HOOK_PATH, {"title": "Bad Request"}, 400)
    fake_vipps.on("GET", WEBHOOKS, None, 500)

    with pytest.raises(ProviderUncertain):
        vipps.delete_webhook(HOOK)


@pytest.mark.parametrize("status", [409, 415, 422])
def test_any_other_refusal_to_end_a_registration_is_told(
    vipps: VippsClient, fake_vipps: FakeVipps, status: int
) -> None:
    fake_vipps.on("DELETE", HOOK_PATH, {"title": "Conflict"}, status)

    with pytest.raises(ProviderRefused):
        vipps.delete_webhook(HOOK)

    assert len(fake_vipps.calls) == 1
