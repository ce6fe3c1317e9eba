"""Column helpers shared by the tables."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Enum, Index, TextClause


def status_of(enum: type[StrEnum]) -> Enum:
    """Return a text column type that holds the values of `enum`, checked by the database."""
    return Enum(
        enum,
        native_enum=False,
        create_constraint=True,
        length=24,
        name=enum.__name__.lower(),
        values_callable=lambda members: [m.value for m in members],
    )


def sql_list(values: frozenset[StrEnum]) -> str:
    """Return statuses as the inside of an SQL `IN (...)`, in a fixed order."""
    return ", ".join(f"'{value}'" for value in sorted(values))


def index_where(name: str, column: str, holds: TextClause) -> Index:
    """Return an index of the rows that still hold something: it stays as small as what is not forgotten yet.

    A query uses it when it has the very words of `holds` in it.
    """
    return Index(name, column, sqlite_where=holds, postgresql_where=holds)
