"""Same key and same request: same answer, also after a restart. It is kept with its effect, in one commit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta

from invoice.simulator.act import Act, Call
from invoice.simulator.answers import Answer
from invoice.simulator.models import KeptAnswer
from invoice.simulator.problems import Problem, Refusal


def check_key(key: str | None) -> str:
    """Return the Idempotency-Key. Raises Problem if it is missing or holds what the vendor refuses.

    Source: Vipps Recurring v3 (1 to 40 characters, none of # ? / and backslash); a colon was refused as well (2026-08).
    """
    if not key:
        raise Problem("missing-request-header", "Idempotency-Key is required.", [("Idempotency-Key", "Is required")])
    if not re.fullmatch(r"[\x21-\x7e]{1,40}", key) or re.search(r"[#?/\\:]", key):
        raise Problem(
            "idempotency-key-header", "Invalid value for Idempotency-Key", [("Idempotency-Key", "Invalid value")]
        )
    return key


def fingerprint(method: str, path: str, body: bytes) -> str:
    """Return what makes a request the same request: method, path and the bytes of the body."""
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(errors="replace"), body))).hexdigest()


def once(act: Call, mark: str, path: str, work: Callable[[], Answer]) -> Answer:
    """Return the kept answer, or do `work` and keep its answer; a refusal is an answer, too, and undoes what it began.

    Raises Problem if the key was used for another request.
    """
    kept = _kept(act)
    if kept and kept.fingerprint != mark:
        raise Problem("idempotency-conflict", "The Idempotency-Key was used for another request.")
    if kept:
        return Answer(kept.status, kept.body, kept.content_type)
    answer = undone_if_refused(act, path, work)
    if act.switches.idempotency_hours and answer.status < 500:
        act.session.merge(
            KeptAnswer(
                msn=act.msn,
                key=act.key,
                fingerprint=mark,
                kept_at=act.now,
                status=answer.status,
                content_type=answer.content_type,
                body=answer.body,
            )
        )
    return answer


def _kept(act: Call) -> KeptAnswer | None:
    kept = act.session.get(KeptAnswer, (act.msn, act.key))
    life = timedelta(hours=act.switches.idempotency_hours)
    return kept if kept and act.now - kept.kept_at < life else None


def undone_if_refused(act: Act, path: str, work: Callable[[], Answer]) -> Answer:
    """Do `work`; if it is refused, take back whatever it had begun and return the refusal as the answer."""
    act.session.flush()
    try:
        with act.session.begin_nested():
            return work()
    except Refusal as refusal:
        return refusal.answer(path)
