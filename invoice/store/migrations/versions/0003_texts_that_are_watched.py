"""Texts: which carry a seal in their receipt's address, which links were opened, whose are paused.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from invoice.store.db import UTCDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Added one by one: rebuilding a table, as SQLite's way of altering does, would drop its guards.
COLUMNS = {
    "messages": [sa.Column("is_sealed", sa.Boolean(), nullable=False, server_default=sa.false())],
    "subscriptions": [sa.Column("opened_at", UTCDateTime(), nullable=True)],
    "partners": [
        sa.Column("texts_paused_at", UTCDateTime(), nullable=True),
        sa.Column("texts_resumed_at", UTCDateTime(), nullable=True),
    ],
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)


def downgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.drop_column(table, column.name)
