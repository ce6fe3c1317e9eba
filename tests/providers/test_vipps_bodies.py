"""What the Vipps client freezes: each body to the letter, and what is turned down before Vipps hears of it."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from invoice.errors import ProviderError, ProviderRefused
from invoice.lifecycle import AgreementStatus, Interval
from invoice.providers.base import (
    AgreementView,
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
from invoice.providers.vipps import VippsClient
from invoice.providers.vipps_bodies import LOCAL, cut
from tests.providers.calls import AGREEMENT, INITIAL, KEY, a_draft, a_new_charge, an_agreement
from tests.providers.conftest import FakeVipps

THUMBS = "\U0001f44d"
TODAY = date(2026, 11, 10)
OSLO = timezone(timedelta(hours=1))


def draft_body(vipps: VippsClient, **changes: Any) -> dict[str, Any]:
    """Freeze a draft, and send it once, so that it is held against the vendor's files."""
    request = vipps.draft_request(a_draft(**changes))
    with suppress(ProviderError):
        vipps.draft_agreement(request, key=KEY)
    body: dict[str, Any] = json.loads(request)
    return body


def terms_body(vipps: VippsClient, terms: Terms) -> dict[str, Any]:
    """Freeze a change of terms, likewise."""
    request = vipps.terms_request(terms)
    with suppress(ProviderError):
        vipps.update_agreement("agr_1", request, key=KEY)
    body: dict[str, Any] = json.loads(request)
    return body


# Drafts


def test_a_draft_is_frozen_exactly(vipps: VippsClient) -> None:
    request = vipps.draft_request(a_draft(product_name="Blåbær", description="Ærlig og øm"))

    assert request == (
        '{"pricing":{"type":"LEGACY","amount":9900,"currency":"NOK"},'
        '"interval":{"unit":"MONTH","count":1},'
        '"merchantRedirectUrl":"https://pay.example.com/return/1",'
        '"merchantAgreementUrl":"https://pay.example.com/manage/1",'
        '"phoneNumber":"4791234567",'
        '"productName":"Blåbær",'
        '"productDescription":"Ærlig og øm",'
        '"externalId":"01JD3000000000000000000000"}'
    )


@pytest.mark.parametrize(
    ("price", "pricing"),
    [
        (FixedPrice(9900, "NOK"), {"type": "LEGACY", "amount": 9900, "currency": "NOK"}),
        (VariablePrice(50000, "DKK"), {"type": "VARIABLE", "suggestedMaxAmount": 50000, "currency": "DKK"}),
        (FlexiblePrice("EUR"), {"type": "FLEXIBLE", "currency": "EUR"}),
    ],
)
def test_a_draft_has_one_of_three_prices(vipps: VippsClient, price: object, pricing: dict[str, Any]) -> None:
    assert draft_body(vipps, price=price)["pricing"] == pricing


@pytest.mark.parametrize("interval", Interval)
def test_a_draft_is_for_one_interval(vipps: VippsClient, interval: Interval) -> None:
    assert draft_body(vipps, interval=interval)["interval"] == {"unit": interval.value, "count": 1}


def test_a_draft_for_whenever_something_was_used_names_no_interval(vipps: VippsClient) -> None:
    assert "interval" not in draft_body(vipps, interval=None)


@pytest.mark.parametrize(("is_reserved", "kind"), [(False, "DIRECT_CAPTURE"), (True, "RESERVE_CAPTURE")])
def test_a_draft_with_an_initial_charge_names_it(vipps: VippsClient, is_reserved: bool, kind: str) -> None:
    initial = InitialCharge(100, "01JD3000000000000000000000-p0000-a0", is_reserved=is_reserved)

    assert draft_body(vipps, initial=initial)["initialCharge"] == {
        "amount": 100,
        "description": "Avisen",
        "transactionType": kind,
        "orderId": "01JD3000000000000000000000-p0000-a0",
    }


