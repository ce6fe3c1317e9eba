"""How often we call: one count for all workers, in the database.

Each kind of call has a bucket that fills by the call and empties with time (the generic cell rate algorithm). Half of
a minute's share may go at once and the other half over the minute, so that no minute, wherever it begins, sees more
than the provider allows.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select

from invoice.clock import utc_now
from invoice.errors import ProviderUnavailable
from invoice.store.db import db, transaction
from invoice.store.models import RateLimit
from invoice.store.queries import insert_ignoring

_MINUTE = timedelta(minutes=1)
# A bucket that is used up for longer than this was written by a clock that went wrong.
_LONGEST = timedelta(hours=1)


class SharedRates:
    """Buckets in the database; a killed worker takes nothing with it but the call that it had counted."""

    def take(self, bucket: str, per_minute: int) -> None:
        """Count one call. Raises ProviderUnavailable, with the seconds to wait, when it would be one too many."""
        now = utc_now()
        at_once = max(per_minute // 2, 1)
        each = _MINUTE / max(per_minute - at_once, 1)
        with transaction():
            row = _row(bucket, now)
            used_until = min(max(row.used_until, now), now + _LONGEST)
            wait = max(used_until + each - now - each * at_once, _held(row, now))
            # Written also when it is refused: what a wrong clock wrote is mended then.
            row.used_until = used_until + each if wait <= timedelta(0) else used_until
        if wait > timedelta(0):
            raise ProviderUnavailable("our share of calls is used up", retry_after_s=wait / timedelta(seconds=1))

    def hold(self, bucket: str, seconds: float) -> None:
        """Let nobody call before so many seconds have passed."""
        now = utc_now()
        with transaction():
            row = _row(bucket, now)
            row.held_until = now + max(min(timedelta(seconds=seconds), _LONGEST), _held(row, now))

    def forget_old(self) -> int:
        """Drop the buckets that have long been empty; return how many there were."""
        before = utc_now() - _LONGEST
        with transaction():
            is_idle = (RateLimit.used_until < before, RateLimit.held_until.is_(None) | (RateLimit.held_until < before))
            return int(db.session.execute(delete(RateLimit).where(*is_idle)).rowcount)  # type: ignore[attr-defined]


def _row(bucket: str, now: datetime) -> RateLimit:
    """Return the bucket's row, locked."""
    insert_ignoring(RateLimit, [{"bucket": bucket, "used_until": now}])
    return db.session.scalars(select(RateLimit).where(RateLimit.bucket == bucket).with_for_update()).one()


def _held(row: RateLimit, now: datetime) -> timedelta:
    left = row.held_until - now if row.held_until else timedelta(0)
    return left if left <= _LONGEST else timedelta(0)
