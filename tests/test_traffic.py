"""How what is said to Vipps is written down, and when it is held against the vendor's files."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from werkzeug.datastructures import Headers

from tests import spec
from tests.traffic import Exchange, keep_in, kept_in, listen, record


def test_the_vendors_files_are_at_hand() -> None:
    if reason := spec.absent():
        pytest.skip(f"NOTHING THAT IS SAID TO VIPPS IS CHECKED: {reason}")

    assert all(spec.documented(name) for name in spec.FILES)


def test_a_folder_that_is_not_there_excuses_the_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "true"):
        monkeypatch.setenv("CI", value)

        assert "vipps-webhooks" in str(spec.absent(tmp_path / "none"))


def test_a_missing_file_excuses_the_checks_but_not_in_continuous_integration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (spec.RECURRING, spec.TOKEN):
        (tmp_path / f"{name}.yaml").touch()

    monkeypatch.setenv("CI", "")
    assert str(spec.absent(tmp_path)).endswith("['vipps-webhooks']")
    monkeypatch.setenv("CI", "true")
    assert spec.absent(tmp_path) is None


def an_exchange(path: str = "/recurring/v3/agreements") -> Exchange:
    return Exchange(
        method="GET",
        path=path,
        query="status=ACTIVE",
        headers=Headers([("client_id", "x"), ("Twice", "1"), ("Twice", "2")]),
        body=bytes(range(256)),
        status=200,
        answer_headers=Headers([("Content-Type", "application/json")]),
        answer_body="Blåbær\r\n\u2028".encode(),
        fault="slow",
    )


def test_what_processes_wrote_into_a_folder_is_read_back(tmp_path: Path) -> None:
    first, second = keep_in(tmp_path / "new"), keep_in(tmp_path / "new")
    for keep, path in ((first, "/a"), (second, "/c"), (first, "/b")):
        keep(an_exchange(path))

    assert kept_in(tmp_path / "new") == [an_exchange(path) for path in ("/a", "/b", "/c")]


def test_a_line_that_a_kill_tore_is_left_out(tmp_path: Path) -> None:
    for path in ("/a", "/b"):
        keep = keep_in(tmp_path)
        keep(an_exchange(path))
        keep(an_exchange("/torn"))
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-20])

    assert [each.path for each in kept_in(tmp_path)] == ["/a", "/b"]


def test_a_line_that_nothing_can_have_torn_is_an_error(tmp_path: Path) -> None:
    keep_in(tmp_path)(an_exchange())
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[20:])

    with pytest.raises(ValueError, match="Expecting value"):
        kept_in(tmp_path)


def test_only_the_vendors_paths_are_listened_to(tmp_path: Path) -> None:
    app = Flask("any")
    app.add_url_rule("/<path:_>", view_func=lambda _: "said", methods=["GET", "POST"])
    exchanges = record(app)
    listen(app, keep_in(tmp_path))
    caller = app.test_client()

    for path in ("/sim/clock", "/recurring", "/2010-04-01/Accounts/x"):
        caller.get(path)
    heard = caller.post("/recurring/a%2Fb?c=%20d", data=b"body", headers={"client-id": "me", "X-Odd": "å"})

    assert heard.data == b"said"
    [exchange] = exchanges
    assert (str(exchange), exchange.body, exchange.answer_body) == (
        "POST /recurring/a%2Fb?c=%20d -> 200",
        b"body",
        b"said",
    )
    assert exchange.headers["client_id"] == "me"
    assert kept_in(tmp_path) == exchanges
