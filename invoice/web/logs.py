"""What a log may not hold: the links that we text are keys."""

from __future__ import annotations

import logging
import re

_LINKS = re.compile(r"(/(?:s|manage|hooks/vipps)/|/(?:process|return)/[0-9]+/)[^/?\s\"]+")


class _HideLinks(logging.Filter):
    """Writes the server's access lines without what makes a link open."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the tokens in a finished line; keep every line."""
        record.msg, record.args = _LINKS.sub(r"\1***", record.getMessage()), None
        return True


def hide_links() -> None:
    """Have the development server's access log written without link tokens."""
    logger = logging.getLogger("werkzeug")
    if not any(isinstance(f, _HideLinks) for f in logger.filters):
        logger.addFilter(_HideLinks())
