"""Whether what our client says to the fake Vipps is really held against the vendor's files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from invoice.errors import ProviderError
from invoice.providers.vipps import VippsClient
from tests import spec
from tests.providers.conftest import OUTSIDE_THE_FILES, FakeVipps, complaints
from tests.traffic import Sent

if reason := spec.absent():
    pytest.skip(reason, allow_module_level=True)

A_REFUND = '{"amount":100,"description":"x"}'


def said(vipps: VippsClient, fake_vipps: FakeVipps, say: Callable[[VippsClient], Any]) -> list[Sent]:
    """Have our client say something, and take it away from the check that follows every test."""
    with suppress(ProviderError):
        say(vipps)
    found = list(fake_vipps.sent)
    fake_vipps.sent.clear()
    return found


def test_every_request_is_written_down_as_it_came(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    sent = said(vipps, fake_vipps, lambda c: c.refund_charge("agr_1", "a/b", A_REFUND, key="key-1"))

    assert [str(each) for each in sent] == [
        "POST /accesstoken/get",
        "POST /recurring/v3/agreements/agr_1/charges/a%2Fb/refund",
    ]
    assert sent[0].headers["client_secret"] == "the-client-secret"
    assert (sent[1].body, sent[1].headers["Idempotency-Key"]) == (A_REFUND.encode(), "key-1")
    assert all(each.is_ours for each in sent)
    assert complaints(sent) == []


@pytest.mark.parametrize(
    ("say", "complaint"),
    [
        (lambda c: c.draft_agreement('{"productName":"x"}', key="k"), "'pricing' is a required property"),
        (lambda c: c.refund_charge("a", "b", A_REFUND.replace("100", '"1"'), key="k"), "amount: '1' is not of type"),
        (lambda c: c.refund_charge("a", "b", A_REFUND.replace("amount", "sum"), key="k"), "'sum' was unexpected"),
        (lambda c: c.create_charges('[{"due":"2030-01-01T00:00:00Z"}]', key="k"), "due is not YYYY-MM-DD"),
        (lambda c: c.stop_agreement("agr_1", key="a/b"), "Idempotency-Key"),
        (lambda c: c.stop_agreement("agr_1", key="k" * 41), "Idempotency-Key"),
        (lambda c: c.delete_webhook("w2"), "path id: 'w2' is not a 'uuid'"),
        (lambda c: c.draft_agreement("{}", key="a/b"), "Idempotency-Key"),
        (lambda c: c.draft_agreement("{}", key="k"), "'pricing' is a required property"),
        (lambda c: c.create_charges('[{"orderId":"a"}]', key="k"), "'agreementId' is a required property"),
        (lambda c: c.update_agreement("agr_1", '{"pricing":{"price":1}}', key="k"), "'price' was unexpected"),
        (lambda c: c.capture_charge("a", "b", "{}", key="k"), "'amount' is a required property"),
    ],
)
def test_a_wrong_request_of_our_client_is_complained_about(
    vipps: VippsClient, fake_vipps: FakeVipps, say: Callable[[VippsClient], Any], complaint: str
) -> None:
    sent = said(vipps, fake_vipps, say)

    with pytest.raises(AssertionError, match=complaint):
        spec.complain(complaints(sent))


@pytest.mark.parametrize("name", OUTSIDE_THE_FILES)
def test_what_is_excused_exists(name: str) -> None:
    assert any(f"def {name}(" in path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
