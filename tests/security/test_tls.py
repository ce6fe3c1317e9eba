"""How TLS is spoken to the outside, seen from the other end: what is too old or too weak never comes about."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from invoice.errors import ProviderError
from invoice.providers.guard import Guard
from invoice.providers.http import Pipe
from invoice.providers.outbound import PartnerPipe
from invoice.providers.twilio import TwilioClient
from tests.certificates import make_certificate

HOST = "partner.example.com"
SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # source: PostgreSQL's protocol, "SSLRequest"


class OtherEnd:
    """Takes connections, agrees on TLS as it is told, and keeps what came of it and what was said in it."""

    def __init__(self, context: ssl.SSLContext, *, is_postgres: bool = False) -> None:
        self.agreed: list[str] = []
        self.failed: list[str] = []
        self.heard = b""
        self.callers: list[object] = []
        self._context, self._is_postgres = context, is_postgres
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._socket.accept()
                plain.settimeout(10)
                with plain:
                    self._talk(plain)

    def _talk(self, plain: socket.socket) -> None:
        try:
            if self._is_postgres:
                assert plain.recv(8) == SSL_REQUEST
                plain.sendall(b"S")
            with self._context.wrap_socket(plain, server_side=True) as tls:
                self.agreed.append(str(tls.version()))
                self.callers.append(tls.getpeercert())
                self.heard += tls.recv(1000)
                tls.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        except ssl.SSLError as error:
            self.failed.append(str(error.reason))
        except OSError as error:
            self.failed.append(type(error).__name__)

    def close(self) -> None:
        """Take no more; wait until the last one has ended."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path, HOST)


def as_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.fixture
def other_end(certificate: Path) -> Iterator[Callable[..., OtherEnd]]:
    made: list[OtherEnd] = []

    def make(context: ssl.SSLContext, *, is_postgres: bool = False) -> OtherEnd:
        made.append(OtherEnd(context, is_postgres=is_postgres))
        return made[-1]

    yield make
    for each in made:
        each.close()


def call_partner(port: int, certificate: Path) -> None:
    anywhere = Guard(ports=frozenset({port}), resolve=lambda *_: ["127.0.0.1"], may_reach=lambda _: True)
    PartnerPipe(anywhere, ca_file=str(certificate)).call("POST", f"https://{HOST}:{port}/", headers={}, body=b"secret")


def call_vipps(port: int, certificate: Path) -> None:
    with suppress(ProviderError):
        Pipe(f"https://localhost:{port}", "Vipps").call("POST", "/", headers={}, body="secret")


def call_twilio(port: int, certificate: Path) -> None:
    with suppress(ProviderError):
        client = TwilioClient(f"https://localhost:{port}", "AC" + "0" * 32, "secret")
        client.send(to="+4791234567", originator="2119", body="secret", receipt_url="https://pay.example.com/")


CALLS = (call_partner, call_vipps, call_twilio)


def careless(port: int) -> None:
    """Call as somebody who takes everything, to see that the other end would."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"GET /")
        tls.recv(100)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.parametrize("call", CALLS)
def test_nobody_is_called_by_tls_below_1_2(
    other_end: Callable[..., OtherEnd], certificate: Path, call: Callable[..., None], version: ssl.TLSVersion
):
    old = as_server(certificate)
    old.minimum_version = old.maximum_version = version
    there = other_end(old)
    careless(there.port)

    call(there.port, certificate)

    there.close()
    assert len(there.agreed) == 1
    assert set(there.failed) == {"UNSUPPORTED_PROTOCOL"}
    assert b"secret" not in there.heard


@pytest.mark.parametrize(
    "suite",
    ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-CCM8"],
)
@pytest.mark.parametrize("call", CALLS)
def test_no_suite_is_agreed_on_but_the_recommended_ones(
    other_end: Callable[..., OtherEnd], certificate: Path, call: Callable[..., None], suite: str
):
    weak = as_server(certificate)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers(f"{suite}:@SECLEVEL=0")
    there = other_end(weak)
    careless(there.port)

    call(there.port, certificate)

    there.close()
    assert len(there.agreed) == 1
    assert set(there.failed) == {"NO_SHARED_CIPHER"}
    assert b"secret" not in there.heard


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_is_recommended_is_spoken(other_end: Callable[..., OtherEnd], certificate: Path, version: ssl.TLSVersion):
    good = as_server(certificate)
    good.minimum_version = good.maximum_version = version
    there = other_end(good)

    call_partner(there.port, certificate)

    there.close()
    assert there.agreed == [version.name.replace("_", ".")]
    assert b"POST / HTTP/1.1" in there.heard


# The database


def knock(port: int, **more: object) -> None:
    """Connect as the service does with such an address; this other end never answers as a database."""
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(
            host=HOST, hostaddr="127.0.0.1", port=port, user="invoice", dbname="x", connect_timeout=5, **more
        )


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_database_that_speaks_no_tls_is_told_nothing(mode: str):
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                heard.append(connection.recv(8))
                connection.sendall(b"N")
                heard.append(connection.recv(1000))

        there = threading.Thread(target=refuse, daemon=True)
        there.start()
        knock(server.getsockname()[1], sslmode=mode, sslrootcert="/dev/null")
        there.join(10)

    assert heard == [SSL_REQUEST, b""]


def test_a_database_must_show_a_certificate_for_its_name(
    other_end: Callable[..., OtherEnd], certificate: Path, tmp_path: Path
):
    impostor = other_end(as_server(make_certificate(tmp_path, "elsewhere.example.com")), is_postgres=True)
    real = other_end(as_server(certificate), is_postgres=True)

    for there in (impostor, real):
        knock(there.port, sslmode="verify-full", sslrootcert=str(certificate))
        there.close()

    assert (impostor.agreed, impostor.heard) == ([], b"")
    assert b"invoice" in real.heard


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a_database_is_not_called_by_tls_below_1_2(other_end: Callable[..., OtherEnd], certificate: Path):
    old = as_server(certificate)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    there = other_end(old, is_postgres=True)

    knock(there.port, sslmode="verify-full", sslrootcert=str(certificate))

    there.close()
    assert there.failed == ["UNSUPPORTED_PROTOCOL"]


def test_the_service_may_prove_itself_to_the_database_by_a_certificate_and_no_password(
    other_end: Callable[..., OtherEnd], certificate: Path, tmp_path: Path
):
    own = make_certificate(tmp_path, "invoice.example.com")
    own.chmod(0o600)
    asking = as_server(certificate)
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(own)
    there = other_end(asking, is_postgres=True)

    knock(there.port, sslmode="verify-full", sslrootcert=str(certificate), sslcert=str(own), sslkey=str(own))

    there.close()
    [caller] = there.callers
    assert caller["subject"] == ((("commonName", "invoice.example.com"),),)
