"""`flask role NAME`: the role that the service works with, as SQL for the owner of the database."""

from __future__ import annotations

import click

from invoice.cli.processes import in_words
from invoice.services import roles


@click.command("role")
@click.argument("name")
def role(name: str) -> None:
    """Print the SQL that makes a PostgreSQL role without power over tables; the owner hands it to psql."""
    with in_words():
        click.echo(roles.runtime_role(name), nl=False)
