"""The page to which a confirmation URL leads: in the browser, before the app. Going back from it calls it off."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from invoice.simulator import agreements, ids, phone_view
from invoice.simulator.act import Act
from invoice.simulator.answers import json_answer
from invoice.simulator.control_api import Said, Wrong, approve, is_msisdn
from invoice.simulator.http import respond, world
from invoice.simulator.models import Agreement, AgreementStatus
from invoice.simulator.pages import asked_max_amount, notice, page
from invoice.simulator.world import LANDING_PATH

landing = Blueprint("landing", __name__)

_BROWSER = "simulator_browser"  # a cookie: which browser opened the link
_APPROVES = ("approve", "approve-and-close")
# Going back calls the request off, as "reject" does. Source: technical update, 2024-11.
_REJECTS = ("reject", "back")
_RETURNS = ("approve", *_REJECTS)
_ACTIONS = (*_APPROVES, *_REJECTS, "wait", "close")

_CLOSED = {
    AgreementStatus.ACTIVE: ("Allerede godkjent", "Denne avtalen er godkjent. Du finner den i appen."),
    AgreementStatus.STOPPED: ("Avtalen er avsluttet", "Denne forespørselen er avvist eller avsluttet."),
    AgreementStatus.EXPIRED: ("Forespørselen er utløpt", "Du kan gå tilbake til butikken og begynne på nytt."),
    AgreementStatus.PENDING: ("Forespørselen er utløpt", "Du kan gå tilbake til butikken og begynne på nytt."),
}
_AFTER = {
    AgreementStatus.ACTIVE: ("Godkjent", "Avtalen er aktiv. Du gikk ikke tilbake til butikken."),
    AgreementStatus.PENDING: ("Du lukket siden", "Forespørselen venter fortsatt. Svar i appen."),
    AgreementStatus.STOPPED: ("Avvist", "Avtalen ble ikke opprettet. Du gikk ikke tilbake til butikken."),
    AgreementStatus.EXPIRED: (
        "Betalingen gikk ikke gjennom",
        "Avtalen ble ikke opprettet. Du gikk ikke tilbake til butikken.",
    ),
}


@landing.get(LANDING_PATH)
def show() -> BaseResponse:
    """Show what the person is asked to agree to; or, after `wait`, that the answer is awaited in the app."""
    is_waiting = "waiting" in request.args
    with world().store.read() as session:
        act = Act(world(), session, world().clock.now())
        agreement = _asked_agreement(act)
        if agreement and is_waiting and not agreements.is_open(act, agreement):
            return _back_to_merchant(agreement)
        if agreement is None or not agreements.is_open(act, agreement):
            return _closed(agreement)
        offer = phone_view.offer(act, agreement)
    template = "waiting.html" if is_waiting else "landing.html"
    response = page(template, form_action="", market=agreement.market, offer=offer, token=request.args["token"])
    if world().switchboard.values.link_opens_once and request.method == "GET":
        return _open_once(agreement.id, response)
    return response


def _open_once(agreement_id: str, response: Response) -> Response:
    """Let the first browser have the page; a second one calls the request off."""
    browser = request.cookies.get(_BROWSER) or ids.new_uuid()
    with world().store.write() as session:
        act = Act(world(), session, world().clock.now())
        agreement = act.find_agreement(agreement_id)
        assert agreement is not None  # it has just been shown
        agreement.opened_by = agreement.opened_by or browser
        if agreement.opened_by != browser and agreements.is_open(act, agreement):
            agreements.reject(act, agreement)
            response = _closed(agreement)
    world().new_work.set()
    response.set_cookie(_BROWSER, browser, httponly=True, samesite="Lax")
    return response


@landing.get(f"{LANDING_PATH}/version")
def version() -> Response:
    """Say whether the answer is still awaited, so that an open page can notice when it has come."""
    with world().store.read() as session:
        act = Act(world(), session, world().clock.now())
        agreement = _asked_agreement(act)
        state = "open" if agreement and agreements.is_open(act, agreement) else "answered"
    return respond(json_answer(200, {"version": state, "now": act.now.isoformat()}))


def _asked_agreement(act: Act) -> Agreement | None:
    found = world().agreement_in_link(request.args.get("token", ""))
    return act.find_agreement(found) if found else None


def _closed(agreement: Agreement | None) -> Response:
    if agreement is None:
        return notice(410, "Lenken er ugyldig", "Vi kjenner ikke denne forespørselen.")
    return notice(410, *_CLOSED[AgreementStatus(agreement.status)])


def _back_to_merchant(agreement: Agreement) -> BaseResponse:
    """Go to the merchant; somebody who came by push, without this page, stays. Source: Vipps Recurring v3, 2025-10."""
    if agreement.is_pushed:
        return notice(200, *_AFTER[AgreementStatus(agreement.status)])
    return redirect(agreement.redirect_url, 303)


@landing.post(LANDING_PATH)
def answer() -> BaseResponse:
    """Do what the person chose; then back to the merchant, or not: nobody promises that people return."""
    action = request.form.get("action", "")
    number = "".join(request.form.get("phone", "").split())
    if action not in _ACTIONS:
        return notice(400, "Ukjent valg", "Velg Godkjenn eller Avvis.")
    if number and not is_msisdn(number):
        return notice(400, "Ugyldig telefonnummer", "Skriv det med landkode, for eksempel 4712345678.")
    return _answer(action, number)


def _answer(action: str, number: str) -> BaseResponse:
    with world().store.write() as session:
        act = Act(world(), session, world().clock.now())
        agreement = _asked_agreement(act)
        if agreement is None or not agreements.is_open(act, agreement):
            return _closed(agreement)
        try:
            _do(act, agreement, action, Said(number.lstrip("+") or None, asked_max_amount()))
        except Wrong as wrong:
            return notice(wrong.status, "Det gikk ikke", "Se på telefonnummeret og beløpsgrensen.")
    world().new_work.set()
    if action == "wait":
        return redirect(url_for("landing.show", v=2, token=request.args["token"], waiting=1), 303)
    if action in _RETURNS:
        return _back_to_merchant(agreement)
    return notice(200, *_AFTER[AgreementStatus(agreement.status)])


def _do(act: Act, agreement: Agreement, action: str, said: Said) -> None:
    if action in _APPROVES:
        approve(act, agreement, said)
    elif action in _REJECTS:
        agreements.reject(act, agreement)
    elif action == "wait":
        agreement.phone = said.phone or agreement.phone
