"""Vipps' access tokens and profile data."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from flask import Blueprint, Response, request
from sqlalchemy import select

from invoice.simulator import signing
from invoice.simulator.accounts import DEMO_UNIT
from invoice.simulator.act import Act
from invoice.simulator.answers import Answer, json_answer
from invoice.simulator.breakage import vendor_call
from invoice.simulator.front import check_subscription_key
from invoice.simulator.http import respond, world
from invoice.simulator.models import Agreement
from invoice.simulator.problems import GatewayRefusal, Refusal
from invoice.simulator.world import TOKEN_LIFE

token_api = Blueprint("token_api", __name__)

TOKEN_PATH = "/accesstoken/get"  # noqa: S105 - a path
_TYPE = "application/json;charset=UTF-8"  # Source: Vipps access token OpenAPI 2.0.0 (2026-04), to the letter.

# Source: Userinfo API guide, 2023: profile data may be fetched for 168 hours after the consent.
_PROFILE_LIFE = timedelta(hours=168)


@token_api.post(TOKEN_PATH)
@vendor_call("token")
def get_token() -> Response:
    """Give out a token. Numbers are numbers, as the real one sent them (2026-08), whatever the specification says."""
    try:
        check_subscription_key()
    except Refusal as refusal:
        return respond(refusal.answer(request.path))
    known = (("client_id", DEMO_UNIT.client_id), ("client_secret", DEMO_UNIT.client_secret))
    if not all(signing.same(_credential(name), value) for name, value in known):
        body = {"error": "invalid_client", "error_description": "The client credentials are missing or wrong."}
        return respond(json_answer(401, body))
    token, start, end = world().access_token()
    seconds = int(TOKEN_LIFE.total_seconds())
    body_ok = {
        "token_type": "Bearer",
        "expires_in": seconds,
        "ext_expires_in": seconds,
        "expires_on": end,
        "not_before": start,
        "resource": "00000002-0000-0000-c000-000000000000",
        "access_token": token,
    }
    return respond(replace(json_answer(200, body_ok), content_type=_TYPE))


def _credential(name: str) -> str:
    # Some servers drop header names with an underscore; the vendor's names have one.
    return request.headers.get(name) or request.headers.get(name.replace("_", "-")) or ""


@token_api.get("/vipps-userinfo-api/userinfo/<sub>")
@vendor_call("userinfo")
def get_userinfo(sub: str) -> Response:
    """Show the profile data that a person shared at approval. The subscription key must not be sent."""
    try:
        return respond(_userinfo(sub))
    except Refusal as refusal:
        return respond(refusal.answer(request.path))


def _userinfo(sub: str) -> Answer:
    here = world()
    _, _, token = request.headers.get("Authorization", "").partition(" ")
    if "Ocp-Apim-Subscription-Key" in request.headers or not here.accepts_token(token.strip()):
        raise GatewayRefusal(401, "Unauthorized.")
    with here.store.read() as session:
        act = Act(here, session, here.clock.now())
        agreement = session.scalar(select(Agreement).where(Agreement.sub == sub))
    if agreement is None or agreement.started_at is None or act.now - agreement.started_at > _PROFILE_LIFE:
        raise GatewayRefusal(404, "Not found.")
    profile = {
        "name": "Kari Nordmann",
        "email": "kari@example.com",
        "phone_number": agreement.phone,
        "birthdate": "1990-01-01",
    }
    names = {"name": "name", "email": "email", "phoneNumber": "phone_number", "birthDate": "birthdate"}
    shared = {names[word] for word in (agreement.scope or "").split() if word in names}
    return json_answer(200, {"sub": sub} | {name: value for name, value in profile.items() if name in shared})
