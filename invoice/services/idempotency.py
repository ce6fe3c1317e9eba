"""One request, one outcome: what came under an idempotency key, what it has made, and what was answered.

The key is a row before the work begins. The work writes into it what it has made, in its own transaction
(`remember`), and the answer comes last. So a process that is killed between any two leaves a key that says how far it
came: whoever sends the request again takes it over, and finds (`made_by`) what is made already.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import delete, select, update

from invoice.clock import glances, utc_now
from invoice.errors import Busy, KeyReused
from invoice.store.db import db, reading, transaction
from invoice.store.models import IdempotencyKey
from invoice.store.queries import insert_ignoring

# Longer than any request works; after it the one who began is taken for dead.
_LEASE = timedelta(seconds=90)
_PATIENCE_S = 3.0
_KEPT = timedelta(days=30)
_SLICE = 10_000


@dataclass(frozen=True)
class Attempt:
    """A request that is being carried out under a key. tag: the same for the same key of the same partner."""

    id: int
    fence: int
    tag: str


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    status: int
    content_type: str
    body: bytes


def begin(partner_id: int, key: str, digest: bytes) -> Attempt | Answer:
    """Take up a request, or return what it was answered; while another carries it out, wait for that for a moment.

    digest: the same for the same request only.
    Raises KeyReused when the key stands for another request, Busy when the first is still under way.
    """
    for _ in glances(_PATIENCE_S):
        with reading():
            held = _find(partner_id, key)
            answer = _answer(held, digest) if held else None
            is_free = held is None or _is_free(held, utc_now())
        found = answer or (_take(partner_id, key, digest) if is_free else None)
        if found is not None:
            return found
    raise Busy


def bind(partner_id: int, key: str, digest: bytes) -> None:
    """Have a key stand for one request whose outcome is read from the books each time. Raises KeyReused."""
    row = {"partner_id": partner_id, "key": key, "digest": digest, "fence": 1, "created_at": utc_now()}
    with transaction():
        insert_ignoring(IdempotencyKey, [row])
        held = _find(partner_id, key)
        if held is None or held.digest != digest:
            raise KeyReused


def _find(partner_id: int, key: str) -> IdempotencyKey | None:
    mine = (IdempotencyKey.partner_id == partner_id, IdempotencyKey.key == key)
    return db.session.scalar(select(IdempotencyKey).where(*mine))


def _answer(held: IdempotencyKey, digest: bytes) -> Answer | None:
    if held.digest != digest:
        raise KeyReused
    if held.status is None:
        return None
    return Answer(held.status, str(held.content_type), held.body or b"")


def _is_free(held: IdempotencyKey, now: datetime) -> bool:
    return held.status is None and (held.locked_at is None or now - held.locked_at > _LEASE)


def _take(partner_id: int, key: str, digest: bytes) -> Attempt | None:
    """Take a new key, or one whose work nobody does any more; None when another was quicker."""
    now = utc_now()
    row = {"partner_id": partner_id, "key": key, "digest": digest, "locked_at": now, "fence": 1, "created_at": now}
    with transaction():
        is_new = bool(insert_ignoring(IdempotencyKey, [row]))
        mine = (IdempotencyKey.partner_id == partner_id, IdempotencyKey.key == key)
        held = db.session.scalars(select(IdempotencyKey).where(*mine).with_for_update()).one()
        if not is_new and (held.digest != digest or not _is_free(held, now)):
            return None
        if not is_new:
            held.locked_at, held.fence = now, held.fence + 1
        tag = sha256(f"{partner_id}|{key}".encode()).hexdigest()[:12]
        return Attempt(held.id, held.fence, tag)


def made_by(attempt: Attempt | None) -> int | None:
    """Return what an earlier try of this request has made, or None.

    Holds the key until the caller's transaction ends, so that of two tries at once only one makes anything.
    """
    if attempt is None:
        return None
    mine = IdempotencyKey.id == attempt.id
    return db.session.scalars(select(IdempotencyKey.subject_id).where(mine).with_for_update()).one()


def remember(attempt: Attempt | None, subject_id: int) -> None:
    """Write down, in the transaction that makes it, what a request has made."""
    if attempt is not None:
        made = update(IdempotencyKey).where(IdempotencyKey.id == attempt.id).values(subject_id=subject_id)
        db.session.execute(made)


def complete(attempt: Attempt, answer: Answer) -> None:
    """Keep the answer for whoever sends the request again."""
    _write(attempt, status=answer.status, content_type=answer.content_type, body=answer.body)


def give_back(attempt: Attempt) -> None:
    """Have the request carried out again at once when it comes again: what was answered is no outcome."""
    _write(attempt, locked_at=None)


def _write(attempt: Attempt, **values: object) -> None:
    newest = (IdempotencyKey.id == attempt.id, IdempotencyKey.fence == attempt.fence, IdempotencyKey.status.is_(None))
    with transaction():
        db.session.execute(update(IdempotencyKey).where(*newest).values(**values))


def forget_old() -> int:
    """Drop keys that are older than we promise to know them; return how many there were."""
    old = select(IdempotencyKey.id).where(IdempotencyKey.created_at < utc_now() - _KEPT).limit(_SLICE)
    with transaction():
        forgotten = delete(IdempotencyKey).where(IdempotencyKey.id.in_(old))
        return int(db.session.execute(forgotten).rowcount)  # type: ignore[attr-defined]
