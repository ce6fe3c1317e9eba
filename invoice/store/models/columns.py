"""Column helpers shared by the tables."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Enum


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
