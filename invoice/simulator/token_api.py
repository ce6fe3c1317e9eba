"""Vipps' access tokens and profile data."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, request
from sqlalchemy import select

from invoice.simulator import signing
from invoice.simulator.answers import Answer, json_answer
from invoice.simulator.breakage import vendor_call
from invoice.simulator.front import unit_of_key
from invoice.simulator.http import respond, world
from invoice.simulator.models import Agreement
from invoice.simulator.problems import GatewayRefusal, Refusal
from invoice.simulator.world import TOKEN_LIFE

token_api = Blueprint("token_api", __name__)

TOKEN_PATH = "/accesstoken/get"  # noqa: S105 - a path
_TYPE = "application/json;charset=UTF-8"  # Source: Vipps access token OpenAPI 2.0.0 (2026-04), to the letter.

# Source: Userinfo API guide, 2023: profile data may be fetched for 168 hours after the consent.
_PROFILE_LIFE = timedelta(hours=168)
_ADDRESS = {
    "street_address": "Robert Levins gate 5",
    "postal_code": "0154",
    "region": "Oslo",
    "country": "NO",
    "formatted": "Robert Levins gate 5\n0154 Oslo\nNO",
    "address_type": "home",
}
# scope -> what it opens. Source of the names: Userinfo API guide, 2023. The number is the agreement's own.
_SHARED: dict[str, dict[str, Any]] = {
    "name": {"name": "Kari Nordmann", "given_name": "Kari", "family_name": "Nordmann"},
    "email": {"email": "kari@example.com", "email_verified": True},
    "phoneNumber": {"phone_number": None, "phone_number_verified": True},
    "birthDate": {"birthdate": "1990-01-01"},
    "address": {"address": _ADDRESS, "other_addresses": []},
    "nin": {"nin": "01819012345"},
}


@token_api.post(TOKEN_PATH)
@vendor_call("token")
def get_token() -> Response:
    """Give out a token. Numbers are numbers, as the real one sent them (2026-08), whatever the specification says."""
    try:
        unit = unit_of_key()
    except Refusal as refusal:
        return respond(refusal.answer(request.path))
    known = (("client_id", unit.client_id), ("client_secret", unit.client_secret))
    if not all(signing.same(_credential(name), value) for name, value in known):
        body = {"error": "invalid_client", "error_description": "The client credentials are missing or wrong."}
        return respond(json_answer(401, body))
    token, start, end = world().access_token(unit)
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
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    msn = here.msn_in_token(token.strip())
    if "Ocp-Apim-Subscription-Key" in request.headers or scheme.lower() != "bearer" or msn is None:
        raise GatewayRefusal(401, "Unauthorized.")
    consents = select(Agreement).where(Agreement.msn == msn, Agreement.sub == sub)
    with here.store.read() as session:
        latest = session.scalar(consents.order_by(Agreement.started_at.desc()).limit(1))
    if latest is None or latest.started_at is None or here.clock.now() - latest.started_at > _PROFILE_LIFE:
        raise GatewayRefusal(404, "Not found.")
    profile: dict[str, Any] = {"sub": sub, "sid": sub.replace("-", "")[:16]}
    for scope in (latest.scope or "").split():
        profile |= _SHARED[scope]
    if "phone_number" in profile:
        profile["phone_number"] = latest.phone
    return json_answer(200, profile)
