"""What a proof reaches: one line of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """`what` was done `reached` times, `wanted` being the goal; found: how often it went wrong; notes: seeds, sizes."""

    proof: str
    what: str
    wanted: int
    reached: int
    found: int
    seconds: float
    notes: str = ""
    is_whole: bool = False  # whatever the size, `wanted` is all there is

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing went wrong, and something was done at all."""
        return self.found == 0 and self.reached > 0
