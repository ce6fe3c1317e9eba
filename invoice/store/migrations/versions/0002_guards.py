"""The database itself refuses what no life does: a move backwards, and a change to a charge that was sent.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# table -> status -> those that may follow. tests/store/test_guards.py holds them against invoice/lifecycle.py: a new
# move needs a new migration.
MOVES = {
    "agreements": {
        "DRAFTING": "ACTIVE EXPIRED LOST PENDING REFUSED STOPPED",
        "PENDING": "ACTIVE EXPIRED STOPPED",
        "ACTIVE": "STOPPED",
        "LOST": "ACTIVE EXPIRED PENDING STOPPED",
    },
    "charges": {
        "PLANNED": "CANCELLED CHARGED FAILED PARTIALLY_REFUNDED REFUNDED RESERVED SUBMITTED SUBMITTING VOID",
        "SUBMITTING": "CANCELLED CHARGED FAILED PARTIALLY_REFUNDED PLANNED REFUNDED REFUSED RESERVED SUBMITTED VOID",
        "SUBMITTED": "CANCELLED CHARGED FAILED PARTIALLY_REFUNDED PLANNED REFUNDED REFUSED RESERVED SUBMITTED VOID",
        "RESERVED": "CANCELLED CHARGED FAILED PARTIALLY_REFUNDED REFUNDED",
        "CHARGED": "PARTIALLY_REFUNDED REFUNDED",
        "PARTIALLY_REFUNDED": "REFUNDED",
        "FAILED": "CHARGED PARTIALLY_REFUNDED REFUNDED",
        "VOID": "CHARGED PARTIALLY_REFUNDED PLANNED REFUNDED RESERVED SUBMITTED",
        "REFUSED": "CANCELLED CHARGED FAILED PARTIALLY_REFUNDED PLANNED REFUNDED RESERVED SUBMITTED",
    },
    "messages": {
        "QUEUED": "ACCEPTED DELIVERED FAILED SENT UNDELIVERED VOID",
        "ACCEPTED": "DELIVERED FAILED SENT UNDELIVERED",
        "SENT": "DELIVERED FAILED UNDELIVERED",
        "VOID": "ACCEPTED DELIVERED FAILED SENT UNDELIVERED",
    },
    "subscriptions": {
        "PENDING": "ACTIVE CANCELLED CANCELLING EXPIRED REFUSED",
        "ACTIVE": "CANCELLING STOPPED",
        "CANCELLING": "CANCELLED",
    },
}
# What stands in a request that may be at the provider. One that was turned down for good may be asked for anew.
FROZEN = ("name", "amount", "currency", "period", "attempt", "account", "agreement_id", "subscription_id")


def _moved(table: str) -> str:
    legal = ", ".join(f"'{old}>{new}'" for old, news in MOVES[table].items() for new in news.split())
    return f"NEW.status <> OLD.status AND (OLD.status || '>' || NEW.status) NOT IN ({legal})"


def _changed() -> str:
    changes = " OR ".join(f"NEW.{column} <> OLD.{column}" for column in FROZEN)
    return f"OLD.sends > 0 AND OLD.status NOT IN ('REFUSED', 'VOID') AND ({changes})"


def _conditions() -> dict[str, tuple[str, str, str]]:
    moves = {f"{table}_moves": (table, "no such move", _moved(table)) for table in MOVES}
    return {**moves, "charges_frozen": ("charges", "what was sent never changes", _changed())}


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if not is_sqlite:
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'check_violation'; END $$"
        )
    for guard, (table, words, condition) in _conditions().items():
        what = f"SELECT RAISE(ABORT, '{words}');" if is_sqlite else f"EXECUTE FUNCTION refuse_change('{words}')"
        body = f"BEGIN {what} END" if is_sqlite else what
        op.execute(f"CREATE TRIGGER {guard} BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({condition}) {body}")


def downgrade() -> None:
    for guard, (table, _, _) in _conditions().items():
        op.execute(f"DROP TRIGGER {guard}" + ("" if op.get_bind().dialect.name == "sqlite" else f" ON {table}"))
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION refuse_change()")
