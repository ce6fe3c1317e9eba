"""What our code does not do at all, read from its syntax; and what a process needs before it starts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.test_house import OURS, ROOT, imports_of

SOURCES = [ROOT / "app.py", *OURS]
# Parsers that run what they read, and generators that can be foreseen.
NO_MODULES = {"pickle", "marshal", "shelve", "dill", "yaml", "xml.etree", "lxml", "random", "subprocess", "telnetlib"}
NO_CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "mktemp", "_create_unverified_context"}
# The jitter of a wait is no secret.
CHANCE = {"invoice/schedule.py", "invoice/services/deliveries.py"}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield (where, the name that is called, the call); of `re.compile` the name is "re.compile"."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                last = name.rpartition(".")[2]
                yield f"{path.relative_to(ROOT)}:{node.lineno}", name if name == "re.compile" else last, node


def test_nothing_is_parsed_that_could_run():
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in SOURCES
        for line, name in imports_of(path)
        if name in NO_MODULES or name.split(".")[0] in NO_MODULES
    ]

    assert [f for f in found if f.split(":")[0] not in CHANCE] == []
    assert [where for where, name, _ in calls() if name in NO_CALLS] == []


def test_no_certificate_goes_unchecked_and_no_shell_is_asked():
    careless = {"verify": False, "check_hostname": False, "cert_reqs": "CERT_NONE", "shell": True, "debug": True}

    assert [
        where
        for where, _, call in calls()
        for given in call.keywords
        if given.arg in careless and isinstance(given.value, ast.Constant) and given.value.value == careless[given.arg]
    ] == []
    assert [str(p) for p in SOURCES if re.search(r"CERT_NONE|disable_warnings|\.verify\s*=", p.read_text())] == []


def test_no_statement_is_put_together_from_texts():
    made = (ast.JoinedStr, ast.BinOp)

    found = [
        where
        for where, name, call in calls()
        if name in ("text", "execute", "exec_driver_sql") and call.args and isinstance(call.args[0], made)
    ]

    # Settings of the connection and statuses of our own: constants, every one.
    assert {where.split(":")[0] for where in found} <= {"invoice/store/db.py", "invoice/store/models/charges.py"}


def test_weak_hashes_serve_the_originals_signature_alone():
    weak = [where for where, name, _ in calls() if name in ("md5", "sha1")]

    assert {where.split(":")[0] for where in weak} == {"invoice/signatures.py"}


def test_templates_are_files_of_ours_and_never_texts_of_others():
    assert [where for where, name, _ in calls() if name in ("render_template_string", "from_string", "Template")] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_of_the_stand_in_is_served(app: Flask):
    served = [(str(rule), app.view_functions[rule.endpoint].__module__) for rule in app.url_map.iter_rules()]

    assert [rule for rule, module in served if "/sim" in rule or module.startswith("invoice.simulator")] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_debugging_is_off_and_no_default_opens_anything(app: Flask, tmp_path: Path):
    assert (app.debug, app.config["DEBUG"], app.secret_key) == (False, False, None)

    alone = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", "from app import create_app; create_app()"],
        cwd=ROOT,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    for name in ("INVOICE_SECRET_KEY", "VIPPS_CLIENT_SECRET", "TWILIO_AUTH_TOKEN", "INVOICE_PUBLIC_URL"):
        assert name in said.stderr


def test_no_log_is_kept_by_the_service_itself():
    kept = re.compile(r"FileHandler|SysLogHandler|HTTPHandler|basicConfig|dictConfig|fileConfig")

    assert [str(path) for path in SOURCES if kept.search(path.read_text())] == []
