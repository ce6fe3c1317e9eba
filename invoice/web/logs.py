"""What a log line holds: the id of its request. And what none may hold: the links that we text, people's numbers."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from invoice import request_ids

_HIDDEN = (
    # What makes a link open.
    re.compile(r"(/+(?:s|manage|hooks/+vipps)/+|/(?:process|return)/+[0-9]+/+)[^/?\s\"]+"),
    # What a partner calls its member: the phone number, perhaps.
    re.compile(r"(/api/+recurring/+cancel/+)[^?\s\"]+"),
    re.compile(r"(/api/+recurring/+)[^?\s\"]+(?=/resend)"),
    # Every query, and a long number in whatever else somebody asks for.
    re.compile(r"(\?)[^\s\"]+"),
    re.compile(r"()(?:\+|%2B)?[0-9]{8,}", re.IGNORECASE),
)
_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s [%(request_id)s] %(message)s"
_ROWS = re.compile(r"^DETAIL: .*\n?", re.MULTILINE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_plain, _traceback = logging.getLogRecordFactory(), logging.Formatter().formatException


class _Lines(logging.Formatter):
    """Writes each message as one line, whatever stands in it: nobody can forge a line or turn its reading order."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Escape what cannot be seen."""
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class _Hide(logging.Filter):
    """Writes the server's access lines without what is nobody's business."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace it in a finished line; keep every line."""
        line = _COLOURS.sub("", record.getMessage())
        for hidden in _HIDDEN:
            line = hidden.sub(r"\1***", line)
        record.msg, record.args = line, None
        return True


def prepare() -> None:
    """Stamp every line, of libraries too, with its request as `%(request_id)s`; hide what the access log may not hold.

    Where nobody has said how logs are written, they go to standard error, a line each with the stamp in it: who was let
    in and what changed as well, unless another level was set.
    """
    logging.setLogRecordFactory(_stamped)
    access, root = logging.getLogger("werkzeug"), logging.getLogger()
    if not any(isinstance(f, _Hide) for f in access.filters):
        access.addFilter(_Hide())
    if not root.handlers:
        root.addHandler(_to_stderr())
        if logging.getLogger("invoice").level == logging.NOTSET:
            logging.getLogger("invoice").setLevel(logging.INFO)


def _stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _plain(*args, **kwargs)
    record.request_id = request_ids.current() or "-"
    if record.exc_info:
        # Whoever writes the line writes it without the rows that PostgreSQL shows with an error: numbers, texts.
        record.exc_text = _ROWS.sub("", _traceback(record.exc_info))
    return record


def _to_stderr() -> logging.Handler:
    handler, lines = logging.StreamHandler(), _Lines(_LINE, "%Y-%m-%dT%H:%M:%S")
    lines.converter = time.gmtime
    handler.setFormatter(lines)
    return handler
