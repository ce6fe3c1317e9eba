"""The pages behind the texted link: what a person sees and presses, and that looking changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from invoice.errors import ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, SubscriptionStatus
from invoice.names import charge_name, transaction_id
from invoice.services import partners
from invoice.services.jobs import Jobs, Services
from invoice.store.models import Subscription
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    agreements,
    an_active_subscription,
    event_types,
    newest_agreement,
    settle,
    subscription,
    the_partner,
)
from tests.fakes import FakePayments
from tests.web.bad_bodies import everything, what_is_wrong_with

HOST = "https://pay.example.com"
LANDING = "https://api.vipps.no/landing/"


@pytest.fixture(autouse=True)
def _as_in_production(app: Flask) -> None:
    """An exception that nobody catches is an answer, not the end of the test."""
    app.testing = False


@pytest.fixture(autouse=True)
def _a_partner(app: Flask) -> None:
    a_partner()


def a_request(services: Services, **changes: Any) -> Subscription:
    return subscription(services.subscriptions.request(the_partner(), a_wish(**changes)).subscription_id)


def link(sub: Subscription) -> str:
    return f"/s/{sub.link_token}"


def process(sub: Subscription, partner_id: int = 10295) -> str:
    return f"/api/recurring/process/{partner_id}/{sub.link_token}"


def returning(sub: Subscription, partner_id: int = 10295) -> str:
    return f"/api/recurring/return/{partner_id}/{newest_agreement(sub.id).return_id}"


def manage(sub: Subscription) -> str:
    return f"/manage/{sub.manage_token}"


def words(answer: TestResponse) -> str:
    """Return what a person reads."""
    text = re.sub(r"<(style|script|head)\b.*?</\1>", " ", answer.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


# The offer


def test_the_offer_shows_who_what_and_the_price_on_one_button(client: FlaskClient, services: Services):
    sub = a_request(services)

    answer = client.get(link(sub))

    assert answer.status_code == 200
    assert "Partner 10295" in words(answer)
    assert "Avisen hver dag" in words(answer)
    assert re.findall(r"<button[^>]*>\s*(.*?)\s*</button>", answer.text) == ["Abonner og betal 99 kr i måneden"]
    assert re.findall(r"<form[^>]*>", answer.text) == [f'<form method="post" action="{link(sub)}">']


def test_the_button_of_a_campaign_carries_both_prices(client: FlaskClient, services: Services):
    sub = a_request(services, campaign_amount=1000)

    (button,) = re.findall(r"<button[^>]*>\s*(.*?)\s*</button>", client.get(link(sub)).text)

    assert "10 kr" in button
    assert "99 kr i måneden" in button


def test_the_offer_speaks_the_browsers_language(client: FlaskClient, services: Services):
    sub = a_request(services)

    answer = client.get(link(sub), headers={"Accept-Language": "sv-SE, en;q=0.5"})

    assert '<html lang="sv">' in answer.text


def test_a_notice_shows_only_known_words(client: FlaskClient, services: Services):
    sub = a_request(services)

    forged = client.get(link(sub) + "?notice=<script>alert(1)</script>")
    known = client.get(link(sub) + "?notice=try_again")

    assert 'role="alert"' not in forged.text
    assert "alert(1)" not in forged.text
    assert 'role="alert"' in known.text


def test_an_unknown_link_is_a_404_page(client: FlaskClient):
    answers = [client.open(f"/s/{'A' * 22}", method=method) for method in ("GET", "POST")]

    assert [a.status_code for a in answers] == [404, 404]
    assert all(a.mimetype == "text/html" and "Vi kjenner ikke denne lenken" in words(a) for a in answers)


def test_a_link_works_for_fourteen_days_and_then_says_410(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    sub = a_request(services)
    time.move(days=14, seconds=-1)
    last = client.get(link(sub))
    time.move(seconds=1)

    answers = [client.get(link(sub)), client.post(link(sub)), client.get(process(sub))]

    assert last.status_code == 200
    assert [a.status_code for a in answers] == [410, 410, 410]
    assert payments.calls == ["draft"]


def test_the_link_of_an_active_subscription_says_409(client: FlaskClient, services: Services, payments: FakePayments):
    sub = subscription(an_active_subscription(services, payments))
    calls = list(payments.calls)

    answers = [client.get(link(sub)), client.post(link(sub)), client.get(process(sub))]

    assert [a.status_code for a in answers] == [409, 409, 409]
    assert "<form" not in answers[0].text
    assert payments.calls == calls


@pytest.mark.parametrize("is_done", [False, True])
def test_the_link_of_a_cancelled_subscription_says_410(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, is_done: bool
):
    sub = subscription(an_active_subscription(services, payments))
    services.subscriptions.cancel(sub.id)
    if is_done:
        settle(jobs)
    calls = list(payments.calls)

    answers = [client.get(link(sub)), client.post(link(sub)), client.get(process(sub))]

    assert [a.status_code for a in answers] == [410, 410, 410]
    assert payments.calls == calls


# The press of the button


def test_a_press_hands_the_fresh_draft_out_without_asking_vipps(
    client: FlaskClient, services: Services, payments: FakePayments
):
    sub = a_request(services)

    answer = client.post(link(sub))

    assert answer.status_code == 303
    assert answer.location == LANDING + "agr_1"
    assert payments.calls == ["draft"]


def test_a_second_press_verifies_the_draft_and_hands_it_out_again(
    client: FlaskClient, services: Services, payments: FakePayments
):
    sub = a_request(services)
    first = client.post(link(sub))

    second = client.post(link(sub))

    assert second.status_code == 303
    assert second.location == first.location
    assert payments.calls == ["draft", "find_agreement"]


def test_a_second_press_drafts_anew_when_the_first_was_turned_down(
    client: FlaskClient, services: Services, payments: FakePayments
):
    sub = a_request(services)
    client.post(link(sub))
    payments.end("agr_1")

    second = client.post(link(sub))

    assert second.location == LANDING + "agr_2"
    assert [a.status for a in agreements(sub.id)] == [AgreementStatus.STOPPED, AgreementStatus.PENDING]


def test_a_second_press_after_the_person_accepted_says_so(
    client: FlaskClient, services: Services, payments: FakePayments
):
    sub = a_request(services)
    client.post(link(sub))
    payments.accept("agr_1")

    second = client.post(link(sub))

    assert second.status_code == 409
    assert subscription(sub.id).status == SubscriptionStatus.ACTIVE
    assert payments.calls.count("draft") == 1


def test_a_second_press_goes_back_to_the_offer_while_vipps_cannot_say(
    client: FlaskClient, services: Services, payments: FakePayments
):
    sub = a_request(services)
    client.post(link(sub))
    payments.faults.before("find_agreement", ProviderUnavailable())

    second = client.post(link(sub))

    assert (second.status_code, second.location) == (303, f"{link(sub)}?notice=try_again")
    assert payments.calls.count("draft") == 1


@pytest.mark.parametrize("minutes", [4, 5, 60 * 24])
def test_a_press_after_the_draft_grew_old_drafts_anew(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock, minutes: int
):
    sub = a_request(services)
    time.move(minutes=minutes)

    answer = client.post(link(sub))

    assert (answer.status_code, answer.location) == (303, LANDING + "agr_2")
    assert payments.calls == ["draft", "find_agreement", "draft"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [ProviderUnavailable, ProviderUncertain])
def test_when_vipps_does_not_answer_a_press_leads_back_and_a_later_one_works(
    client: FlaskClient,
    services: Services,
    payments: FakePayments,
    time: StandingClock,
    when: str,
    error: type[Exception],
):
    sub = a_request(services)
    time.move(minutes=5)
    getattr(payments.faults, when)("draft", error())

    first = client.post(link(sub))
    page = client.get(first.location)
    later = client.post(link(sub))

    assert (first.status_code, first.location) == (303, f"{link(sub)}?notice=try_again")
    assert page.status_code == 200
    assert "Vipps svarer ikke akkurat nå" in words(page)
    assert "<form" in page.text
    assert (later.status_code, later.location) == (303, LANDING + payments.newest())


def test_when_vipps_refuses_a_press_leads_back_with_the_merchant_to_ask(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    sub = a_request(services)
    time.move(minutes=5)
    payments.faults.before("draft", ProviderRefused("sales unit 123456 is closed"))

    answer = client.post(link(sub))
    page = client.get(answer.location)

    assert (answer.status_code, answer.location) == (303, f"{link(sub)}?notice=refused")
    assert "Vipps sa nei" in words(page)
    assert "123456" not in page.text
    assert subscription(sub.id).status == SubscriptionStatus.PENDING


# The process link of the answer


def test_the_process_link_leads_to_vipps_while_the_draft_is_fresh_and_then_to_the_offer(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    sub = a_request(services)
    fresh = client.get(process(sub))
    time.move(minutes=4)

    old = client.get(process(sub))

    assert (fresh.status_code, fresh.location) == (302, LANDING + "agr_1")
    assert old.status_code == 200
    assert f'action="{link(sub)}"' in old.text
    assert payments.calls == ["draft"]


def test_another_partners_id_in_a_link_looks_like_an_unknown_link(client: FlaskClient, services: Services):
    a_partner(20000)
    sub = a_request(services)
    foreign = [process(sub, 20000), returning(sub, 20000)]
    unknown = ["/api/recurring/process/10295/" + "A" * 22, "/api/recurring/return/10295/" + "A" * 22]

    answers = [client.get(path) for path in foreign + unknown] + [client.post(foreign[1]), client.post(unknown[1])]

    assert {a.status_code for a in answers} == {404}
    assert len({a.data for a in answers}) == 1


# The way back


def test_coming_back_waits_for_vipps_and_never_believes_the_browser(
    client: FlaskClient, services: Services, payments: FakePayments
):
    sub = a_request(services)

    answer = client.get(returning(sub) + "?status=ACTIVE")

    assert answer.status_code == 200
    assert f'data-poll-url="{returning(sub)}"' in answer.text
    assert subscription(sub.id).status == SubscriptionStatus.PENDING
    assert payments.calls == ["draft"]


def test_a_ring_looks_and_the_page_tells_what_became_of_it(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    sub = a_request(services)
    before = client.post(returning(sub))
    payments.accept("agr_1")
    time.move(seconds=2)

    after = client.post(returning(sub))
    page = client.get(returning(sub))

    assert (before.json, after.json) == ({"state": "waiting"}, {"state": "done"})
    assert "Abonnementet er i gang" in words(page)
    assert f'href="{manage(sub)}"' in page.text
    assert "data-poll-url" not in page.text
    assert subscription(sub.id).status == SubscriptionStatus.ACTIVE


def test_many_rings_are_one_look_in_two_seconds(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    sub = a_request(services)

    states = [client.post(returning(sub)).json["state"] for _ in range(10)]
    time.move(seconds=2)
    client.post(returning(sub))

    assert set(states) == {"waiting"}
    assert payments.calls.count("find_agreement") == 2


def test_a_ring_while_vipps_is_down_goes_on_waiting(client: FlaskClient, services: Services, payments: FakePayments):
    sub = a_request(services)
    payments.faults.before("find_agreement", ProviderUnavailable())

    answer = client.post(returning(sub))

    assert (answer.status_code, answer.json) == (200, {"state": "waiting"})


@pytest.mark.parametrize("status", [AgreementStatus.STOPPED, AgreementStatus.EXPIRED])
def test_who_did_not_accept_can_begin_again(
    client: FlaskClient, services: Services, payments: FakePayments, status: AgreementStatus
):
    sub = a_request(services)
    payments.end("agr_1", status)

    done = client.post(returning(sub))
    page = client.get(returning(sub))

    assert done.json == {"state": "done"}
    assert f'href="{link(sub)}"' in page.text
    assert manage(sub) not in page.text


# The page of one's own subscription


def test_the_manage_page_shows_the_subscription_to_who_has_its_token(
    client: FlaskClient, services: Services, payments: FakePayments
):
    sub = subscription(an_active_subscription(services, payments))

    answers = [client.get(manage(sub) + query) for query in ("", f"?recurring={sub.id}", f"?recurring={sub.id}&a=b")]

    assert [a.status_code for a in answers] == [200, 200, 200]
    assert "10. desember 2026" in words(answers[0])
    assert f'href="{manage(sub)}/stop"' in answers[0].text


def test_another_number_beside_the_token_opens_nothing(client: FlaskClient, services: Services):
    sub = a_request(services)
    other = a_request(services)

    answers = {
        given: client.get(f"{manage(sub)}?recurring={given}").status_code
        for given in (other.id, "", "x", "0", "-1", "01", "１", "%00", "9" * 30, f"{sub.id}&recurring={other.id}")
    }

    assert set(answers.values()) == {404}, answers


def test_the_number_alone_opens_nothing(client: FlaskClient, services: Services):
    sub = a_request(services)

    answers = [client.get(path) for path in (f"/manage/{sub.id}", f"/manage?recurring={sub.id}", f"/s/{sub.id}")]

    assert [a.status_code for a in answers] == [404, 404, 404]


def test_a_texted_link_does_not_open_the_manage_page_nor_the_other_way(client: FlaskClient, services: Services):
    sub = a_request(services)

    answers = [client.get(f"/manage/{sub.link_token}"), client.get(f"/s/{sub.manage_token}")]

    assert [a.status_code for a in answers] == [404, 404]


def test_stopping_asks_first_and_then_stops_once(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    sub = subscription(an_active_subscription(services, payments))

    asked = client.get(f"{manage(sub)}/stop")
    untouched = subscription(sub.id).status
    pressed = [client.post(f"{manage(sub)}/stop"), client.post(f"{manage(sub)}/stop")]
    settle(jobs)

    assert asked.status_code == 200
    assert f'<form method="post" action="{manage(sub)}/stop">' in asked.text
    assert untouched == SubscriptionStatus.ACTIVE
    assert [(a.status_code, a.location) for a in pressed] == [(303, manage(sub))] * 2
    assert subscription(sub.id).status == SubscriptionStatus.CANCELLED
    assert event_types(sub.id).count("subscription.cancelling") == 1
    assert payments.calls.count("stop") == 1


def test_what_is_over_cannot_be_stopped_again(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    sub = subscription(an_active_subscription(services, payments))
    client.post(f"{manage(sub)}/stop")
    settle(jobs)
    before = everything()

    page = client.get(manage(sub))
    asked = client.get(f"{manage(sub)}/stop")
    pressed = client.post(f"{manage(sub)}/stop")

    assert f"{manage(sub)}/stop" not in page.text
    assert (asked.status_code, asked.location) == (303, manage(sub))
    assert (pressed.status_code, pressed.location) == (303, manage(sub))
    assert everything() == before


# Other sites, previews, hostile texts


def test_a_form_of_another_site_does_nothing(client: FlaskClient, services: Services, payments: FakePayments):
    sub = subscription(an_active_subscription(services, payments))
    waiting = a_request(services)
    before, calls = everything(), list(payments.calls)

    answers = {
        (path, site): client.post(path, headers={"Sec-Fetch-Site": site})
        for path in (link(waiting), returning(waiting), f"{manage(sub)}/stop", f"/s/{'A' * 22}")
        for site in ("cross-site", "same-site", "Cross-Site", "x", "")
    }

    assert {k: a.status_code for k, a in answers.items() if a.status_code != 403} == {}
    assert everything() == before
    assert payments.calls == calls


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_form_works_in_browsers_that_say_where_it_comes_from(
    client: FlaskClient, services: Services, site: str
):
    sub = a_request(services)

    answer = client.post(link(sub), headers={"Sec-Fetch-Site": site, "Origin": "null"})

    assert answer.status_code == 303


def _in_every_state(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
) -> dict[str, Subscription]:
    """Return one subscription for each state that a link can be opened in."""
    subs: dict[str, Subscription] = {}

    def make(name: str, do: Callable[[Subscription, str], None] | None = None, **changes: Any) -> None:
        subs[name] = a_request(services, order_number=name, **changes)
        if do:
            do(subs[name], payments.newest())

    def opened(sub: Subscription, _: str) -> None:
        services.consents.open(sub.link_token)

    def accepted(sub: Subscription, _: str) -> None:
        accept(services, payments, sub.id)

    def cancelled(sub: Subscription, _: str) -> None:
        accept(services, payments, sub.id)
        services.subscriptions.cancel(sub.id)

    def ended(sub: Subscription, agreement: str) -> None:
        payments.end(agreement)
        services.consents.refresh(newest_agreement(sub.id).id)

    def stopped(sub: Subscription, agreement: str) -> None:
        accept(services, payments, sub.id)
        ended(sub, agreement)

    make("run out", ended)
    time.move(days=15)
    settle(jobs)
    make("old draft")
    payments.faults.before("draft", ProviderUnavailable())
    make("lost draft")
    payments.faults.before("draft", ProviderRefused("no"))
    with pytest.raises(ProviderRefused):
        make("refused")
    make("cancelled", cancelled)
    settle(jobs)
    time.move(minutes=5)
    make("fresh draft", send_sms=True)
    make("handed out", opened)
    make("turned down", ended)
    make("active", accepted)
    make("stopped in the app", stopped)
    make("being cancelled", cancelled)
    return {name: subscription(sub.id) for name, sub in subs.items()}


def _addresses(app: Flask, sub: Subscription) -> list[str]:
    """Return every address that GET is listed for, filled with what belongs to one subscription."""
    transaction = {"partner_id": 10295, "transaction_id": transaction_id(charge_name(sub.ulid, 0, 0))}
    fill: dict[str, dict[str, Any]] = {
        "static": {"filename": "site.css"},
        "pages.show_offer": {"token": sub.link_token},
        "pages.process": {"partner_id": 10295, "token": sub.link_token},
        "pages.come_back": {"partner_id": 10295, "return_id": newest_agreement(sub.id).return_id},
        "pages.manage": {"token": sub.manage_token},
        "pages.ask_to_stop": {"token": sub.manage_token},
        "mobile_invoice.list_subscriptions": {"partner_id": 10295, "payment_type_id": "5", "since": "2026-11-10"},
        "events.get_event": {"event_id": "evt_1"},
        "transactions.get_transaction": transaction,
        "transactions.list_transactions": {"partner_id": 10295},
        "transactions.list_of_subscription": {"partner_id": 10295, "recurring_payment_id": sub.id},
    }
    adapter = app.url_map.bind("pay.example.com", url_scheme="https")
    listed = {rule.endpoint for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())}
    return [adapter.build(endpoint, fill.get(endpoint)) for endpoint in sorted(listed)]


_LOOKERS = (
    {},
    {"Sec-Purpose": "prefetch", "Purpose": "prefetch"},
    {"User-Agent": "WhatsApp/2.23", "Sec-Fetch-Site": "cross-site"},
    {"User-Agent": "facebookexternalhit/1.1", "Range": "bytes=0-99"},
)


def test_looking_at_any_address_in_any_state_changes_nothing(
    app: Flask, client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    subs = _in_every_state(services, payments, jobs, time)
    states = {s.status for s in subs.values()}
    before, calls = everything(), list(payments.calls)
    problems = []

    for name, sub in subs.items():
        for address in _addresses(app, sub):
            for headers in _LOOKERS:
                for method in ("GET", "HEAD"):
                    answer = client.open(address, method=method, headers=headers)
                    if (wrong := what_is_wrong_with(answer)) and address != "/readyz":
                        problems.append(f"{name}: {method} {address}: {wrong}")
                    answer.close()
        if everything() != before or payments.calls != calls:
            problems.append(f"{name}: something changed")
            before, calls = everything(), list(payments.calls)

    assert not problems, "\n".join(problems)
    assert states == set(SubscriptionStatus) - {SubscriptionStatus.REFUSED}


def test_the_number_of_the_phone_stands_on_no_page(
    app: Flask, client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    subs = _in_every_state(services, payments, jobs, time)

    shown = [
        f"{name}: {address}"
        for name, sub in subs.items()
        for address in _addresses(app, sub)
        # These say nothing of anybody; the number of the documented example is as good as any.
        if not address.startswith(("/static", "/docs", "/openapi.json"))
        if re.search(r"9\s*1\s*2\s*3\s*4\s*5\s*6\s*7", client.get(address).text)
    ]

    assert shown == []


_HOSTILE = "<svg onload=alert(1)>{{7*7}}{% raw %}\"'&%(x)s%s</script>"


def test_hostile_texts_of_a_partner_are_only_texts(
    app: Flask, client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partners.add(30000, _HOSTILE, sms_originator="2119", secret="hostile")
    partner = partners.get(30000)
    shown = []

    def wish() -> Subscription:
        made = services.subscriptions.request(partner, a_wish(name=_HOSTILE, description=_HOSTILE, send_sms=True))
        return subscription(made.subscription_id)

    offered = wish()
    shown += [client.get(link(offered)), client.get(link(offered) + "?notice=refused")]
    shown += [client.get(returning(offered, 30000)), client.get(manage(offered))]
    payments.end("agr_1")
    client.post(returning(offered, 30000))
    shown += [client.get(returning(offered, 30000))]
    active = wish()
    accept(services, payments, active.id)
    shown += [client.get(a) for a in (link(active), returning(active, 30000), manage(active))]
    shown += [client.get(f"{manage(active)}/stop")]
    client.post(f"{manage(active)}/stop")
    shown += [client.get(a) for a in (link(active), returning(active, 30000), manage(active))]
    time.move(days=15)
    shown += [client.get(link(offered))]

    problems = [
        f"{number}: {answer.status_code}"
        for number, answer in enumerate(shown)
        if answer.status_code >= 500
        or "<svg onload" in answer.text
        or "49" in words(answer)
        or "</script></" in answer.text
        or _HOSTILE not in words(answer)
    ]
    assert problems == []


def test_letters_that_turn_the_reading_order_never_reach_a_page(client: FlaskClient, services: Services):
    sub = a_request(services, name="Avisen\u202egnp\u2066", description="a\u200fb")

    text = client.get(link(sub)).text + client.get(manage(sub)).text

    assert not re.search("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)
