"""The house rules, as tests. If one of them is wrong, change the rule, its reason and this file in one commit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from invoice import lifecycle
from invoice.lifecycle import CHARGE_STATUS_WORDS, ChargeStatus, SubscriptionStatus
from invoice.services import books, outbox, views
from invoice.services.jobs import Jobs
from invoice.web.auth import MARK

ROOT = Path(__file__).parents[1]
HOUSE = [p for p in (ROOT / "invoice").rglob("*.py") if "migrations" not in p.parts]
SIMULATOR = [p for p in HOUSE if "simulator" in p.relative_to(ROOT).parts]
OURS = [p for p in HOUSE if p not in SIMULATOR]

RULES = {
    *("cards", "ciphers", "clock", "config", "errors", "lifecycle", "money", "names", "phone", "request_ids"),
    *("schedule", "signatures"),
}
# floor -> what of ours it may import (beside itself)
MAY_IMPORT = {
    "rules": set(),
    "store": {"rules"},
    "providers": {"rules"},
    "services": {"rules", "store", "providers.base", "providers.http", "providers.guard", "providers.outbound"},
    "engine": {"rules", "services"},
    "web": {"rules", "services", "store.queries", "providers.base"},
    "cli": {"rules", "services", "simulator"},
}
# outside libraries that a floor must not know
NEVER = {
    "rules": {"flask", "sqlalchemy", "flask_sqlalchemy", "requests", "twilio"},
    "store": {"flask", "requests", "twilio"},
    "providers": {"flask", "sqlalchemy", "flask_sqlalchemy", "os"},
    "services": {"flask", "requests", "twilio"},
    "web": {"sqlalchemy", "twilio"},
}
PUBLIC = {
    "api_docs.show_document",
    "api_docs.show_page",
    "health.healthz",
    "health.readyz",
    "hooks.twilio",
    "hooks.vipps",
    "pages.ask_to_stop",
    "pages.come_back",
    "pages.manage",
    "pages.open_consent",
    "pages.process",
    "pages.ring",
    "pages.see",
    "pages.show_offer",
    "pages.stop",
}


def floor_of(parts: tuple[str, ...]) -> str:
    """Return the floor of a module, such as ("invoice", "store", "db")."""
    room = parts[1] if len(parts) > 1 else ""
    return "rules" if room in RULES or not room else room


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything that a file imports, wherever it stands in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                is_module = (ROOT / (node.module or "").replace(".", "/") / f"{alias.name}.py").exists()
                yield node.lineno, f"{node.module}.{alias.name}" if is_module else str(node.module)


def lines_with(pattern: str, files: list[Path], *allowed: str) -> list[str]:
    found = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        if str(path.relative_to(ROOT)) not in allowed
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if found.search(line)
    ]


def test_imports_only_fall():
    wrong = []
    for path in OURS:
        own = floor_of(path.relative_to(ROOT).with_suffix("").parts)
        for line, name in imports_of(path):
            if not name.startswith("invoice"):
                continue
            parts = tuple(name.split("."))
            target = floor_of(parts)
            exact = ".".join(parts[1:3])
            if target != own and not {target, exact} & MAY_IMPORT[own]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} ({own}) imports {name} ({target})")

    assert wrong == []


def test_no_floor_knows_what_it_must_not():
    wrong = []
    for path in OURS:
        floor = floor_of(path.relative_to(ROOT).with_suffix("").parts)
        for line, name in imports_of(path):
            if name.split(".")[0] in NEVER.get(floor, set()) and (floor, name) != ("store", "flask_sqlalchemy"):
                wrong.append(f"{path.relative_to(ROOT)}:{line} ({floor}) imports {name}")

    assert wrong == []


def test_the_simulator_imports_nothing_of_ours():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in SIMULATOR
        for line, name in imports_of(path)
        if (name.startswith("invoice") and not name.startswith("invoice.simulator")) or name == "app"
    ]

    assert wrong == []


def test_only_the_command_line_starts_the_simulator():
    assert lines_with(r"invoice\.simulator", OURS, "invoice/cli/demo_world.py", "invoice/cli/stand_in.py") == []


def test_nothing_imports_the_front_door():
    assert [p for p in HOUSE for _, name in imports_of(p) if name == "app" or name.startswith("app.")] == []


def test_subscriptions_and_charges_meet_only_in_the_tables():
    services = ROOT / "invoice" / "services"
    from_subscriptions = {name for _, name in imports_of(services / "subscriptions.py")}
    from_charges = {name for _, name in imports_of(services / "charges.py")}

    assert not any(name.startswith("invoice.services.charges") for name in from_subscriptions)
    assert not any(name.startswith("invoice.services.subscriptions") for name in from_charges)


def test_only_one_place_commits():
    assert lines_with(r"\.commit\(", OURS, "invoice/store/db.py") == []


def test_only_services_open_transactions():
    floors = [p for p in OURS if p.relative_to(ROOT).parts[1] not in ("services", "store")]

    assert lines_with(r"\btransaction\(\)|db\.session|\breading\(\)", floors) == []


def test_only_one_place_reads_the_environment():
    # What the web server says of a request stands in a mapping of the same name.
    allowed = ("invoice/config.py", "invoice/web/auth.py", "invoice/web/headers.py")

    assert lines_with(r"\benviron\b(?!:|\()|\bgetenv\b", OURS, *allowed) == []


def test_only_one_place_asks_the_time():
    asking = r"datetime\.now\(|utcnow\(|date\.today\(|time\.time\(|time\.monotonic\(|perf_counter\("

    assert lines_with(asking, OURS, "invoice/clock.py") == []


def test_nothing_sleeps():
    assert lines_with(r"\bsleep\(", [*OURS, *(ROOT / "tests").rglob("*.py")], "tests/test_house.py") == []


def test_everything_is_caught_only_at_the_edges():
    edges = ("invoice/web/errors.py", "invoice/services/jobs.py", "invoice/engine/inline.py")

    assert lines_with(r"except (Base)?Exception\b|except:", OURS, *edges) == []


def test_every_route_says_who_may_call_it(app: Flask):
    marks = {
        rule.endpoint: getattr(app.view_functions[rule.endpoint], MARK, None)
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static"
    }

    assert [endpoint for endpoint, mark in marks.items() if mark is None] == []
    assert {endpoint for endpoint, mark in marks.items() if mark == "public"} == PUBLIC


@pytest.mark.parametrize(
    ("moves", "statuses"),
    [
        (lifecycle.SUBSCRIPTION_MOVES, lifecycle.SubscriptionStatus),
        (lifecycle.AGREEMENT_MOVES, lifecycle.AgreementStatus),
        (lifecycle.CHARGE_MOVES, lifecycle.ChargeStatus),
        (lifecycle.MESSAGE_MOVES, lifecycle.MessageStatus),
    ],
)
def test_every_status_has_its_moves(moves, statuses):
    assert set(moves) == set(statuses)


def test_every_subscription_status_has_a_word_and_a_state_on_the_page():
    assert set(CHARGE_STATUS_WORDS) == set(SubscriptionStatus)
    assert set(views._STATES) == set(SubscriptionStatus)


def test_every_charge_status_that_a_person_sees_has_a_state_on_the_page():
    hidden = {ChargeStatus.VOID, ChargeStatus.REFUSED}

    assert set(views._HISTORY_STATES) == set(ChargeStatus) - hidden


def test_every_event_that_is_told_stands_in_the_table():
    told = set(books.EVENT_OF.values())
    for path in (ROOT / "invoice" / "services").glob("*.py"):
        told |= set(re.findall(r'"((?:subscription|consent|charge|capture|refund)\.[a-z_]+)"', path.read_text()))

    assert told - {f"message.{s.lower()}" for s in lifecycle.MessageStatus} <= set(outbox.EVENTS)
    assert {e for e in outbox.EVENTS if not e.startswith("message.")} <= told


def test_every_job_has_a_test(jobs: Jobs):
    tests = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))

    assert [job.name for job in jobs.table if f"job_{job.name}" not in tests and f'"{job.name}"' not in tests] == []


def test_no_file_has_outgrown_its_room():
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in OURS}

    # The port: every verb and every value that passes between the services and a payment provider, at one glance.
    allowed = {"invoice/providers/base.py": 380}
    assert {name: size for name, size in long.items() if size > allowed.get(name, 300)} == {}


def test_no_function_has_outgrown_its_page():
    long = []
    for path in HOUSE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                if size > 45:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {size} lines")

    assert long == []


def test_every_module_says_what_lives_in_it():
    assert [str(p.relative_to(ROOT)) for p in HOUSE if ast.get_docstring(ast.parse(p.read_text())) is None] == []
