"""The pages and everybody else: other sites, previews that only look, texts that want to be more than texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from invoice.errors import ProviderRefused, ProviderUnavailable
from invoice.lifecycle import SubscriptionStatus
from invoice.names import charge_name, transaction_id
from invoice.services import partners
from invoice.services.jobs import Jobs, Services
from invoice.store.models import Subscription
from tests.conftest import StandingClock
from tests.factories import (
    a_wish,
    accept,
    an_active_subscription,
    newest_agreement,
    settle,
    subscription,
)
from tests.fakes import FakePayments
from tests.web.bad_bodies import everything, what_is_wrong_with
from tests.web.visiting import a_request, link, manage, returning, words

pytestmark = pytest.mark.usefixtures("as_in_production", "the_usual_partner")


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
