"""The stand-in on a socket. Werkzeug's own handler drops header names with an underscore, and Vipps' keys have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from invoice.simulator.app import Simulator
from invoice.simulator.reach import check_host

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class VendorRequestHandler(WSGIRequestHandler):
    """Lets `client_id` and `client_secret` through, and logs no addresses: they hold phone numbers and tokens."""

    def make_environ(self) -> WSGIEnvironment:
        """Return the WSGI environment with the headers that were dropped; a name with hyphens goes first."""
        environ = super().make_environ()
        for name, value in self.headers.items():
            if "_" in name:
                environ.setdefault(f"HTTP_{name.upper().replace('-', '_')}", value)
        return environ

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer without a date of the machine's: the stand-in dates its answers by its own clock."""
        self.log_request(code)
        self.send_response_only(code, message)
        self.send_header("Server", self.version_string())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


def make_simulator_server(simulator: Simulator, host: str, port: int) -> BaseWSGIServer:
    """Return a threaded server for `simulator`, bound and not yet serving. port 0: any that is free.

    Raises ValueError for a host that is not this machine's own.
    """
    check_host(host)
    return make_server(host, port, simulator.app, threaded=True, request_handler=VendorRequestHandler)
