"""The tables of docs/security: every number once, every test there, every word of "no" with its reason."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "security"
NODE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
PAGE = re.compile(r"`((?:docs/)?[\w./-]+\.md)`")

# Section of ASVS 5.0.0 -> the level of each of its requirements, from .1 on.
LEVELS = {
    "1.1": "22", "1.2": "1111122223", "1.3": "112222222223", "1.4": "222", "1.5": "123",
    "2.1": "122", "2.2": "112", "2.3": "12223", "2.4": "23",
    "3.1": "3", "3.2": "113", "3.3": "12223", "3.4": "11222233", "3.5": "11122333", "3.6": "3", "3.7": "22333",
    "4.1": "12233", "4.2": "23333", "4.3": "22", "4.4": "1222",
    "5.1": "2", "5.2": "112333", "5.3": "113", "5.4": "222",
    "6.1": "122", "6.2": "111111112222", "6.3": "11223333", "6.4": "112233", "6.5": "22222333", "6.6": "2223",
    "6.7": "33", "6.8": "2222",
    "7.1": "222", "7.2": "1111", "7.3": "22", "7.4": "11222", "7.5": "223", "7.6": "22",
    "8.1": "1233", "8.2": "1123", "8.3": "133", "8.4": "23",
    "9.1": "111", "9.2": "1222",
    "10.1": "22", "10.2": "223", "10.3": "22223", "10.4": "1111122222233333", "10.5": "22222", "10.6": "22",
    "10.7": "222",
    "11.1": "2233", "11.2": "22233", "11.3": "11233", "11.4": "1222", "11.5": "23", "11.6": "23", "11.7": "33",
    "12.1": "12233", "12.2": "11", "12.3": "22223",
    "13.1": "2333", "13.2": "222223", "13.3": "2233", "13.4": "1222233",
    "14.1": "22", "14.2": "12223333", "14.3": "122",
    "15.1": "12233", "15.2": "12233", "15.3": "1222222", "15.4": "3333",
    "16.1": "2", "16.2": "22222", "16.3": "2222", "16.4": "222", "16.5": "2223",
    "17.1": "23", "17.2": "22223333", "17.3": "22",
}  # fmt: skip
REQUIRED = {
    f"V{section}.{number}": level
    for section, levels in LEVELS.items()
    for number, level in enumerate(levels, 1)
    if level in "12"
}


def rows(page: str) -> list[list[str]]:
    """Return the cells of each row of a page's tables, without heads and rules."""
    lines = [line for line in (FOLDER / page).read_text().splitlines() if re.match(r"\| V?\d", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


ASVS, CHECKLIST = rows("asvs.md"), rows("checklist.md")


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def missing(cell: str) -> list[str]:
    """Return what a cell names and is not there."""
    lost = [name for path, name in NODE.findall(cell) if not (ROOT / path).exists() or name not in functions_of(path)]
    return lost + [page for page in PAGE.findall(cell) if not (ROOT / page).exists()]


def test_each_requirement_stands_there_once_with_its_level():
    assert Counter(REQUIRED.values()) == {"1": 70, "2": 183}
    assert [row[0] for row in ASVS] == list(REQUIRED)
    assert {row[0]: row[1] for row in ASVS} == REQUIRED


@pytest.mark.parametrize("row", ASVS, ids=lambda row: row[0])
def test_a_verdict_has_what_it_needs(row: list[str]):
    _, _, subject, verdict, why = row

    assert subject
    assert verdict in ("pass", "n/a", "open")
    assert missing(why) == []
    # What must be written down is shown by the page, everything else by a test.
    assert verdict != "pass" or NODE.search(why) or PAGE.search(why)
    assert verdict == "pass" or re.search(r"\w+ \w+", why)


def test_the_checklist_is_whole():
    assert [row[0] for row in CHECKLIST] == [str(number) for number in range(1, 58)]


@pytest.mark.parametrize("row", CHECKLIST, ids=lambda row: row[0])
def test_a_control_has_what_it_needs(row: list[str]):
    _, control, verdict, shown, but = row

    assert control
    assert verdict in ("pass", "part", "open", "n/a")
    assert missing(shown) == []
    assert verdict != "pass" or NODE.search(shown)
    assert verdict == "pass" or but


@pytest.mark.parametrize(("page", "told"), [("asvs.md", ASVS), ("checklist.md", CHECKLIST)])
def test_the_sums_at_the_top_are_right(page: str, told: list[list[str]]):
    count = Counter(row[3 if told is ASVS else 2] for row in told)
    line = next(each for each in (FOLDER / page).read_text().splitlines() if re.match(r"\d+ pass", each))

    asvs = [count["pass"], count["n/a"], count["open"]]
    checklist = [count["pass"], count["part"], count["open"], count["n/a"]]
    assert [int(number) for number in re.findall(r"\d+", line)] == (asvs if told is ASVS else checklist)