@pytest.mark.parametrize(
    ("campaign", "body"),
    [
        (
            PriceCampaign(1500, datetime(2027, 1, 1, tzinfo=UTC)),
            {"type": "PRICE_CAMPAIGN", "price": 1500, "end": "2027-01-01T00:00:00Z"},
        ),
        (
            PriceCampaign(1500, datetime(2027, 1, 1, 0, 30, 59, 999999, tzinfo=OSLO)),
            {"type": "PRICE_CAMPAIGN", "price": 1500, "end": "2026-12-31T23:30:59Z"},
        ),
        (
            PeriodCampaign(1500, Interval.WEEK, 31),
            {"type": "PERIOD_CAMPAIGN", "price": 1500, "period": {"unit": "WEEK", "count": 31}},
        ),
        (
            PeriodCampaign(1500, Interval.MONTH, 1),
            {"type": "PERIOD_CAMPAIGN", "price": 1500, "period": {"unit": "MONTH", "count": 1}},
        ),
        (
            EventCampaign(1500, datetime(2026, 12, 25, 1, tzinfo=OSLO), "until Christmas"),
            {
                "type": "EVENT_CAMPAIGN",
                "price": 1500,
                "eventDate": "2026-12-25T00:00:00Z",
                "eventText": "until Christmas",
            },
        ),
    ],
)
def test_a_campaign_is_one_of_three_and_ends_by_the_clock_of_vipps(
    vipps: VippsClient, campaign: object, body: dict[str, Any]
) -> None:
    assert draft_body(vipps, campaign=campaign)["campaign"] == body


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("a" * 45, 45, "a" * 45),
        ("a" * 46, 45, "a" * 44 + "…"),
        ("æøå" * 15, 45, "æøå" * 15),
        ("æøå" * 15 + "x", 45, "æøå" * 14 + "æø…"),
        (THUMBS * 45, 45, THUMBS * 45),
        (THUMBS * 46, 45, THUMBS * 44 + "…"),
        ("", 45, ""),
    ],
)
def test_a_text_is_cut_by_characters(text: str, limit: int, expected: str) -> None:
    assert cut(text, limit) == expected


@pytest.mark.parametrize("letter", ["a", "å", THUMBS])
def test_a_draft_keeps_within_the_lengths_of_vipps(vipps: VippsClient, letter: str) -> None:
    body = draft_body(vipps, product_name=letter * 46, description=letter * 101, initial=INITIAL)

    assert body["productName"] == body["initialCharge"]["description"] == letter * 44 + "…"
    assert body["productDescription"] == letter * 99 + "…"


def address(length: int) -> str:
    return "https://pay.example.com/".ljust(length, "a")


def test_addresses_and_names_of_the_longest_length_are_taken(vipps: VippsClient) -> None:
    longest = {"manage_url": address(1024), "redirect_url": address(2048), "external_id": "e" * 64}
    initial = InitialCharge(100, "n" * 64)

    body = draft_body(vipps, initial=initial, **longest)

    assert (len(body["merchantAgreementUrl"]), len(body["merchantRedirectUrl"])) == (1024, 2048)
    assert (len(body["externalId"]), len(body["initialCharge"]["orderId"])) == (64, 64)


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000", "LOCALHOST"])
def test_a_stand_in_on_this_machine_may_do_without_https(vipps: VippsClient, host: str) -> None:
    body = draft_body(vipps, manage_url=f"http://{host}/manage", redirect_url=f"http://{host}/return")

    assert body["merchantAgreementUrl"] == f"http://{host}/manage"


END = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"manage_url": "http://pay.example.com/"}, "merchantAgreementUrl must use https"),
        ({"manage_url": "http://localhost.example.com/"}, "merchantAgreementUrl must use https"),
        ({"manage_url": "http://127.0.0.2/"}, "merchantAgreementUrl must use https"),
        ({"manage_url": ""}, "merchantAgreementUrl must be an address"),
        ({"manage_url": "pay.example.com/manage"}, "merchantAgreementUrl must be an address"),
        ({"redirect_url": "http://pay.example.com/"}, "merchantRedirectUrl must use https"),
        ({"redirect_url": "myApp://home"}, "merchantRedirectUrl must use https"),  # we have no app
        ({"manage_url": address(1025)}, "merchantAgreementUrl must be at most 1024 characters"),
        ({"redirect_url": address(2049)}, "merchantRedirectUrl must be at most 2048 characters"),
        ({"external_id": ""}, "externalId must be 1 to 64 printable characters"),
        ({"external_id": "e" * 65}, "externalId must be 1 to 64 printable characters"),
        ({"external_id": "a\nb"}, "externalId must be 1 to 64 printable characters"),
        ({"initial": InitialCharge(100, "n" * 65)}, "initialCharge.orderId must be 1 to 64 letters, digits and dashes"),
        ({"initial": InitialCharge(100, "")}, "initialCharge.orderId must be 1 to 64 letters, digits and dashes"),
        ({"initial": InitialCharge(100, "a_b")}, "initialCharge.orderId must be 1 to 64 letters, digits and dashes"),
        ({"initial": InitialCharge(99, "a")}, "initialCharge.amount must be from 100 to 2000000"),
        ({"price": VariablePrice(99, "NOK")}, "pricing.suggestedMaxAmount must be from 100 to 2000000"),
        ({"campaign": PriceCampaign(99, END)}, "campaign.price must be from 100 to 2000000"),
        ({"campaign": PeriodCampaign(100, Interval.WEEK, 0)}, "interval.count must be from 1 to 31"),
        ({"campaign": PeriodCampaign(100, Interval.WEEK, 32)}, "interval.count must be from 1 to 31"),
        ({"campaign": EventCampaign(100, END, "until New Year's")}, "campaign.eventText must be 1 to 15 characters"),
        ({"campaign": EventCampaign(100, END, "")}, "campaign.eventText must be 1 to 15 characters"),
        (
            {"price": VariablePrice(9900, "NOK"), "campaign": PriceCampaign(100, END)},
            "campaign goes with a fixed price only",
        ),
        ({"price": FlexiblePrice("NOK"), "campaign": PriceCampaign(100, END)}, "campaign goes with a fixed price only"),
    ],
)
def test_a_draft_that_vipps_would_refuse_is_refused_here_by_name(
    vipps: VippsClient, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProviderRefused) as caught:
        vipps.draft_request(a_draft(**changes))

    assert caught.value.message.startswith(words)
    assert (caught.value.problem, caught.value.status) == (LOCAL, 0)


# Sources: agent-toolkit of 2026-08-21, in the currency's smallest unit.
LEAST_AND_MOST = [("NOK", 100, 2_000_000), ("DKK", 1, 30_000_000), ("EUR", 1, 200_000)]


@pytest.mark.parametrize(("currency", "least", "most"), LEAST_AND_MOST)
def test_each_currency_has_its_least_and_its_most(vipps: VippsClient, currency: str, least: int, most: int) -> None:
    for amount in (least, most):
        body = draft_body(vipps, price=FixedPrice(amount, currency), initial=InitialCharge(amount, "a"))

        assert body["pricing"]["amount"] == body["initialCharge"]["amount"] == amount
        assert vipps.fault_of(a_new_charge(amount=amount, currency=currency), TODAY) is None
    for amount in (least - 1, most + 1, 0, -1):
        with pytest.raises(ProviderRefused, match=rf"^pricing\.amount must be from {least} to {most} in {currency}"):
            vipps.draft_request(a_draft(price=FixedPrice(amount, currency)))


@pytest.mark.parametrize("currency", ["SEK", "nok", ""])
@pytest.mark.parametrize("kind", [FixedPrice, VariablePrice])
def test_a_currency_that_vipps_does_not_take_is_refused(vipps: VippsClient, kind: Any, currency: str) -> None:
    with pytest.raises(ProviderRefused, match="currency must be one of NOK, DKK, EUR"):
        vipps.draft_request(a_draft(price=kind(9900, currency)))


# Terms


@pytest.mark.parametrize(
    ("terms", "body"),
    [
        (Terms(price=FixedPrice(12900, "NOK")), {"pricing": {"amount": 12900}}),
        (Terms(price=VariablePrice(50000, "NOK")), {"pricing": {"suggestedMaxAmount": 50000}}),
        (Terms(product_name="N" * 46), {"productName": "N" * 44 + "…"}),
        (Terms(description="d" * 101), {"productDescription": "d" * 99 + "…"}),
        (Terms(manage_url="https://a.example/"), {"merchantAgreementUrl": "https://a.example/"}),
        (
            Terms(interval=Interval.YEAR),
            {"interval": {"type": "RECURRING", "period": {"unit": "YEAR", "count": 1}}},
        ),
        (
            Terms(price=FixedPrice(100, "NOK"), product_name="A", description="B"),
            {"productName": "A", "productDescription": "B", "pricing": {"amount": 100}},
        ),
    ],
)
def test_new_terms_say_what_changes_and_nothing_else(vipps: VippsClient, terms: Terms, body: dict[str, Any]) -> None:
    assert terms_body(vipps, terms) == body


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (Terms(), "agreement is asked to change in nothing"),
        (Terms(price=FixedPrice(99, "NOK")), "pricing.amount must be from 100"),
        (Terms(price=VariablePrice(2_000_001, "NOK")), "pricing.suggestedMaxAmount must be from 100"),
        (Terms(manage_url="http://pay.example.com/"), "merchantAgreementUrl must use https"),
        (Terms(manage_url=address(1025)), "merchantAgreementUrl must be at most 1024 characters"),
    ],
)
def test_terms_that_vipps_would_refuse_are_refused_here(vipps: VippsClient, terms: Terms, words: str) -> None:
    with pytest.raises(ProviderRefused, match=f"^{words}") as caught:
        vipps.terms_request(terms)

    assert caught.value.problem == LOCAL


