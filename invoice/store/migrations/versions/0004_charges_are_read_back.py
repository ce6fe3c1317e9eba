"""When the charges of an agreement are read back.

Revision ID: 0004
Revises: 0003
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

from invoice.store.db import UTCDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_AGREEMENTS = sa.table("agreements", sa.column("id", sa.Integer), sa.column("read_back_at", UTCDateTime()))
_CHARGES = sa.table("charges", sa.column("agreement_id", sa.Integer), sa.column("captured", sa.BigInteger))


def upgrade() -> None:
    op.add_column("agreements", sa.Column("read_back_at", UTCDateTime(), nullable=True))
    op.create_index("ix_agreements_read_back_at", "agreements", ["read_back_at"])
    # What was paid before is read back over the first week, not all at once.
    paid = sa.select(_CHARGES.c.agreement_id).where(_CHARGES.c.captured > 0)
    for day in range(7):
        mine = (_AGREEMENTS.c.id.in_(paid), _AGREEMENTS.c.id % 7 == day)
        op.execute(sa.update(_AGREEMENTS).where(*mine).values(read_back_at=datetime.now(UTC) + timedelta(days=day)))


def downgrade() -> None:
    op.drop_index("ix_agreements_read_back_at", "agreements")
    op.drop_column("agreements", "read_back_at")
