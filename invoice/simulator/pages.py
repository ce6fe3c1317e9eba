"""What a person sees: a phone with its texts and its Vipps, the page that asks for approval, and a start page.

A GET shows, only a POST acts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from sqlalchemy import delete
from werkzeug.wrappers import Response as BaseResponse

from invoice.simulator import agreements, phone_view
from invoice.simulator.accounts import DEMO_TWILIO, DEMO_UNIT
from invoice.simulator.act import Act
from invoice.simulator.answers import json_answer
from invoice.simulator.control_api import Wrong, act_for_person, is_msisdn, move_clock
from invoice.simulator.faults import CALLS, KINDS
from invoice.simulator.funds import MAGIC_NUMBERS, REFUND_REFUSED_AMOUNTS, REFUSED_AMOUNTS, UNKNOWN_FOR_AN_HOUR
from invoice.simulator.http import respond, world
from invoice.simulator.models import Agreement, AgreementStatus, Funds
from invoice.simulator.wording import clock_face, kroner, pretty_phone, weekday_date

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


@pages.app_template_global("clock_face")
def _clock_face() -> str:
    return clock_face(world().clock.now())


def _page(template: str, status: int = 200, *, form_action: str = "; form-action 'self'", **values: Any) -> Response:
    now = world().clock.now()
    html = render_template(
        f"simulator/{template}", now=now, today=weekday_date(now), kroner=kroner, pretty=pretty_phone, **values
    )
    response = make_response(html, status)
    response.headers["Content-Security-Policy"] = _POLICY + form_action
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _notice(status: int, heading: str, text: str) -> Response:
    return _page("notice.html", status, heading=heading, text=text)


def _for_phone(view: Callable[..., BaseResponse]) -> Callable[..., BaseResponse]:
    """Give the view a number without its plus; anything else is told apart."""

    @functools.wraps(view)
    def run(msisdn: str, **path: str) -> BaseResponse:
        if not is_msisdn(msisdn):
            return _notice(404, "Not a phone number", "Write it with its country, such as +4712345678.")
        return view(msisdn.lstrip("+"), **path)

    return run


@pages.get("/sim/")
def start() -> Response:
    """Show what this is, and everything that can be looked at."""
    with world().store.read() as session:
        act = Act(world(), session, world().clock.now())
        values: dict[str, Any] = {"phones": phone_view.phones(act), "agreements": phone_view.latest_agreements(act)}
    return _page(
        "start.html",
        unit=DEMO_UNIT,
        twilio=DEMO_TWILIO,
        refused=REFUSED_AMOUNTS,
        refund_refused=REFUND_REFUSED_AMOUNTS,
        unknown=UNKNOWN_FOR_AN_HOUR,
        numbers=MAGIC_NUMBERS,
        calls=CALLS,
        kinds=KINDS,
        switches=world().switchboard.as_dict(),
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
    return _page("phone.html", phone=view, steps=STEPS, busy="busy" in request.args)


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
        return _notice(400, "Not a step", f"step: must be one of {', '.join(STEPS)}")
    try:
        move_clock(dict(STEPS[label][1]))
    except Wrong:
        return redirect(url_for("pages.phone", msisdn=msisdn, busy=1), 303)
    return redirect(url_for("pages.phone", msisdn=msisdn), 303)


@pages.post("/sim/phone/<msisdn>/agreements/<agreement_id>/stop")
@_for_phone
def stop(msisdn: str, agreement_id: str) -> BaseResponse:
    """Let the person stop an agreement in the app, then show the phone again."""
    try:
        act_for_person(agreement_id, "stop")
    except Wrong as wrong:
        return _notice(wrong.status, "Avtalen kan ikke stoppes", "Den er ikke aktiv.")
    return redirect(url_for("pages.phone", msisdn=msisdn, _anchor="vipps"), 303)


@pages.post("/sim/phone/<msisdn>/funds")
@_for_phone
def set_funds(msisdn: str) -> BaseResponse:
    """Empty or fill the person's account, then show the phone again."""
    with world().store.write() as session:
        session.execute(delete(Funds).where(Funds.subject == msisdn))
        session.add(Funds(subject=msisdn, available=request.form.get("available") == "yes"))
    return redirect(url_for("pages.phone", msisdn=msisdn), 303)


_LANDING = "/dwo-api-application/v1/deeplink/vippsgateway"


@pages.get(_LANDING)
def landing() -> Response:
    """Show what the person is asked to agree to."""
    with world().store.read() as session:
        act = Act(world(), session, world().clock.now())
        agreement = _asked_agreement(act)
        if agreement is None:
            return _closed(None)
        if not agreements.is_open(act, agreement):
            return _closed(agreement)
        offer = phone_view.offer(agreement)
    return _page("landing.html", form_action="", offer=offer, unit=DEMO_UNIT)


def _asked_agreement(act: Act) -> Agreement | None:
    found = world().agreement_in_link(request.args.get("token", ""))
    return act.find_agreement(found) if found else None


_CLOSED = {
    AgreementStatus.ACTIVE: ("Allerede godkjent", "Denne avtalen er godkjent. Du finner den i Vipps."),
    AgreementStatus.STOPPED: ("Avtalen er avsluttet", "Denne forespørselen er avvist eller avsluttet."),
    AgreementStatus.EXPIRED: ("Forespørselen er utløpt", "Du kan gå tilbake til butikken og begynne på nytt."),
    AgreementStatus.PENDING: ("Forespørselen er utløpt", "Du kan gå tilbake til butikken og begynne på nytt."),
}


def _closed(agreement: Agreement | None) -> Response:
    if agreement is None:
        return _notice(410, "Lenken er ugyldig", "Vi kjenner ikke denne forespørselen.")
    return _notice(410, *_CLOSED[AgreementStatus(agreement.status)])


@pages.post(_LANDING)
def answer_landing() -> BaseResponse:
    """Do what the person chose; then back to the merchant, or not: nobody promises that people return."""
    action = request.form.get("action", "")
    phone_number = "".join(request.form.get("phone", "").split())
    if action not in ("approve", "reject", "approve-and-close", "close"):
        return _notice(400, "Ukjent valg", "Velg Godkjenn eller Avvis.")
    if phone_number and not is_msisdn(phone_number):
        return _notice(400, "Ugyldig telefonnummer", "Skriv det med landkode, for eksempel 4712345678.")
    with world().store.write() as session:
        act = Act(world(), session, world().clock.now())
        agreement = _asked_agreement(act)
        if agreement is None or not agreements.is_open(act, agreement):
            return _closed(agreement)
        if action == "reject":
            agreements.reject(act, agreement)
        elif action != "close":
            agreements.approve(act, agreement, phone=phone_number.lstrip("+") or None)
        status = AgreementStatus(agreement.status)
    world().new_work.set()
    if action in ("approve", "reject"):
        return redirect(agreement.redirect_url, 303)
    return _notice(200, *_AFTER_CLOSE[status])


_AFTER_CLOSE = {
    AgreementStatus.ACTIVE: ("Godkjent", "Avtalen er aktiv. Du gikk ikke tilbake til butikken."),
    AgreementStatus.PENDING: ("Du lukket Vipps", "Forespørselen venter fortsatt. Åpne lenken igjen for å svare."),
    AgreementStatus.EXPIRED: (
        "Betalingen gikk ikke gjennom",
        "Avtalen ble ikke opprettet. Du gikk ikke tilbake til butikken.",
    ),
}
