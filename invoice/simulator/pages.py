"""What a person sees: a phone with its texts and its Vipps, and a start page. A GET shows, only a POST acts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from sqlalchemy import delete
from werkzeug.wrappers import Response as BaseResponse

from invoice.simulator import phone_view, signing
from invoice.simulator.accounts import DEMO_TWILIO, UNITS
from invoice.simulator.act import Act
from invoice.simulator.answers import json_answer
from invoice.simulator.control_api import Said, Wrong, act_for_person, delete_profiles, is_msisdn, move_clock
from invoice.simulator.faults import CALLS, KINDS
from invoice.simulator.funds import (
    MAGIC_NUMBERS,
    ONLY_IN_NORWAY,
    REFUND_REFUSED_AMOUNTS,
    REFUSED_AMOUNTS,
    UNKNOWN_FOR_AN_HOUR,
)
from invoice.simulator.hooks_api import PROBES
from invoice.simulator.http import respond, world
from invoice.simulator.market import MARKETS, Market
from invoice.simulator.models import Funds
from invoice.simulator.switches import MEANINGS
from invoice.simulator.wording import clock_face, pretty_phone, read_money, weekday_date

pages = Blueprint("pages", __name__)

# The landing page's form ends with a redirect to the merchant, wherever that is; browsers hold form-action against
# redirects, too, so it has none.
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; frame-ancestors 'none'"
)

STEPS = {
    "hour": ("+1 hour", {"hours": 1}),
    "day": ("+1 day", {"days": 1}),
    "week": ("+1 week", {"weeks": 1}),
    "month": ("+1 month", {"months": 1}),
}


def page(template: str, status: int = 200, *, form_action: str = "; form-action 'self'", **values: Any) -> Response:
    now = world().clock.now()
    here: Market = values.pop("market", MARKETS["NO"])
    shown = {
        "now": now,
        "today": weekday_date(now, here),
        "face": clock_face(now, here),
        "zone": here.zone.key,
        "pretty": pretty_phone,
    }
    html = render_template(f"simulator/{template}", **shown, **values)
    response = make_response(html, status)
    response.headers["Content-Security-Policy"] = _POLICY + form_action
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def notice(status: int, heading: str, text: str) -> Response:
    return page("notice.html", status, heading=heading, text=text)


def _for_phone(view: Callable[..., BaseResponse]) -> Callable[..., BaseResponse]:
    """Give the view a number without its plus; anything else is told apart."""

    @functools.wraps(view)
    def run(msisdn: str, **path: str) -> BaseResponse:
        if not is_msisdn(msisdn):
            return notice(404, "Not a phone number", "Write it with its country, such as +4712345678.")
        return view(msisdn.lstrip("+"), **path)

    return run


@pages.get("/sim/")
def start() -> Response:
    """Show what this is, and everything that can be looked at."""
    with world().store.read() as session:
        act = Act(world(), session, world().clock.now())
        values: dict[str, Any] = {"phones": phone_view.phones(act), "agreements": phone_view.latest_agreements(act)}
    return page(
        "start.html",
        units=UNITS.values(),
        twilio=DEMO_TWILIO,
        refused=REFUSED_AMOUNTS,
        refund_refused=REFUND_REFUSED_AMOUNTS,
        unknown=UNKNOWN_FOR_AN_HOUR,
        numbers=MAGIC_NUMBERS,
        probes=PROBES,
        calls=CALLS,
        kinds=KINDS,
        switches=world().switchboard.as_dict(),
        meanings=MEANINGS,
        only_in_norway=ONLY_IN_NORWAY,
        signature=signing.example_headers()["Authorization"].endswith(signing.EXAMPLE["signature"]),
        **values,
    )


@pages.get("/sim/phone/")
def choose_phone() -> BaseResponse:
    """Go to the phone that was typed into the start page."""
    number = "".join(request.args.get("number", "").split())
    return redirect(url_for("pages.phone", msisdn=number) if is_msisdn(number) else url_for("pages.start"), 303)


@pages.get("/sim/phone/<msisdn>")
@_for_phone
def phone(msisdn: str) -> BaseResponse:
    """Show a phone."""
    with world().store.read() as session:
        act = Act(world(), session, world().clock.now())
        view = phone_view.phone(act, msisdn)
    return page("phone.html", market=view.market, phone=view, steps=STEPS, busy="busy" in request.args)


@pages.get("/sim/phone/<msisdn>/version")
@_for_phone
def phone_version(msisdn: str) -> BaseResponse:
    """Say what the phone shows, in a word, so that a page that is open can notice a change."""
    with world().store.read() as session:
        act = Act(world(), session, world().clock.now())
        return respond(json_answer(200, {"version": phone_view.phone(act, msisdn).version, "now": act.now.isoformat()}))


@pages.post("/sim/phone/<msisdn>/clock")
@_for_phone
def move(msisdn: str) -> BaseResponse:
    """Move the clock, then show the phone again."""
    label = request.form.get("step", "")
    if label not in STEPS:
        return notice(400, "Not a step", f"step: must be one of {', '.join(STEPS)}")
    try:
        move_clock(dict(STEPS[label][1]))
    except Wrong:
        return redirect(url_for("pages.phone", msisdn=msisdn, busy=1), 303)
    return redirect(url_for("pages.phone", msisdn=msisdn), 303)


@pages.post("/sim/phone/<msisdn>/agreements/<agreement_id>/<decision>")
@_for_phone
def decide(msisdn: str, agreement_id: str, decision: str) -> BaseResponse:
    """Let the person approve, reject, stop or change an agreement in the app, then show the phone again."""
    if decision not in _IN_THE_APP:
        return notice(404, "Ukjent valg", "Appen har ikke denne knappen.")
    try:
        amount = asked_max_amount()
        act_for_person(agreement_id, decision, Said(msisdn if decision == "approve" else None, amount))
    except Wrong as wrong:
        return notice(wrong.status, *_IN_THE_APP[decision])
    return redirect(url_for("pages.phone", msisdn=msisdn, _anchor="vipps"), 303)


# decision -> what is said if it cannot be
_IN_THE_APP = {
    "approve": ("Avtalen kan ikke godkjennes", "Forespørselen er besvart eller utløpt, eller beløpet er ugyldig."),
    "reject": ("Avtalen kan ikke avvises", "Forespørselen er besvart eller utløpt."),
    "stop": ("Avtalen kan ikke stoppes", "Den er ikke aktiv."),
    "max-amount": ("Beløpsgrensen kan ikke endres", "Avtalen er ikke aktiv, eller beløpet er ugyldig."),
}


def asked_max_amount() -> int | None:
    """Return the limit that the person wrote into a form, or None where there is no such field. Raises Wrong."""
    text = request.form.get("max_amount")
    amount = read_money(text) if text else None
    if text and amount is None:
        raise Wrong(400, "max_amount: is not an amount")
    return amount


@pages.post("/sim/phone/<msisdn>/delete-profile")
@_for_phone
def leave(msisdn: str) -> BaseResponse:
    """Let the person delete the profile, then show the phone again."""
    delete_profiles(msisdn)
    return redirect(url_for("pages.phone", msisdn=msisdn), 303)


@pages.post("/sim/phone/<msisdn>/funds")
@_for_phone
def set_funds(msisdn: str) -> BaseResponse:
    """Empty or fill the person's account, then show the phone again."""
    with world().store.write() as session:
        session.execute(delete(Funds).where(Funds.subject == msisdn))
        session.add(Funds(subject=msisdn, available=request.form.get("available") == "yes"))
    return redirect(url_for("pages.phone", msisdn=msisdn), 303)
