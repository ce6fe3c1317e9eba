"""How TLS is spoken outwards: at least 1.2, with suites that keep yesterday's calls secret when a key is lost tomorrow.

Whose certificates are trusted says who calls; that they are checked is nowhere switched off.
"""

from __future__ import annotations

import ssl
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.util.ssl_ import create_urllib3_context

# Authenticated encryption after an exchange of fresh keys. TLS 1.3 has no others. Source: RFC 9325, 4.2 (2022).
_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"


def new_context() -> ssl.SSLContext:
    """Return what a connection is to be made with; the library adds whose certificates to trust."""
    return create_urllib3_context(ssl_minimum_version=ssl.TLSVersion.TLSv1_2, ciphers=_SUITES)


class Adapter(HTTPAdapter):
    """Has `requests` speak TLS so."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool of connections."""
        super().init_poolmanager(*args, **kwargs, ssl_context=new_context())
