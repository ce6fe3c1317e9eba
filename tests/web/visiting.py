"""Where the pages of a subscription lie, and what a person reads on them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from werkzeug.test import TestResponse

from invoice.services.jobs import Services
from invoice.store.db import seals
from invoice.store.models import Subscription
from tests.factories import (
    a_wish,
    newest_agreement,
    subscription,
    the_partner,
)

HOST = "https://pay.example.com"
LANDING = "https://api.vipps.no/landing/"


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


def receipt_of(message: int) -> str:
    """Return the path that the SMS provider tells us of a text at."""
    return f"/hooks/twilio/{message}?seal={seal_of(message)}"


def seal_of(message: int) -> str:
    """Return what stands in that path as our own signature."""
    return seals(f"receipt of message {message}")[0]


def words(answer: TestResponse) -> str:
    """Return what a person reads."""
    text = re.sub(r"<(style|script|head)\b.*?</\1>", " ", answer.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())
