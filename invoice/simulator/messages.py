"""Texts: taken, sent, delivered or not. Each step may owe a status callback."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from invoice.simulator import ids
from invoice.simulator.accounts import DEMO_TWILIO
from invoice.simulator.act import Act
from invoice.simulator.funds import UNREACHABLE
from invoice.simulator.models import Message, Receipt
from invoice.simulator.segments import count_segments

API_VERSION = "2010-04-01"
# Source: Twilio error dictionary, 2025.
_UNREACHABLE_ERROR, _UNKNOWN_ERROR = 30003, 30008


@dataclass(frozen=True)
class Text:
    """A checked request to send a text. to: E.164."""

    to: str
    sender: str | None
    service_sid: str | None
    body: str
    status_callback: str | None


def send(act: Act, text: Text) -> Message:
    """Take a text; it goes out in the next moment."""
    message = Message(
        sid=ids.message_sid(),
        to=text.to,
        sender=text.sender,
        service_sid=text.service_sid,
        body=text.body,
        segments=count_segments(text.body),
        status="accepted" if text.service_sid else "queued",
        status_callback=text.status_callback,
        created_at=act.now,
        updated_at=act.now,
        wake_at=act.now,
    )
    act.session.add(message)
    act.session.flush()
    return message


def go_on(act: Act, message: Message) -> None:
    """Take a text one step further: sent, then delivered or whatever the switch and the number say."""
    if message.status != "sent":
        message.status = "sent"
        message.sent_at = act.now
        message.wake_at = None if act.switches.sms_outcome == "silent" else act.now
    else:
        message.status = (
            "undelivered"
            if message.to.removeprefix("+") in UNREACHABLE
            else act.switches.sms_outcome.replace("silent", "sent")
        )
        message.error_code = _error_code(message)
        message.wake_at = None
    message.updated_at = act.now
    if message.status_callback:
        act.session.add(
            Receipt(sid=message.sid, url=message.status_callback, form=_form(message), attempts=0, wake_at=act.now)
        )


def _error_code(message: Message) -> int | None:
    return {"undelivered": _UNREACHABLE_ERROR, "failed": _UNKNOWN_ERROR}.get(message.status)


def _form(message: Message) -> dict[str, str]:
    """Return the fields of a status callback. Source: Twilio, "Track outbound message status" (2025)."""
    form = {
        "MessageSid": message.sid,
        "SmsSid": message.sid,
        "MessageStatus": message.status,
        "SmsStatus": message.status,
        "To": message.to,
        "AccountSid": DEMO_TWILIO.account_sid,
        "ApiVersion": API_VERSION,
    }
    optional = {"From": message.sender, "MessagingServiceSid": message.service_sid, "ErrorCode": message.error_code}
    return form | {name: str(value) for name, value in optional.items() if value is not None}


def links_in(body: str) -> list[str]:
    """Return the web addresses in a text, in order."""
    return [link.rstrip(".,;:!?)»\"'") for link in re.findall(r"https?://\S+", body)]


def message_as_dict(message: Message) -> dict[str, Any]:
    """Return a text as `/sim/messages` shows it."""
    return {
        "sid": message.sid,
        "to": message.to,
        "from": message.sender or message.service_sid,
        "body": message.body,
        "status": message.status,
        "created_at": _iso(message.created_at),
        "links": links_in(message.body),
    }


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
