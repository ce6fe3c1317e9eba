"""What came of an act that a partner asked for by the provider's ids, as a value: who tells it chooses the words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from invoice.errors import (
    Exchange,
    InvoiceError,
    ProviderDenied,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
)


class Standing(StrEnum):
    """How far it has come."""

    DONE = "DONE"  # the provider has it
    ACCEPTED = "ACCEPTED"  # it stands in the books and is sent, as often as need be
    UNKNOWN = "UNKNOWN"  # it may have happened; it is settled by itself
    REFUSED = "REFUSED"  # nothing happened, and nothing will


@dataclass(frozen=True)
class Outcome:
    """What came of one act. id: of the agreement or the charge, as the partner calls it."""

    id: str
    standing: Standing
    error: InvoiceError | None = None  # why it did not come further
    heard: Exchange | None = None  # what the provider answered to the very act, where it was asked

    @property
    def is_well(self) -> bool:
        """Whether nothing is left for the partner to do."""
        return self.standing in (Standing.DONE, Standing.ACCEPTED)


def of(act_id: str, error: ProviderError | None, heard: Exchange | None = None) -> Outcome:
    """Return what came of an act that the books hold and that is tried again until it is settled."""
    if error is None:
        return Outcome(act_id, Standing.DONE, heard=heard)
    if isinstance(error, ProviderUnavailable):
        return Outcome(act_id, Standing.ACCEPTED, error, heard)
    standing = Standing.REFUSED if isinstance(error, ProviderRefused) else Standing.UNKNOWN
    return Outcome(act_id, standing, error, heard)


def no(act_id: str, error: InvoiceError, heard: Exchange | None = None) -> Outcome:
    """Return what did not happen."""
    return Outcome(act_id, Standing.REFUSED, error, heard)


def is_failure(error: ProviderError | None, *, literal: bool) -> bool:
    """Tell whether a caller is told that what was surely not sent has failed, so that it must not happen later.

    literal: to this one every call that went wrong at the provider's end is a failure.
    """
    if isinstance(error, ProviderUnavailable):
        return literal and bool(error.origin.failure or error.origin.exchange)
    return isinstance(error, ProviderDenied)
