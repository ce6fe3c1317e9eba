"""The links that we give out: what their last part may look like."""

from __future__ import annotations

from werkzeug.routing import BaseConverter


class TokenConverter(BaseConverter):
    """Letters, digits, "_" and "-": whatever else stands there was never given out, and reaches no database."""

    regex = "[A-Za-z0-9_-]{1,64}"
