"""The pages behind the texted link: what a person sees and presses, and that looking changes nothing."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from invoice.errors import ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    agreements,
    an_active_subscription,
    event_types,
    settle,
    subscription,
)
from tests.fakes import FakePayments
from tests.web.bad_bodies import everything
from tests.web.visiting import LANDING, a_request, link, manage, process, returning, words

pytestmark = pytest.mark.usefixtures("as_in_production", "the_usual_partner")

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
