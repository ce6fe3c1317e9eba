"""Planted bugs: who judges the judge? Each is a fault that somebody could write, and must be caught.

`python -m tests.simulation --mutants` lives through seeds with each of them until one is judged to be wrong.
"""

# Importing them enters their bugs.
from tests.simulation.mutants import acts, calendar, cancels, charges, consents, refunds, told  # noqa: F401
from tests.simulation.mutants.planting import MUTANTS, planted

__all__ = ["LISTED", "LONG", "MUTANTS", "planted"]

# Those of the design's list; the others are our own.
LISTED = frozenset(
    {
        "a_cancel_is_a_flag_only",
        "a_charge_is_created_under_a_new_name_when_in_doubt",
        "a_charge_that_failed_is_asked_for_again",
        "a_batch_in_doubt_is_sent_under_new_names",
        "a_draft_expires_by_our_own_clock",
        "a_draft_has_a_new_key_each_time_and_nobody_looks_for_lost_ones",
        "a_lease_is_shorter_than_a_call",
        "a_name_is_enough_to_adopt",
        "a_refund_has_a_new_key_each_time",
        "a_text_is_sent_again_without_looking",
        "a_webhook_about_the_unknown_is_an_error",
        "a_webhook_is_answered_before_it_is_kept",
        "a_webhook_is_believed",
        "an_act_is_settled_before_it_is_done",
        "an_event_is_written_after_its_cause",
        "charges_have_no_name_of_ours_and_a_random_key",
        "charges_have_no_name_of_ours_but_one_key",
        "each_month_is_counted_from_the_one_before",
        "events_go_out_as_they_come",
        "no_fence_when_settling",
        "periods_are_read_first_and_written_later_under_a_random_name",
        "the_brake_is_read_when_a_round_begins",
        "the_day_is_counted_in_greenwich",
        "too_many_calls_burn_the_key",
        "what_is_left_is_looked_up_before_the_lock",
    }
)
# What shows only after months: simulated days.
LONG = {"months_are_thirty_days": 70, "each_month_is_counted_from_the_one_before": 120}
