"""The pipe to partners: one call to one checked address, with an end in sight, and a short word on what came of it.

No proxy, no redirect, no cookie, no kept connection. The log line names the host and never the path: a partner's
address may be a key.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util.connection import create_connection

from invoice.clock import stopwatch
from invoice.errors import Invalid
from invoice.providers.guard import Address, Guard
from invoice.providers.tls import new_context

logger = logging.getLogger(__name__)

CONNECT_S = 3.05
TOTAL_S = 15.0
MAX_BODY = 64 * 1024
_MAX_TRIES = 4  # addresses of one host


@dataclass(frozen=True)
class Reply:
    """What came of a call. `fault` is empty when the partner took it, which any 2xx says."""

    status: int | None
    fault: str


class PartnerPipe:
    """Calls to partners' own addresses. May be used by many threads at once."""

    def __init__(self, guard: Guard, *, total_s: float = TOTAL_S, ca_file: str | None = None) -> None:
        """total_s: for everything, from the name to the last byte.  ca_file: whose certificates to trust."""
        self.guard = guard
        self._total_s = total_s
        self._ca_file = ca_file or DEFAULT_CA_BUNDLE_PATH

    def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Make one call. Whatever goes wrong is a fault in the reply; nothing is raised."""
        started = stopwatch()
        line = _Line(self.guard, started + self._total_s)
        host = "an address that may not be called"
        try:
            address = self.guard.check(url)
            host = address.host
            status = self._exchange(line, address, method, dict(headers), body)
            fault = "" if 200 <= status < 300 else f"answered {status}"
        except Invalid as refused:
            status, fault = None, f"not called: the address {refused.message}"
        except (OSError, HTTPException, HTTPError) as error:
            status, fault = None, line.fault_of(error)
        duration_s = round(stopwatch() - started, 3)
        logger.log(
            logging.INFO if fault else logging.DEBUG,
            "partner %s %s: %s in %s s",
            method,
            host,
            fault or status,
            duration_s,
            extra={"host": host, "outcome": fault or str(status), "duration_s": duration_s},
        )
        return Reply(status, fault)

    def _exchange(self, line: _Line, address: Address, method: str, headers: dict[str, str], body: bytes | None) -> int:
        connection: _Plain | _Secure
        if address.scheme == "https":
            host, context = address.host.strip("[]"), new_context()
            connection = _Secure(host, address.port, ca_certs=self._ca_file, ssl_context=context)
        else:
            connection = _Plain(address.host.strip("[]"), address.port)
        connection.dial = lambda: line.dial(address)
        try:
            headers = {**headers, "Connection": "close"}
            connection.request(method, address.target, body, headers, preload_content=False, decode_content=False)
            response = connection.getresponse()
            if line.is_cut:
                raise TimeoutError  # what a cut leaves of the headers reads like an end
            # The status is the answer. Its body is read so that the other side can finish, and nobody looks at it.
            with suppress(OSError, HTTPException, HTTPError):
                response.read(MAX_BODY, decode_content=False)
            return response.status
        finally:
            connection.close()
            line.hang_up()


class _Line:
    """The connection of one call. It is cut at the deadline, however slowly bytes drip, in the handshake too."""

    def __init__(self, guard: Guard, deadline: float) -> None:
        self._guard = guard
        self._deadline = deadline
        self._handle: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self.is_cut = False

    def dial(self, address: Address) -> socket.socket:
        """Resolve the host, check what it leads to, and connect to that very address."""
        failure: OSError = TimeoutError()
        for ip in self._guard.addresses(address, self._left())[:_MAX_TRIES]:
            if self._left() <= 0:
                break
            try:
                made = create_connection((ip, address.port), min(CONNECT_S, self._left()))
            except OSError as error:
                failure = error
                continue
            made.settimeout(max(self._left(), 0.001))
            # A second handle on the same connection: TLS takes the first one for itself.
            self._handle = made.dup()
            self._timer = threading.Timer(max(self._left(), 0), self._cut)
            self._timer.daemon = True
            self._timer.start()
            return made
        raise failure

    def hang_up(self) -> None:
        """Let go of the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._handle is not None:
            self._handle.close()

    def fault_of(self, error: Exception) -> str:
        """Return what a failure means, in words for the partner."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return "its certificate is not valid for this host"
        if self.is_cut or (isinstance(error, TimeoutError) and self._handle is not None):
            return "no answer in time"
        if isinstance(error, ssl.SSLError):
            return "no TLS could be agreed on"
        if self._handle is None:
            return "cannot be reached"
        return "broke off without an answer"

    def _left(self) -> float:
        return self._deadline - stopwatch()

    def _cut(self) -> None:
        self.is_cut = True
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)


class _Plain(HTTPConnection):
    """Connects where it is told."""

    dial: Callable[[], socket.socket]

    def _new_conn(self) -> socket.socket:
        return self.dial()


class _Secure(HTTPSConnection):
    """Likewise; the certificate must be for the host's name, not for where the name led."""

    dial: Callable[[], socket.socket]

    def _new_conn(self) -> socket.socket:
        return self.dial()
