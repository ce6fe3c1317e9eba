"""What a log line holds: the id of its request. And what none may hold: the links that we text are keys."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from invoice import request_ids

_LINKS = re.compile(r"(/+(?:s|manage|hooks/+vipps)/+|/(?:process|return)/+[0-9]+/+)[^/?\s\"]+")
_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s [%(request_id)s] %(message)s"
_ROWS = re.compile(r"^DETAIL: .*\n?", re.MULTILINE)
_plain = logging.getLogRecordFactory()


class _Lines(logging.Formatter):
    """Writes without the rows that PostgreSQL shows with an error."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Leave out what stands in the tables: phone numbers, texts."""
        return _ROWS.sub("", super().formatException(ei))


class _HideLinks(logging.Filter):
    """Writes the server's access lines without what makes a link open."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the tokens in a finished line; keep every line."""
        record.msg, record.args = _LINKS.sub(r"\1***", record.getMessage()), None
        return True


def prepare() -> None:
    """Stamp every line, of libraries too, with its request as `%(request_id)s`, and hide links in the access log.

    Where nobody has said how logs are written, they go to standard error, a line each with the stamp in it.
    """
    logging.setLogRecordFactory(_stamped)
    access, root = logging.getLogger("werkzeug"), logging.getLogger()
    if not any(isinstance(f, _HideLinks) for f in access.filters):
        access.addFilter(_HideLinks())
    if not root.handlers:
        root.addHandler(_to_stderr())


def _stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _plain(*args, **kwargs)
    record.request_id = request_ids.current() or "-"
    return record


def _to_stderr() -> logging.Handler:
    handler, lines = logging.StreamHandler(), _Lines(_LINE, "%Y-%m-%dT%H:%M:%S")
    lines.converter = time.gmtime
    handler.setFormatter(lines)
    return handler