def seen(vipps: VippsClient, fake_vipps: FakeVipps, **changes: Any) -> AgreementView:
    fake_vipps.on("GET", AGREEMENT, an_agreement(**changes))
    found = vipps.find_agreement("agr_1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("terms", "changes"),
    [
        (Terms(price=FixedPrice(12900, "NOK")), {"pricing": {"type": "LEGACY", "amount": 12900, "currency": "NOK"}}),
        (
            Terms(price=VariablePrice(50000, "NOK")),
            {"pricing": {"type": "VARIABLE", "suggestedMaxAmount": 50000, "maxAmount": 20000, "currency": "NOK"}},
        ),
        (Terms(product_name="Ny"), {"productName": "Ny"}),
        (Terms(product_name="N" * 46), {"productName": "N" * 44 + "…"}),
        (Terms(description="Ny"), {"productDescription": "Ny"}),
        (Terms(description=""), {"productDescription": None}),
    ],
)
def test_an_agreement_shows_its_new_terms_when_it_says_them(
    vipps: VippsClient, fake_vipps: FakeVipps, terms: Terms, changes: dict[str, Any]
) -> None:
    request = vipps.terms_request(terms)

    assert not vipps.shows(seen(vipps, fake_vipps), request)
    fake_vipps.forget()
    assert vipps.shows(seen(vipps, fake_vipps, **changes), request)


def test_an_agreement_that_shows_only_half_of_its_new_terms_does_not_show_them(
    vipps: VippsClient, fake_vipps: FakeVipps
) -> None:
    request = vipps.terms_request(Terms(price=FixedPrice(12900, "NOK"), product_name="Ny", description="Ny"))
    pricing = {"type": "LEGACY", "amount": 12900, "currency": "NOK"}

    halves = ({"productName": "Ny", "productDescription": "Ny"}, {"pricing": pricing}, {"productName": "Ny"})

    for half in halves:
        fake_vipps.forget()
        assert not vipps.shows(seen(vipps, fake_vipps, **half), request)


def test_what_nobody_sees_or_pays_is_not_waited_for(vipps: VippsClient) -> None:
    view = AgreementView("agr_1", None, AgreementStatus.ACTIVE, None, None)

    assert vipps.shows(view, vipps.terms_request(Terms(manage_url="https://a.example/", interval=Interval.WEEK)))


