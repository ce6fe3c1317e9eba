"""The role that the service works with in PostgreSQL: it reads and writes rows, and owns and changes no table.

Only words for the owner of the database to carry out: nothing of ours holds the power to do it.
"""

from __future__ import annotations

import re

from invoice.errors import Invalid
from invoice.store import models
from invoice.store.db import Base

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Whose rows end: with a subscription, after their time, or at a partner's word. All others are only ever changed.
_ENDING = {
    model.__tablename__
    for model in (
        models.EventEndpoint,
        models.IdempotencyKey,
        models.InboundEvent,
        models.RateLimit,
        models.Refund,
        models.Subscription,
        models.UsedNonce,
        models.WebhookRegistration,
    )
}

_SQL = """\
BEGIN;
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
    CREATE ROLE {role} LOGIN;
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}'
             AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls))
     OR EXISTS (SELECT FROM pg_auth_members WHERE member = '{role}'::regrole)
     OR EXISTS (SELECT FROM pg_class WHERE relowner = '{role}'::regrole) THEN
    RAISE EXCEPTION 'The role {role} has powers already: take another name.';
  END IF;
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role};
GRANT USAGE ON SCHEMA public TO {role};
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role};
GRANT SELECT ON alembic_version TO {role};
GRANT SELECT, INSERT, UPDATE ON {tables} TO {role};
GRANT DELETE ON {ending} TO {role};
COMMIT;
"""


def runtime_role(role: str) -> str:
    """Return the SQL that makes a role for `flask run`, `flask worker` and gunicorn, or sets its rights anew.

    For psql, as the owner of the tables, once they are migrated; again after each migration.
    Raises Invalid for a name that PostgreSQL would want quoted.
    """
    if not _NAME.fullmatch(role):
        raise Invalid(message="The role must have a name of small letters, digits and _.")
    tables = Base.metadata.sorted_tables
    ending = [table.name for table in tables if table.name in _ENDING or "subscription_id" in table.c]
    return _SQL.format(role=role, tables=", ".join(table.name for table in tables), ending=", ".join(ending))
