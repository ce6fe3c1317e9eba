"""The accounts at the payment provider: the platform's own, and those that partners bring.

A call goes out under the account that its agreement was asked for with, whatever its partner uses today.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm.attributes import flag_modified

from invoice.clock import utc_now
from invoice.errors import Conflict, NotFound, ProviderDenied
from invoice.providers.base import PaymentProvider
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import (
    CallbackLogin,
    EventEndpoint,
    Partner,
    PartnerSecret,
    ProviderAccount,
    WebhookRegistration,
)

# What rests encrypted, beside the kept answers.
_SECRETS: tuple[tuple[type, Sequence[str]], ...] = (
    (ProviderAccount, ("client_secret", "subscription_key")),
    (WebhookRegistration, ("secret",)),
    (PartnerSecret, ("hmac_secret",)),
    (EventEndpoint, ("secret", "previous_secret")),
    (CallbackLogin, ("login",)),
)


@dataclass(frozen=True)
class AccountKeys:
    """The keys of one account (a sales unit at Vipps), named by its serial number. They do not show in `repr`."""

    account: str
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    subscription_key: str = field(repr=False)


class Accounts:
    """Finds the provider for an account."""

    def __init__(self, own: PaymentProvider, connect: Callable[[AccountKeys], PaymentProvider]) -> None:
        """own: the platform's.  connect: makes the provider of a partner's own keys."""
        self.own = own
        self._connect = connect
        self._connected: dict[str, tuple[datetime, PaymentProvider]] = {}

    def of(self, account: str) -> PaymentProvider:
        """Return the provider for an account; no transaction may be open.

        Raises ProviderDenied when nobody holds keys for it: an operator must look.
        """
        if account == self.own.account:
            return self.own
        with reading():
            row = db.session.get(ProviderAccount, account)
            if row is None:
                raise ProviderDenied(f"there are no keys for the account {account}")
            keys, changed_at = _keys(row), row.changed_at
        return self._connection(keys, changed_at)

    def every(self) -> list[PaymentProvider]:
        """Return the providers of all accounts, the platform's own first."""
        with reading():
            brought = select(ProviderAccount).where(ProviderAccount.account != self.own.account)
            rows = [(_keys(row), row.changed_at) for row in db.session.scalars(brought)]
        return [self.own, *(self._connection(*row) for row in rows)]

    def for_partner(self, partner_id: int) -> str:
        """Return the account that a partner's next agreement is asked for with. Reads in the caller's transaction."""
        return db.session.scalars(select(Partner.account).where(Partner.id == partner_id)).one() or self.own.account

    def _connection(self, keys: AccountKeys, changed_at: datetime) -> PaymentProvider:
        known = self._connected.get(keys.account)
        if known is None or known[0] != changed_at:
            # Two threads may both connect; one connection is then forgotten, with its token.
            known = self._connected[keys.account] = (changed_at, self._connect(keys))
        return known[1]


def bring(partner_id: int, keys: AccountKeys) -> None:
    """Store a partner's own keys and use them from its next agreement on; new keys of the same account replace the old.

    Raises NotFound for an unknown partner, Conflict when the account is another partner's.
    """
    now = utc_now()
    with transaction():
        partner = db.session.get(Partner, partner_id, with_for_update=True)
        if partner is None:
            raise NotFound(f"There is no partner {partner_id}.")
        row = db.session.get(ProviderAccount, keys.account, with_for_update=True)
        if row is not None and row.owner_id != partner_id:
            raise Conflict(f"The account {keys.account} is another partner's.")
        if row is None:
            row = ProviderAccount(account=keys.account, owner_id=partner_id, created_at=now)
            db.session.add(row)
        row.client_id, row.client_secret = keys.client_id, keys.client_secret
        row.subscription_key, row.changed_at = keys.subscription_key, now
        db.session.flush()
        partner.account = keys.account


def leave(partner_id: int) -> None:
    """Use the platform's account from the partner's next agreement on; what was signed stays where it is."""
    with transaction():
        partner = db.session.get(Partner, partner_id, with_for_update=True)
        if partner is None:
            raise NotFound(f"There is no partner {partner_id}.")
        partner.account = None


def encrypt_anew() -> int:
    """Encrypt everything that rests encrypted with the newest key and algorithm; return how many values that were.

    After it the older keys can go. Kept answers come slice by slice, each in a transaction of its own: there may be
    many, and whoever waits for the lock of SQLite must not wait long. Begun again, it begins at the beginning.
    """
    count = 0
    with transaction():
        for model, names in _SECRETS:
            rows: Sequence[Any] = db.session.scalars(select(model).with_for_update()).all()
            count += sum(_touch(row, name) for row in rows for name in names)
    last: int | None = 0
    while last is not None:
        with transaction():
            answers = queries.kept_answers(after=last)
            count += sum(_touch(answer, "body") for answer in answers)
            last = answers[-1].id if answers else None
    return count


def _touch(row: object, name: str) -> bool:
    """Have a value written again as it is, and so encrypted anew; tell whether there is one."""
    if getattr(row, name) is None:
        return False
    flag_modified(row, name)
    return True


def _keys(row: ProviderAccount) -> AccountKeys:
    return AccountKeys(row.account, row.client_id, row.client_secret, row.subscription_key)
