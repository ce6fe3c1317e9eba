"""One pass of the kills: every boundary of the code has its flow, and is died at on SQLite, before and after."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.proofs import boundaries, kills
from tests.proofs.boundaries import ROOT
from tests.proofs.kill_flows import FLOWS, REACHED_BY, UNREACHED
from tests.proofs.kill_load import outages, random_kills
from tests.proofs.kill_postgres import a_postgres
from tests.proofs.kill_world import prepared
from tests.proofs.kills import Matrix


def test_every_boundary_of_the_code_has_a_flow_that_reaches_it():
    assert set(REACHED_BY) & set(UNREACHED) == set()
    assert set(boundaries.boundaries()) - set(REACHED_BY) - set(UNREACHED) == set()
    assert (set(REACHED_BY) | set(UNREACHED)) - set(boundaries.boundaries()) == set()
    assert set(REACHED_BY.values()) == set(FLOWS)


def test_no_transaction_is_overlooked():
    sources = [path.read_text() for path in (ROOT / "invoice" / "services").glob("*.py")]

    assert len(boundaries.blocks()) == sum(source.count("with transaction()") for source in sources)
    assert sum(source.count("transaction()") for source in sources) == len(boundaries.blocks())


def test_what_asks_nobody_is_no_boundary():
    verbs = {f"{port}.{name}" for port, names in boundaries.ports().items() for name in names}

    assert verbs >= boundaries.ASK_NOBODY
    assert verbs - boundaries.ASK_NOBODY == set(boundaries.verbs())


def test_wherever_the_matrix_is_broken_off_what_was_run_is_spread_over_all_of_it():
    every = kills.cells()

    spread = kills.spread(every)

    assert set(spread) == set(every)
    assert len(spread) == len(every)
    for count in (20, 50, 100):
        places = sorted(every.index(cell) for cell in spread[:count])
        assert max(b - a for a, b in pairwise([0, *places, len(every)])) < 3 * len(every) / count


@pytest.fixture(scope="session")
def matrix() -> Iterator[Matrix]:
    with kills.a_world("sqlite") as world:
        yield Matrix(world)


@pytest.mark.journey
@pytest.mark.parametrize("flow", FLOWS)
def test_a_death_at_every_boundary_leaves_nothing_lost_and_nothing_twice(matrix: Matrix, flow: str):
    assert {side: matrix.pass_through(flow, side) for side in kills.SIDES} == {side: [] for side in kills.SIDES}


@pytest.mark.journey
def test_workers_that_are_killed_under_load_lose_nothing():
    with kills.a_world("sqlite") as world:
        assert random_kills(world, 2, seed=1) == []


@pytest.mark.journey
def test_a_database_that_is_killed_is_told_as_503_and_loses_nothing():
    with kills.a_folder() as folder, a_postgres() as server, prepared(folder, server) as world:
        assert outages(world, 1, seed=1, away=server.kill_all, back=server.start) == []


@pytest.mark.journey
def test_statements_that_find_no_page_are_told_as_503_and_lose_nothing():
    assert kills._no_page(1, seed=1) == []


@pytest.mark.journey
def test_commits_that_find_no_room_on_the_disk_are_told_as_503_and_lose_nothing():
    try:
        wrong = kills._full_sqlite(1, seed=1)
    except OSError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))

    assert wrong == []
