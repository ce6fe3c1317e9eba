"""Where partners may have us call, and where not: every way that is known to mean an inner address."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from invoice.errors import Invalid
from invoice.providers.guard import Guard, Resolver, is_public, split_login
from invoice.providers.outbound import PartnerPipe
from tests.certificates import make_certificate

PUBLIC = "93.184.216.34"

# What each of these means to some client, or to some resolver, is in the comment where it is not plain.
REFUSED = [
    # numbers, in every notation that a resolver takes
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0x7f.0.0.0x1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.1./",
    "https://example.com.127.0.0.0x1/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://2852039166/",  # the same
    "https://93.184.216.34/",  # public, and still a number
    "https://1.2.3/",
    "https://①②⑦.0.0.1/",
    "https://１２７.0.0.1/",  # full width
    "https://127。0。0。1/",  # ideographic full stops
    "https://%31%32%37.0.0.1/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fe80::1%25eth0]/",
    "https://[2606:2800:220:1:248:1893:25c8:1946]/",
    # names that stay inside
    "https://localhost/",
    "https://LOCALHOST/",
    "https://api.localhost/",
    "https://printer.local/",
    "https://vault.service.internal/",
    "https://metadata.google.internal/",
    "https://router.lan/",
    "https://nas.home.arpa/",
    "https://hidden.onion/",
    "https://database/",
    # no full host
    "https:///path",
    "https://",
    "https://.example.com/",
    "https://example.com./",
    "https://example..com/",
    "https://-example.com/",
    "https://exa_mple.com/",
    f"https://{'a' * 64}.com/",
    f"https://{'a.' * 130}com/",
    # two readers, two hosts
    "https://good.example.com\\@127.0.0.1/",
    "https://good.example.com\\.evil.example.com/",
    "https://a@b@example.com/",
    "https://example.com#@127.0.0.1/",
    "https://example.com:443#/",
    "https:/example.com/",
    "https:example.com/",
    "//example.com/",
    "https://example.com:443:80/",
    "https://exa mple.com/",
    "https://example.com/a b",
    "https://example.com/\r\nHost: inner",
    "https://example.com/\x00",
    "https://example.com/\t",
    " https://example.com/",
    "https://example.com/\n",
    "https://еxample.com/",  # Cyrillic
    "https://bücher.example.com/",
    "https://example.com/ø",
    "https://exam\u00adple.com/",  # soft hyphen
    "https://example.com/%zz",
    # other protocols, other doors
    "http://example.com/",
    "http://localhost/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "https://example.com:80/",
    "https://example.com:22/",
    "https://example.com:5432/",
    "https://example.com:0443/",
    "https://example.com:/",
    "https://example.com:0/",
    "https://example.com:65979/",  # 443 in sixteen bits
    "https://example.com:４４３/",
    # nothing to keep
    "https://user:secret@example.com/",
    "https://user@example.com/",
    "https://@example.com/",
    "https://example.com/page#part",
    "",
]
ALLOWED = [
    ("https://www.example.com/status?id=7", ("www.example.com", 443, "/status?id=7")),
    ("https://www.example.com", ("www.example.com", 443, "/")),
    ("HTTPS://WWW.Example.COM:443/Path", ("www.example.com", 443, "/Path")),
    ("https://hooks.example.com:8443/a%20b?c[]=%2B", ("hooks.example.com", 8443, "/a%20b?c[]=%2B")),
    ("https://xn--bcher-kva.example.com?x", ("xn--bcher-kva.example.com", 443, "/?x")),
    ("https://7f000001.example.com/", ("7f000001.example.com", 443, "/")),
    ("https://localhost.example.com/", ("localhost.example.com", 443, "/")),
    ("https://example.com/@127.0.0.1/", ("example.com", 443, "/@127.0.0.1/")),
]
INNER_ADDRESSES = [
    "0.0.0.0",  # noqa: S104 - to be refused
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",  # IPv4-compatible
    "::ffff:10.0.0.1",
    "::ffff:93.184.216.34",  # what it maps to would do; that it is mapped does not
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:2800:220:1::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC_ADDRESSES = [PUBLIC, "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]


def leading_to(*addresses: str) -> Resolver:
    """A name server that knows one answer."""
    return lambda *_: addresses


def resolving(*answers: Sequence[str]) -> tuple[Guard, list[tuple[str, int]]]:
    """A guard whose name server gives these answers, one after the other, and the list of what it was asked."""
    asked: list[tuple[str, int]] = []
    left = list(answers)

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return left.pop(0) if len(left) > 1 else left[0]

    return Guard(resolve=resolve), asked


def test_there_are_enough_cases():
    assert len(set(REFUSED)) == len(REFUSED) >= 60
    assert len(set(INNER_ADDRESSES)) == len(INNER_ADDRESSES) >= 29


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_that_may_lead_inside_is_refused(url: str):
    guard, asked = resolving([PUBLIC])

    with pytest.raises(Invalid):
        guard.check(url)
    reply = PartnerPipe(guard).call("GET", url, headers={})
    assert reply.status is None
    assert reply.fault.startswith("not called:")
    assert asked == []


@pytest.mark.parametrize(("url", "wanted"), ALLOWED)
def test_an_ordinary_address_is_taken_as_it_is(url: str, wanted: tuple[str, int, str]):
    address = Guard().check(url)

    assert (address.scheme, address.host, address.port, address.target) == ("https", *wanted)


@pytest.mark.parametrize("text", INNER_ADDRESSES)
def test_an_inner_address_is_not_public(text: str):
    guard, _ = resolving([text])

    assert not is_public(ip_address(text))
    with pytest.raises(Invalid):
        guard.addresses(guard.check("https://example.com/"), 5)


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
def test_a_public_address_is_public(text: str):
    guard, _ = resolving([text])

    assert is_public(ip_address(text))
    assert guard.addresses(guard.check("https://example.com/"), 5) == [text]


def test_one_inner_address_among_public_ones_is_enough_to_refuse():
    guard, _ = resolving([PUBLIC, "2606:4700::1111", "10.1.2.3"])

    with pytest.raises(Invalid) as refused:
        guard.addresses(guard.check("https://example.com/"), 5)

    assert "10.1.2.3" not in refused.value.message


@pytest.mark.parametrize("answer", [[], OSError(), UnicodeError()])
def test_a_name_that_does_not_resolve_is_refused(answer: object):
    def resolve(host: str, port: int) -> Sequence[str]:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    guard = Guard(resolve=resolve)

    with pytest.raises(Invalid, match="resolves"):
        guard.addresses(guard.check("https://example.com/"), 5)


def test_a_name_server_that_does_not_answer_is_not_waited_for():
    never = threading.Event()

    def resolve(host: str, port: int) -> Sequence[str]:
        never.wait(30)
        return [PUBLIC]

    guard = Guard(resolve=resolve)

    with pytest.raises(Invalid, match="resolves"):
        guard.addresses(guard.check("https://example.com/"), 0.05)
    never.set()


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/x", "http://127.0.0.1:9/x", "http://[::1]:9/", "https://localhost/"]
)
def test_this_machine_may_be_called_where_that_was_said(url: str):
    guard = Guard(allows_this_machine=True, resolve=leading_to("127.0.0.1", "::1"))

    assert guard.addresses(guard.check(url), 5) == ["127.0.0.1", "::1"]
    with pytest.raises(Invalid):
        Guard().check(url)


@pytest.mark.parametrize("url", ["http://example.com/", "http://127.0.0.2/", "https://127.1/", "http://10.0.0.1/"])
def test_nothing_else_is_called_then(url: str):
    with pytest.raises(Invalid):
        Guard(allows_this_machine=True).check(url)


def test_a_public_name_may_not_lead_to_this_machine_even_then():
    guard = Guard(allows_this_machine=True, resolve=leading_to("127.0.0.1"))

    with pytest.raises(Invalid):
        guard.addresses(guard.check("https://example.com/"), 5)


def test_this_machines_name_may_not_lead_elsewhere():
    guard = Guard(allows_this_machine=True, resolve=leading_to("10.0.0.1"))

    with pytest.raises(Invalid):
        guard.addresses(guard.check("http://localhost/"), 5)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://example.com/a", ("https://example.com/a", None)),
        ("https://us%40er:p%3Aw@example.com/a@b?c", ("https://example.com/a@b?c", "us%40er:p%3Aw")),
        ("https://key@example.com", ("https://example.com", "key")),
        ("https://:pw@example.com", ("https://example.com", ":pw")),
    ],
)
def test_credentials_come_out_of_an_address(url: str, wanted: tuple[str, str | None]):
    assert split_login(url) == wanted


# The connection itself


@pytest.mark.parametrize(
    "url", ["https://partner.no/", "https://PARTNER.no/a", "https://a.example.com/", "https://a.b.example.com"]
)
def test_a_host_that_the_operator_allows_is_called(url: str):
    allowing = Guard(hosts=("partner.no", "*.example.com"))

    assert allowing.check(url).host == url.split("/")[2].lower()


@pytest.mark.parametrize(
    "host",
    [
        *("other.no", "a.partner.no", "xpartner.no", "partner.no.evil.com", "example.com", "xexample.com", "partner.n"),
        *("example.com.evil.com", "partner.no.", "*.example.com"),
    ],
)
def test_where_hosts_are_listed_no_other_is_called(host: str):
    guard, asked = resolving([PUBLIC])
    listing = Guard(resolve=guard.resolve, hosts=("partner.no", "*.example.com"))

    with pytest.raises(Invalid):
        listing.check(f"https://{host}/")
    reply = PartnerPipe(listing).call("POST", f"https://{host}/", headers={}, body=b"secret")

    assert (reply.status, reply.fault[:11]) == (None, "not called:")
    assert asked == []


def anywhere(_: object) -> bool:
    return True


def whole_request(connection: socket.socket) -> bytes:
    """Read a request to its end: a connection that is closed with something unread takes its answer with it."""
    heard, length = b"", 0
    while b"\r\n\r\n" not in heard or len(heard.partition(b"\r\n\r\n")[2]) < length:
        piece = connection.recv(65536)
        if not piece:
            break
        heard += piece
        found = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", heard)
        length = int(found[1]) if found else 0
    return heard


class Listener:
    """A socket on this machine that counts who connects. With a certificate it speaks TLS and answers 204."""

    def __init__(self, certificate: Path | None = None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connected = 0
        self.heard = b""
        self.names: list[str | None] = []
        self._context = self._tls(certificate) if certificate else None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _tls(self, certificate: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        return context

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connected += 1
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                    self.heard = whole_request(connection)
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            except OSError:
                pass
            connection.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path, "partner.example.com")


@pytest.fixture
def listener(certificate: Path) -> Iterator[Listener]:
    made = Listener(certificate)
    yield made
    made.close()


def through_a_hole(listener: Listener, certificate: Path) -> PartnerPipe:
    """A pipe for which this machine's address counts as public, and the listener's port as allowed."""
    guard = Guard(ports=frozenset({listener.port}), resolve=leading_to("127.0.0.1"), may_reach=anywhere)
    return PartnerPipe(guard, ca_file=str(certificate), total_s=5)


def test_a_name_that_turns_inside_between_check_and_call_gets_no_connection(listener: Listener):
    answers = [[PUBLIC], ["127.0.0.1"]]
    guard = Guard(ports=frozenset({listener.port}), resolve=lambda *_: answers.pop(0))
    url = f"https://partner.example.com:{listener.port}/events"

    registered = guard.addresses(guard.check(url), 5)
    reply = PartnerPipe(guard).call("POST", url, headers={}, body=b"{}")

    assert registered == [PUBLIC]
    assert reply.status is None
    assert reply.fault == "not called: the address must lead to public addresses only."
    assert listener.connected == 0


def test_the_connection_goes_to_the_address_that_was_checked_and_asks_for_the_host_by_name(
    listener: Listener, certificate: Path
):
    pipe = through_a_hole(listener, certificate)
    asked: list[tuple[str, int]] = []
    answers = [["127.0.0.1"], ["192.0.2.1"]]

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return answers.pop(0)

    pipe.guard = Guard(ports=frozenset({listener.port}), resolve=resolve, may_reach=anywhere)

    reply = pipe.call("POST", f"https://partner.example.com:{listener.port}/a?b=c", headers={"X-A": "1"}, body=b"{}")

    assert (reply.status, reply.fault) == (204, "")
    assert asked == [("partner.example.com", listener.port)]
    assert listener.names == ["partner.example.com"]
    assert listener.heard.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert f"Host: partner.example.com:{listener.port}\r\n".encode() in listener.heard


def test_a_certificate_for_another_name_is_refused(listener: Listener, certificate: Path):
    pipe = through_a_hole(listener, certificate)

    reply = pipe.call("POST", f"https://other.example.com:{listener.port}/", headers={"X-Key": "k"}, body=b"secret")

    assert (reply.status, reply.fault) == (None, "its certificate is not valid for this host")
    assert listener.heard == b""


def test_a_certificate_that_nobody_vouches_for_is_refused(listener: Listener, certificate: Path):
    pipe = PartnerPipe(through_a_hole(listener, certificate).guard)

    reply = pipe.call("POST", f"https://partner.example.com:{listener.port}/", headers={}, body=b"secret")

    assert (reply.status, reply.fault) == (None, "its certificate is not valid for this host")
    assert listener.heard == b""


def test_a_host_that_speaks_no_tls_gets_nothing(certificate: Path):
    plain = Listener()
    pipe = through_a_hole(plain, certificate)

    reply = pipe.call("POST", f"https://partner.example.com:{plain.port}/", headers={}, body=b"secret")

    plain.close()
    assert reply.status is None
    assert reply.fault in ("no TLS could be agreed on", "broke off without an answer")


def test_a_handshake_that_never_ends_is_cut():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        guard = Guard(ports=frozenset({port}), resolve=leading_to("127.0.0.1"), may_reach=anywhere)

        reply = PartnerPipe(guard, total_s=0.3).call("GET", f"https://partner.example.com:{port}/", headers={})

    assert reply.fault == "no answer in time"


def test_where_nobody_listens_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    guard = Guard(ports=frozenset({port}), resolve=leading_to("127.0.0.1"), may_reach=anywhere)

    assert (
        PartnerPipe(guard).call("GET", f"https://partner.example.com:{port}/", headers={}).fault == "cannot be reached"
    )
