"""The inventory of what runs in production: whole, at the versions that are pinned and tested, from one repository."""

from __future__ import annotations

import json
import re
from importlib.metadata import requires, version
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_house import ROOT

LISTED: list[dict[str, Any]] = json.loads((ROOT / "docs" / "security" / "sbom.json").read_text())["components"]
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
PINNED = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in PINS}


def in_production() -> set[str]:
    """Return every package that `pip install '.[postgres]' gunicorn` brings along, by what each of them needs."""
    found: set[str] = set()
    waiting = [Requirement("mobile-invoice[postgres]"), Requirement("gunicorn")]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        found.add(canonicalize_name(wanted.name))
        for line in requires(wanted.name) or ():
            needed = Requirement(line)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found - {"mobile-invoice"}


def test_the_inventory_names_everything_that_runs_in_production():
    assert len(LISTED) > 30
    assert in_production() - {canonicalize_name(part["name"]) for part in LISTED} == set()


def test_what_is_listed_is_what_is_pinned_and_what_was_tested():
    listed = {canonicalize_name(part["name"]): part["version"] for part in LISTED}

    assert {name: PINNED.get(name) for name in listed} == listed
    assert {name: version(name) for name in listed} == listed


def test_every_component_is_pinned_to_one_version_and_comes_from_the_one_public_repository():
    assert [str(pin) for pin in PINS if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []
    assert [part["purl"] for part in LISTED if not re.fullmatch(r"pkg:pypi/[\w.-]+@[\w.+-]+", part["purl"])] == []
