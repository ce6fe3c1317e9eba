"""The pages behind the SMS link: offer, waiting, outcome, manage, stop.

GET never acts: whatever opens a texted link to look at it (a preview, a scanner, a prefetching browser) changes
nothing. The links are capabilities of 128 random bits, so these routes are public.
"""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from invoice.errors import Conflict, Limited, NotFound
from invoice.services import openings, throttle, views
from invoice.services.views import Offer
from invoice.web.auth import public
from invoice.web.errors import page, tell
from invoice.web.services import services

blueprint = Blueprint("pages", __name__)

# Why a link is closed -> the HTTP status that says so
_CLOSED = {"expired_link": 410, "ended": 410, "already_active": 409}


@blueprint.before_request
def wait_for_the_person() -> ResponseReturnValue | None:
    """Give nothing to a browser that fetches ahead: a redirect that it follows would be one more visit at Vipps."""
    return ("", 204) if request.headers.get("Sec-Purpose", "").startswith("prefetch") else None


@blueprint.errorhandler(NotFound)
def slow_guesses(unknown: NotFound) -> ResponseReturnValue:
    """Count a link that opens nothing, and say so; where many were tried, say only that it was too much."""
    try:
        throttle.count_guess(request.remote_addr or "")
    except Limited as limit:
        return tell(limit)
    return tell(unknown)


@blueprint.get("/s/<token:token>")
@public
def show_offer(token: str) -> ResponseReturnValue:
    """Show the offer behind a texted link."""
    return _offer_page(views.offer(token), token)


@blueprint.post("/s/<token:token>")
@public
def open_consent(token: str) -> ResponseReturnValue:
    """Lead the person who pressed the button to Vipps."""
    throttle.count_press(views.offer(token).number)
    opened = services().consents.open(token)
    if opened.url is not None:
        return redirect(opened.url, 303)
    if opened.notice in _CLOSED:
        return page(opened.notice, _CLOSED[opened.notice])
    return redirect(url_for("pages.show_offer", token=token, notice=opened.notice), 303)


@blueprint.post("/s/<token:token>/seen")
@public
def see(token: str) -> ResponseReturnValue:
    """Note that a browser has shown the offer; whoever only fetches the page, a preview perhaps, does not say so."""
    openings.mark(token)
    return "", 204


@blueprint.get("/api/recurring/process/<int(max=2147483647):partner_id>/<token:token>")
@public
def process(partner_id: int, token: str) -> ResponseReturnValue:
    """Lead to Vipps at once while the draft made at the request is fresh; otherwise show the offer."""
    offer = views.offer_of(partner_id, token)
    if offer.fresh_url is not None and not offer.closed:
        return redirect(offer.fresh_url, 302)
    return _offer_page(offer, token)


@blueprint.get("/api/recurring/return/<int(max=2147483647):partner_id>/<token:return_id>")
@public
def come_back(partner_id: int, return_id: str) -> ResponseReturnValue:
    """Tell the person who comes back from Vipps how it stands: waiting until the truth is known, then the truth."""
    outcome = views.outcome(partner_id, return_id)
    if outcome.state == "waiting":
        return render_template("pages/waiting.html", waiting=outcome, poll_url=request.path)
    return render_template(
        "pages/outcome.html",
        outcome=outcome,
        manage_url=url_for("pages.manage", token=outcome.manage_token) if outcome.state == "active" else None,
        retry_url=url_for("pages.show_offer", token=outcome.link_token)
        if outcome.state in ("declined", "expired")
        else None,
    )


@blueprint.post("/api/recurring/return/<int(max=2147483647):partner_id>/<token:return_id>")
@public
def ring(partner_id: int, return_id: str) -> ResponseReturnValue:
    """Look at Vipps for the person who waits, and say whether there is news. A forged call only makes us look."""
    outcome = views.outcome(partner_id, return_id)
    if outcome.state == "waiting":
        services().consents.ring(outcome.agreement_id)
        outcome = views.outcome(partner_id, return_id)
    return {"state": "waiting" if outcome.state == "waiting" else "done"}


@blueprint.get("/manage/<token:token>")
@public
def manage(token: str) -> ResponseReturnValue:
    """Show the subscription to the person who pays for it."""
    sub = views.managed(token)
    numbers = request.args.getlist("recurring")
    if numbers and numbers != [str(sub.number)]:
        return page("not_found", 404)
    stop_url = url_for("pages.ask_to_stop", token=token) if sub.can_stop else None
    return render_template("pages/manage.html", sub=sub, stop_url=stop_url)


@blueprint.get("/manage/<token:token>/stop")
@public
def ask_to_stop(token: str) -> ResponseReturnValue:
    """Say what stopping means, with one button."""
    sub = views.managed(token)
    back_url = url_for("pages.manage", token=token)
    if not sub.can_stop:
        return redirect(back_url, 303)
    return render_template("pages/stop.html", sub=sub, form_action=request.path, back_url=back_url)


@blueprint.post("/manage/<token:token>/stop")
@public
def stop(token: str) -> ResponseReturnValue:
    """Stop the subscription; one that is over already stays so."""
    sub = views.managed(token)
    # Two presses, or the partner was quicker: the page shows how it stands.
    with suppress(Conflict):
        services().subscriptions.cancel(sub.number)
    return redirect(url_for("pages.manage", token=token), 303)


def _offer_page(offer: Offer, token: str) -> ResponseReturnValue:
    if offer.closed:
        return page(offer.closed, _CLOSED[offer.closed], merchant=offer.merchant)
    notice = request.args.get("notice")
    return render_template(
        "pages/offer.html",
        offer=offer,
        form_action=url_for("pages.open_consent", token=token),
        seen_url=url_for("pages.see", token=token),
        notice=notice if notice in ("try_again", "refused") else None,
    )
