"""Twilio's Messages resource, as far as sending and finding texts needs it.

Source: Twilio REST API 2010-04-01 (2025).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from sqlalchemy import ColumnElement, select

from invoice.simulator import messages, signing
from invoice.simulator.accounts import DEMO_TWILIO
from invoice.simulator.act import Act
from invoice.simulator.answers import Answer, json_answer
from invoice.simulator.breakage import vendor_call
from invoice.simulator.fields import url_fault
from invoice.simulator.http import respond, world
from invoice.simulator.models import Message
from invoice.simulator.problems import Refusal

twilio_api = Blueprint("twilio_api", __name__)

_PATH = f"/{messages.API_VERSION}/Accounts/<account_sid>/Messages"
_BODY_MOST = 1600
_PAGE_SIZE, _PAGE_MOST = 50, 1000
_E164 = r"\+[1-9]\d{6,14}"
_SENDER = rf"{_E164}|\d{{3,8}}|(?=.*[A-Za-z])[A-Za-z0-9 ]{{1,11}}"
# Twilio's own numbers for tests. Source: Twilio, test credentials (2025).
_INVALID_NUMBER, _NOT_MOBILE = "+15005550001", "+15005550009"


class TwilioRefusal(Refusal):
    """A no in Twilio's shape."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message

    def answer(self, path: str) -> Answer:  # noqa: ARG002 - Twilio does not name the path
        """Return Twilio's error object."""
        more = f"https://www.twilio.com/docs/errors/{self.code}"
        body = {"code": self.code, "message": self.message, "more_info": more, "status": self.status}
        headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if self.status == 401 else {}
        return json_answer(self.status, body, headers)


def _view(name: str) -> Callable[[Callable[..., Answer]], Callable[..., Response]]:
    def wrap(view: Callable[..., Answer]) -> Callable[..., Response]:
        @vendor_call(name)
        @functools.wraps(view)
        def run(account_sid: str, **path: str) -> Response:
            try:
                _check_account(account_sid)
                return respond(view(**path))
            except Refusal as refusal:
                return respond(refusal.answer(request.path))

        return run

    return wrap


def _check_account(account_sid: str) -> None:
    given = request.authorization
    user, token = (given.username or "", given.password or "") if given and given.type == "basic" else ("", "")
    if not (signing.same(user, DEMO_TWILIO.account_sid) and signing.same(token, DEMO_TWILIO.auth_token)):
        raise TwilioRefusal(401, 20003, "Authenticate")
    if account_sid != DEMO_TWILIO.account_sid:
        raise TwilioRefusal(404, 20404, f"The requested resource {request.path} was not found")


@twilio_api.post(f"{_PATH}.json")
@_view("send_message")
def send_message() -> Answer:
    """Take a text. It is told as queued; sent and delivered follow by callback."""
    text = _read_text()
    with world().store.write() as session:
        message = messages.send(Act(world(), session, world().clock.now()), text)
        shown = as_resource(message)
    world().new_work.set()
    return json_answer(201, shown)


def _read_text() -> messages.Text:
    form = request.form
    to, body = form.get("To", "").strip(), form.get("Body", "")
    sender, service = form.get("From", "").strip() or None, form.get("MessagingServiceSid", "").strip() or None
    callback = form.get("StatusCallback") or None
    _check_recipient(to)
    _check_sender(sender, service)
    _check_body(body)
    if callback and url_fault(callback):
        raise TwilioRefusal(400, 21609, f"The StatusCallback URL {callback[:200]} is not a valid URL.")
    return messages.Text(to, sender, service, body, callback)


def _check_recipient(to: str) -> None:
    if not to:
        raise TwilioRefusal(400, 21604, "A 'To' phone number is required.")
    if not re.fullmatch(_E164, to, re.ASCII) or to == _INVALID_NUMBER:
        raise TwilioRefusal(400, 21211, f"Invalid 'To' Phone Number: {_masked(to)}")
    if to == _NOT_MOBILE:
        raise TwilioRefusal(400, 21614, f"'To' number is not a valid mobile number: {_masked(to)}")


def _masked(number: str) -> str:
    return f"{number[:5]}XXXX"


def _check_sender(sender: str | None, service: str | None) -> None:
    if sender is None and service is None:
        raise TwilioRefusal(400, 21603, "A 'From' phone number is required.")
    if sender and not re.fullmatch(_SENDER, sender, re.ASCII):
        raise TwilioRefusal(400, 21212, "Invalid 'From' Phone Number")
    if service and not re.fullmatch(r"MG[0-9a-fA-F]{32}", service):
        raise TwilioRefusal(400, 21701, "The Messaging Service does not exist")


