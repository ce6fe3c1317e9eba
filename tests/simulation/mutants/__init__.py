"""Planted bugs: who judges the judge? Each is a fault that somebody could write, and must be caught.

`python -m tests.simulation --mutants` lives through seeds with each of them until one is judged to be wrong.
"""

from tests.simulation.mutants import acts, calendar, cancels, charges, consents, refunds, told
from tests.simulation.mutants.planting import MUTANTS, planted

__all__ = ["LONG", "MUTANTS", "acts", "calendar", "cancels", "charges", "consents", "planted", "refunds", "told"]

# What shows only after months: simulated days.
LONG = {"months_are_thirty_days": 70, "each_month_is_counted_from_the_one_before": 120}
