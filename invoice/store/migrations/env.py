"""How Alembic reaches the database: through the application's own engine."""

from alembic import context
from flask import current_app

from invoice.store import models  # noqa: F401 - the tables
from invoice.store.db import Base, db

with db.engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        user_module_prefix="invoice.store.db.",
        **{k: v for k, v in current_app.extensions["migrate"].configure_args.items() if k != "render_as_batch"},
    )
    with context.begin_transaction():
        context.run_migrations()