def test_a_variable_price_is_read_beside_an_amount_of_null(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    pricing = {"type": "VARIABLE", "amount": None, "suggestedMaxAmount": 50000, "currency": "NOK"}

    assert seen(vipps, fake_vipps, pricing=pricing).amount == 50000


# Charges


def test_a_batch_is_frozen_exactly(vipps: VippsClient) -> None:
    charges = [a_new_charge(description="Blåbær"), a_new_charge(name="b", description="x" * 46, is_reserved=True)]

    assert vipps.charges_request(charges) == (
        '[{"agreementId":"agr_1","orderId":"01JD3000000000000000000000-p0012-a0","amount":9900,'
        '"description":"Blåbær","transactionType":"DIRECT_CAPTURE","due":"2026-12-01","retryDays":5},'
        '{"agreementId":"agr_1","orderId":"b","amount":9900,'
        f'"description":"{"x" * 44}…","transactionType":"RESERVE_CAPTURE","due":"2026-12-01","retryDays":5}}]'
    )


def test_a_single_charge_is_frozen_exactly_and_its_agreement_stands_in_the_path(vipps: VippsClient) -> None:
    assert vipps.charge_request(a_new_charge(description="å" * 46, retry_days=0)) == (
        '{"orderId":"01JD3000000000000000000000-p0012-a0","amount":9900,'
        f'"description":"{"å" * 44}…","transactionType":"DIRECT_CAPTURE","due":"2026-12-01","retryDays":0}}'
    )


def test_a_batch_holds_at_most_two_thousand(vipps: VippsClient) -> None:
    charges = [a_new_charge()] * 2000

    assert len(json.loads(vipps.charges_request(charges))) == 2000
    with pytest.raises(ProviderRefused, match=r"^charges must be at most 2000$"):
        vipps.charges_request([*charges, a_new_charge()])


@pytest.mark.parametrize(
    ("charge", "fault"),
    [
        (a_new_charge(), None),
        (a_new_charge(name="n"), None),
        (a_new_charge(name="n" * 64), None),
        (a_new_charge(name=""), "orderId: must be 1 to 64 letters, digits and dashes"),
        (a_new_charge(name="n" * 65), "orderId: must be 1 to 64 letters, digits and dashes"),
        (a_new_charge(name="a_b"), "orderId: must be 1 to 64 letters, digits and dashes"),
        (a_new_charge(name="aå"), "orderId: must be 1 to 64 letters, digits and dashes"),
        (a_new_charge(name="a\n"), "orderId: must be 1 to 64 letters, digits and dashes"),
        (a_new_charge(name="٣"), "orderId: must be 1 to 64 letters, digits and dashes"),
        (a_new_charge(description=""), "description: must not be empty"),
        (a_new_charge(description="x" * 500), None),  # it is cut
        (a_new_charge(retry_days=0), None),
        (a_new_charge(retry_days=14), None),
        (a_new_charge(retry_days=-1), "retryDays: must be from 0 to 14"),
        (a_new_charge(retry_days=15), "retryDays: must be from 0 to 14"),
        (a_new_charge(due_on=TODAY), "due: must be tomorrow or later"),
        (a_new_charge(due_on=TODAY - timedelta(days=1)), "due: must be tomorrow or later"),
        (a_new_charge(due_on=TODAY + timedelta(days=1)), None),
        (a_new_charge(due_on=TODAY + timedelta(days=730)), None),
        (a_new_charge(due_on=TODAY + timedelta(days=731)), "due: must be within two years"),
        (a_new_charge(amount=99), "amount: must be from 100 to 2000000 in NOK's smallest unit"),
        (a_new_charge(amount=2_000_001), "amount: must be from 100 to 2000000 in NOK's smallest unit"),
        (a_new_charge(amount=0, currency="EUR"), "amount: must be from 1 to 200000 in EUR's smallest unit"),
        (a_new_charge(currency="SEK"), "amount: currency must be one of NOK, DKK, EUR"),
    ],
)
def test_a_charge_that_vipps_would_refuse_has_its_fault_named(
    vipps: VippsClient, charge: NewCharge, fault: str | None
) -> None:
    assert vipps.fault_of(charge, TODAY) == fault


# Money that is set aside, and money on its way back


def test_a_capture_is_frozen_exactly(vipps: VippsClient) -> None:
    assert vipps.capture_request(500) == '{"amount":500}'


def test_a_refund_is_frozen_exactly(vipps: VippsClient) -> None:
    request = vipps.refund_request(500, "å" * 101)

    assert request == f'{{"amount":500,"description":"{"å" * 99}…"}}'


# What the checks let through and Vipps does not


@pytest.mark.parametrize(
    "url", ["https://[", "https://", "https:pay.example.com", "https://a.example/\r\n", "https://a.example/a b"]
)
def test_what_is_no_address_is_refused_here(vipps: VippsClient, url: str) -> None:
    with pytest.raises(ProviderRefused, match=r"^merchantAgreementUrl"):
        vipps.draft_request(a_draft(manage_url=url))


def test_a_flexible_price_has_a_currency_that_vipps_takes(vipps: VippsClient) -> None:
    with pytest.raises(ProviderRefused, match="currency must be one of NOK, DKK, EUR"):
        vipps.draft_request(a_draft(price=FlexiblePrice("SEK")))


def test_a_text_that_vipps_wants_is_never_empty(vipps: VippsClient) -> None:
    with pytest.raises(ProviderRefused):
        vipps.draft_request(a_draft(product_name="", initial=INITIAL))


def test_a_refund_has_a_reason(vipps: VippsClient) -> None:
    with pytest.raises(ProviderRefused):
        vipps.refund_request(500, "")
