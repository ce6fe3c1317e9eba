"""Whether what the demo says, as a process of its own, is really written down and held against the vendor's files."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests import spec
from tests.journeys.demo import EXCHANGES, TIMEOUT_S, Demo
from tests.journeys.test_story import MONTHLY
from tests.traffic import kept_in

if reason := spec.absent():
    pytest.skip(reason, allow_module_level=True)

pytestmark = pytest.mark.journey


def test_what_a_killed_demo_said_is_judged(tmp_path: Path):
    folder = tmp_path / "elsewhere"  # where the check that follows every journey does not look
    folder.mkdir()
    demo = Demo(folder / "data")
    for wrong in (False, True):
        demo.start()
        assert demo.subscribe({**MONTHLY, "orderNumber": f"gym-{wrong}"}).status_code == 200
        if wrong:
            pretended = {"Vipps-System-Name": "mobile-invoice", "Authorization": "Bearer x"}
            requests.post(f"{demo.simulator}/recurring/v3/agreements", json={}, headers=pretended, timeout=TIMEOUT_S)
        demo.kill()
    exchanges = kept_in(folder / EXCHANGES)

    assert len(list((folder / EXCHANGES).iterdir())) == 2
    ours = [(spec.operation_of(each), each.status) for each in exchanges if each.is_ours]
    assert ours.count((("POST", "/recurring/v3/agreements"), 201)) == 2
    assert ours.count((("POST", "/accesstoken/get"), 200)) == 2
    spec.check(exchanges[:-1])
    with pytest.raises(AssertionError, match=r"request POST /recurring/v3/agreements -> 401: .*'pricing' is a req"):
        spec.check(exchanges)