def _check_body(body: str) -> None:
    if not body:
        raise TwilioRefusal(400, 21602, "Message body is required.")
    if len(body) > _BODY_MOST:
        raise TwilioRefusal(400, 21617, f"The concatenated message body exceeds the {_BODY_MOST} character limit.")


@twilio_api.get(f"{_PATH}/<sid>.json")
@_view("fetch_message")
def fetch_message(sid: str) -> Answer:
    """Show one text."""
    with world().store.read() as session:
        message = Act(world(), session, world().clock.now()).find_message(sid)
    if message is None:
        raise TwilioRefusal(404, 20404, f"The requested resource {request.path} was not found")
    return json_answer(200, as_resource(message))


@twilio_api.get(f"{_PATH}.json")
@_view("list_messages")
def list_messages() -> Answer:
    """Show texts, newest first, page by page."""
    page, size = _query_number("Page", 0, 100_000), max(1, _query_number("PageSize", _PAGE_SIZE, _PAGE_MOST))
    asked = select(Message).where(*_filters()).order_by(Message.number.desc()).offset(page * size).limit(size + 1)
    with world().store.read() as session:
        rows = session.scalars(asked).all()
    pages = {"uri": _page_uri(page, size), "first_page_uri": _page_uri(0, size)}
    pages["next_page_uri"] = _page_uri(page + 1, size) if len(rows) > size else None
    pages["previous_page_uri"] = _page_uri(page - 1, size) if page else None
    start = page * size
    shown = [as_resource(row) for row in rows[:size]]
    place = {"page": page, "page_size": size, "start": start, "end": start + max(len(shown) - 1, 0)}
    return json_answer(200, {"messages": shown, **pages, **place})


def _query_number(name: str, default: int, most: int) -> int:
    text = request.args.get(name, "")
    return min(int(text), most) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else default


def _page_uri(page: int, size: int) -> Any:
    kept = [(name, value) for name, value in request.args.items(multi=True) if name not in ("Page", "PageSize")]
    return f"{request.path}?{urlencode([*kept, ('PageSize', size), ('Page', page)])}"


def _filters() -> list[ColumnElement[bool]]:
    delay = timedelta(seconds=world().switchboard.values.twilio_list_delay_seconds)
    found: list[ColumnElement[bool]] = [Message.created_at <= world().clock.now() - delay]
    if to := request.args.get("To"):
        found.append(Message.to == to.strip().replace(" ", "+", 1) if to.startswith(" ") else Message.to == to)
    if sender := request.args.get("From"):
        found.append(Message.sender == sender)
    for name, bound in (("DateSent", "on"), ("DateSent>", "from"), ("DateSent<", "until")):
        if text := request.args.get(name):
            found.extend(_date_filter(text, bound))
    return found


def _date_filter(text: str, bound: str) -> list[ColumnElement[bool]]:
    """Return the conditions of DateSent (that day), DateSent>= or DateSent<=; in UTC, bounds included."""
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as error:
        raise TwilioRefusal(400, 20001, "Invalid DateSent") from error
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    # A day is a date, or (as Twilio's own client writes it) the instant at which it begins.
    is_day = len(text) == 10 or (bound == "on" and at.time() == time(0))
    end = at + (timedelta(days=1) if is_day else timedelta(seconds=1))
    conditions = {"from": Message.created_at >= at, "until": Message.created_at < end}
    return list(conditions.values()) if bound == "on" else [conditions[bound]]


def as_resource(message: Message) -> dict[str, Any]:
    """Return a text as Twilio shows it; dates as in e-mail (RFC 2822), numbers of segments as text."""
    uri = f"/{messages.API_VERSION}/Accounts/{DEMO_TWILIO.account_sid}/Messages/{message.sid}"
    return {
        "account_sid": DEMO_TWILIO.account_sid,
        "api_version": messages.API_VERSION,
        "body": message.body,
        "date_created": _date(message.created_at),
        "date_sent": _date(message.sent_at),
        "date_updated": _date(message.updated_at),
        "direction": "outbound-api",
        "error_code": message.error_code,
        "error_message": None,
        "from": message.sender,
        "messaging_service_sid": message.service_sid,
        "num_media": "0",
        "num_segments": str(message.segments),
        "price": None,
        "price_unit": "NOK",
        "sid": message.sid,
        "status": message.status,
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": message.to,
        "uri": f"{uri}.json",
    }


def _date(at: datetime | None) -> str | None:
    return format_datetime(at.replace(microsecond=0)) if at else None
