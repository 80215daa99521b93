"""races.md, row by row: which tests show the wrong form caught, and which show the right one passing.

`RACES` and `GUARDS` are its two tables, `CONSEQUENCES` its list. A row whose form is right has nothing to catch.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from tools.traceability import live_tests

_C: Final = "tests/test_races_corrections.py::"
_N: Final = "tests/test_races_neighbours.py::"
_R: Final = "tests/test_races_rest.py::"
_O: Final = "tests/test_races_order.py::"
_G: Final = "tests/test_guards_races.py::"
_I: Final = "tests/test_interleaving.py::"
_M: Final = "tests/test_migration_meanwhile.py::"
_RUNS: Final = "tests/test_migration_runs.py::"
_PLACE: Final = "tests/test_reconciler_place.py::"


class Row(NamedTuple):
    """A row and its tests. `caught`: the wrong form makes drift (or a deadlock, or a leak), and the test sees it."""

    says: str
    caught: tuple[str, ...]
    right: tuple[str, ...]


_WRONG: Final = (
    f"{_C}test_each_wrong_form_makes_drift_and_the_observer_sees_it",
    f"{_I}test_the_machine_finds_the_drift_that_a_wrong_correction_makes",
)
_OURS: Final = (
    f"{_C}test_our_correction_makes_no_drift_wherever_the_same_writer_cuts_in",
    f"{_I}test_our_correction_makes_none_in_the_same_crowds",
)
RACES: Final = [
    Row("read the truth, then UPDATE", _WRONG, _OURS),
    Row("one statement UPDATE … FROM", _WRONG, _OURS),
    Row("EXISTS, or compare-and-set", _WRONG, _OURS),
    Row(
        "credentials FOR SHARE, then bars FOR NO KEY UPDATE",
        (*_WRONG, f"{_C}test_bars_locked_for_no_key_update_lets_a_row_be_inserted_and_for_update_does_not"),
        _OURS,
    ),
    Row(
        "the same with bars FOR UPDATE",
        ("tests/test_lock_order.py::test_the_same_insert_is_not_kept_out_by_the_weaker_lock",),
        (
            f"{_C}test_bars_locked_for_no_key_update_lets_a_row_be_inserted_and_for_update_does_not",
            "tests/test_lock_order.py::test_no_credentials_can_be_inserted_between_decision_and_commit",
        ),
    ),
    Row(
        "lock only the bars row: right where every writer touches bars, or the guard is on",
        (*_WRONG, f"{_R}test_locking_the_bar_alone_is_right_only_beside_writers_that_touch_bars"),
        (
            f"{_R}test_locking_the_bar_alone_is_right_only_beside_writers_that_touch_bars",
            f"{_R}test_locking_the_bar_alone_is_right_where_a_guard_stands",
        ),
    ),
    Row(
        "AFTER trigger that just recomputes, two rows",
        (f"{_N}test_a_trigger_that_just_recomputes_skews_on_two_rows",),
        (f"{_G}test_two_rows_in_two_transactions_do_not_skew",),
    ),
    Row(
        "trigger that locks the bars row first",
        (f"{_G}test_two_rows_in_two_transactions_do_not_skew",),
        (f"{_N}test_a_trigger_that_just_recomputes_skews_on_two_rows",),
    ),
    Row(
        "the same, skipping the write, in REPEATABLE READ",
        (f"{_G}test_an_old_snapshot_drifts_silently_unless_the_bar_is_always_touched",),
        (f"{_G}test_an_old_snapshot_drifts_silently_unless_the_bar_is_always_touched",),
    ),
    Row(
        "plain trigger in replica role",
        (
            f"{_G}test_replica_role_passes_a_plain_trigger_and_meets_ours",
            f"{_N}test_what_replica_role_and_truncate_let_past_a_plain_trigger_is_found_and_repaired",
        ),
        (f"{_G}test_replica_role_passes_a_plain_trigger_and_meets_ours",),
    ),
    Row(
        "TRUNCATE with row triggers only",
        (f"{_G}test_truncate_passes_row_triggers_and_meets_ours",),
        (
            f"{_G}test_truncate_passes_row_triggers_and_meets_ours",
            "tests/test_guards.py::test_truncate_hides_every_bar_that_was_shown",
        ),
    ),
    Row(
        "a legacy writer in the other lock order",
        (
            f"{_I}test_the_machine_sees_the_other_lock_order_deadlock",
            "tests/test_transaction_contention.py::test_without_a_retry_the_same_deadlock_loses_the_switch",
        ),
        (
            f"{_N}test_a_deadlock_with_a_writer_in_the_other_order_is_retried",
            f"{_N}test_a_batch_gives_way_to_a_writer_in_the_other_order",
        ),
    ),
    Row(
        "advisory lock as only one run; lease with a token",
        (
            f"{_N}test_a_session_advisory_lock_leaks_and_a_transaction_one_ends_too_soon",
            f"{_R}test_a_lease_is_asked_for_in_the_transaction_that_commits",
        ),
        (
            f"{_N}test_neither_runs_nor_switches_leave_an_advisory_lock_behind",
            f"{_RUNS}test_a_process_that_was_taken_for_dead_commits_nothing_more",
            f"{_PLACE}test_a_zombie_with_an_old_lease_can_commit_nothing",
        ),
    ),
]
_FALSELY: Final = (
    f"{_G}test_a_before_trigger_heals_a_correct_writer_falsely_and_ours_does_not",
    f"{_R}test_a_guard_that_speaks_at_once_heals_a_correct_writer_falsely",
    f"{_G}test_a_before_trigger_loses_to_one_that_sorts_later_and_ours_does_not",
    f"{_G}test_a_column_list_misses_what_a_before_trigger_changes_and_ours_has_none",
)
GUARDS: Final = [
    Row("guard as BEFORE or immediate AFTER trigger", _FALSELY, _FALSELY),
    Row(
        "deferred guard that locks, recomputes and acts",
        (f"{_G}test_no_committed_state_is_drifted_whatever_is_interleaved",),
        (
            f"{_G}test_no_committed_state_is_drifted_whatever_is_interleaved",
            "tests/prove/test_guards_random.py::test_an_observer_never_sees_a_drifted_state",
        ),
    ),
    Row(
        "a side row before the bars row",
        (f"{_G}test_a_side_row_before_the_bar_deadlocks_two_foreign_writers",),
        (f"{_G}test_a_side_row_before_the_bar_deadlocks_two_foreign_writers",),
    ),
    Row(
        "read-back inside a caller's REPEATABLE READ",
        (f"{_N}test_reading_back_in_the_callers_snapshot_commits_drift_so_we_refuse_it",),
        ("tests/test_transaction_join.py::test_only_a_read_committed_transaction_can_be_joined",),
    ),
]
CONSEQUENCES: Final = [
    Row(
        "one lock order: credentials by id, bars by id, then bar_state; decide in a new statement",
        (f"{_O}test_two_batches_over_the_same_bars_end_each_other_unless_they_keep_one_order",),
        (
            f"{_C}test_the_lock_statements_are_the_ones_that_the_correction_executes",
            "tests/test_lock_order.py::test_credentials_are_locked_before_the_bar",
            f"{_O}test_a_batch_locks_each_table_by_id_whatever_its_order_is",
        ),
    ),
    Row(
        "rows that came while it waited are locked too (docs/decisions/0009)",
        (f"{_C}test_a_row_inserted_while_the_correction_waits_for_the_bar_makes_drift_unless_locked_too",),
        (f"{_C}test_a_row_inserted_while_our_switch_waits_for_the_bar_cannot_change_before_our_commit",),
    ),
    Row(
        "the bar's advisory lock after the operation id; none in batches",
        (),
        (
            f"{_O}test_a_writer_of_one_bar_takes_its_advisory_lock_after_its_id_and_before_any_row",
            f"{_O}test_a_batch_takes_no_advisory_lock",
        ),
    ),
    Row(
        "READ COMMITTED, explicitly; a joined connection is in it",
        ("tests/test_transaction_join.py::test_repeatable_read_would_commit_drift_in_silence",),
        (
            f"{_O}test_read_committed_is_asked_for_whatever_the_default_is",
            "tests/test_transaction_join.py::test_only_a_read_committed_transaction_can_be_joined",
        ),
    ),
    Row(
        "SET CONSTRAINTS ALL IMMEDIATE before the read-back; the locked row is asserted",
        (),
        (
            "tests/test_transaction_join.py::test_a_deferred_constraint_speaks_inside_the_savepoint",
            "tests/test_read_back.py::test_a_repair_after_which_the_authority_disagrees_is_rolled_back",
            "tests/test_property_4_migration_error_resilience.py"
            "::test_property_4_failing_records_of_any_cause_at_any_place_never_stop_the_others",
            "tests/test_transaction_contention.py::test_a_bar_that_is_deleted_during_a_toggle_is_not_found",
            f"{_M}test_a_bar_deleted_meanwhile_is_vanished_and_the_others_are_corrected",
        ),
    ),
    Row(
        "one round trip is a function of separate statements, never a CTE",
        (f"{_R}test_one_round_trip_is_a_function_and_never_a_cte",),
        (f"{_R}test_one_round_trip_is_a_function_and_never_a_cte",),
    ),
    Row(
        "after a connection lost at COMMIT the operation id settles it",
        ("tests/test_transaction_faults.py::test_the_same_retry_without_an_operation_id_applies_it_twice",),
        (
            "tests/test_transaction_faults.py::test_a_cut_after_commit_is_settled_by_replay",
            f"{_M}test_a_batch_whose_commit_was_not_answered_is_counted_as_the_journal_has_it",
        ),
    ),
    Row(
        "check is one READ ONLY statement, never open while a caller works",
        (),
        (
            "tests/test_cli_check.py::test_the_database_itself_forbids_it_to_write",
            f"{_M}test_nothing_is_open_in_the_database_while_the_caller_works",
        ),
    ),
    Row(
        "resumable writing by the primary key only",
        (f"{_R}test_a_place_by_number_or_by_time_skips_bars_and_one_by_key_does_not",),
        (f"{_RUNS}test_a_run_that_was_left_anywhere_ends_as_one_that_was_not",),
    ),
    Row(
        "a repair is not a verification; in-flight writes are not drift",
        (f"{_M}test_a_mismatch_that_heals_within_half_a_second_does_not_count",),
        (
            f"{_M}test_drift_made_by_others_during_the_run_is_found_and_repaired",
            f"{_M}test_drift_that_never_ends_is_said_after_three_rounds",
            "tests/test_reconciler.py::test_what_a_writer_has_under_way_is_no_drift",
        ),
    ),
    Row(
        "a dry run is READ ONLY",
        (),
        (
            "tests/test_migration.py::test_the_database_itself_forbids_a_dry_run_to_write",
            "tests/test_migration.py::test_a_dry_run_writes_nothing_and_leaves_no_lock",
        ),
    ),
    Row(
        "next run and last success of the reconciler in the database",
        (),
        (
            f"{_PLACE}test_what_is_overdue_is_done_at_once_and_what_is_not_is_left",
            "tests/test_reconciler_work.py::test_a_worker_that_starts_does_at_once_what_is_overdue",
        ),
    ),
    Row(
        "both directions, never counts alone",
        (f"{_R}test_equal_counts_hide_drift_and_both_directions_do_not",),
        (f"{_R}test_equal_counts_hide_drift_and_both_directions_do_not",),
    ),
    Row(
        "seen elsewhere: a dry run that changed state, a cursor that skipped, running for ever, a verification that "
        "failed on live traffic, a reconciler that sampled",
        (f"{_R}test_a_place_by_number_or_by_time_skips_bars_and_one_by_key_does_not",),
        (
            "tests/test_cli_migrate.py::test_a_dry_run_changes_nothing_and_exits_2_for_drift",
            f"{_RUNS}test_a_run_that_was_left_anywhere_ends_as_one_that_was_not",
            f"{_RUNS}test_a_run_left_behind_makes_way_and_is_resumed",
            "tests/test_cli_migrate_runs.py::test_a_run_that_was_killed_is_resumed_at_once",
            f"{_M}test_a_mismatch_that_heals_within_half_a_second_does_not_count",
            f"{_PLACE}test_every_bar_that_stays_drifted_is_seen_in_one_cycle",
        ),
    ),
]
ROWS: Final = [*RACES, *GUARDS, *CONSEQUENCES]


def test_every_row_of_both_tables_is_there() -> None:
    """races.md: 13 rows about corrections, 4 about guards; each has a test that catches, and one that passes."""
    assert (len(RACES), len(GUARDS)) == (13, 4)
    assert [row.says for row in (*RACES, *GUARDS) if not row.caught or not row.right] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says)
def test_every_row_is_proven_by_tests_that_are_there(row: Row) -> None:
    """races.md: a test that was renamed, removed or skipped is missed here."""
    assert [name for name in (*row.caught, *row.right) if not live_tests(name)] == []
