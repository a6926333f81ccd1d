"""Pacing: what a client is told of whatever a tool reports."""

import math
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headway.engine.run.progress_pacing import NUDGE, Pacer, as_finite, smallest_increase
from headway.events import Progress

numbers = st.one_of(
    st.integers(-5, 120),
    st.floats(allow_nan=True, allow_infinity=True),
    st.just(10**400),
    st.just("seven"),
)
reports = st.tuples(
    numbers, st.one_of(st.none(), st.integers(0, 100)), st.sampled_from([None, "a"])
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), reports, st.floats(0, 1)),
        st.tuples(st.just("flush"), st.none(), st.floats(0, 1)),
        st.tuples(st.just("beat"), st.none(), st.floats(0, 20)),
    ),
    max_size=40,
)


def play(rate: float, script: list[Any], *, success: bool) -> tuple[list[Progress], list[float]]:
    """What a pacer writes for a script, and when."""
    pacer, now = Pacer(rate), 0.0
    written: list[Progress] = []
    times: list[float] = []
    for kind, report, wait in script:
        now += wait
        match kind:
            case "offer":
                progress, total, message = report
                out = pacer.offer_report(progress, total, message, now)
            case "flush":
                out = pacer.flush_held(now)
            case _:
                out = pacer.write_heartbeat(now)
        if out is not None:
            written.append(out)
            times.append(now if kind != "beat" else -math.inf)
    last = pacer.write_last(now, success=success)
    return (written if last is None else [*written, last]), times


@given(st.sampled_from([0, 4]), steps, st.booleans())
def test_what_is_written_strictly_increases_and_is_finite(rate, script, success):
    written, _ = play(rate, script, success=success)
    assert all(math.isfinite(item.progress) for item in written)
    assert all(one.progress < two.progress for one, two in pairwise(written))


@given(st.sampled_from([0, 4]), steps)
def test_a_successful_run_with_a_known_total_ends_at_it(rate, script):
    written, _ = play(rate, script, success=True)
    if written and written[-1].total is not None:
        assert written[-1].progress == written[-1].total


@given(steps)
def test_no_progress_passes_its_total(script):
    written, _ = play(4, script, success=True)
    assert all(item.total is None or item.progress <= item.total for item in written)


@given(steps)
def test_reports_are_written_at_most_at_the_rate(script):
    _, times = play(4, [step for step in script if step[0] != "beat"], success=True)
    assert all(two - one >= 0.25 for one, two in pairwise(times))


def test_the_first_report_is_written_at_once_and_the_newest_after_the_interval():
    pacer = Pacer(4)
    assert pacer.offer_report(1, 10, "one", 0.0) == Progress(1, 10, "one")
    assert pacer.offer_report(2, 10, "two", 0.1) is None
    assert pacer.offer_report(3, 10, "three", 0.2) is None
    assert pacer.held
    assert pacer.due == 0.25
    assert pacer.flush_held(0.25) == Progress(3, 10, "three")
    assert pacer.flush_held(1.0) is None


def test_repeats_decreases_and_nonsense_say_nothing():
    pacer = Pacer(0)
    pacer.offer_report(5, 10, None, 0.0)
    for report in (5, 4, -1, math.nan, math.inf, "six", None, 10**400):
        assert pacer.offer_report(report, None, None, 1.0) is None


def test_a_value_above_the_total_counts_as_the_total():
    assert Pacer(0).offer_report(200, 100, None, 0.0) == Progress(100, 100)


def test_a_new_message_at_the_same_value_is_carried_by_a_nudge():
    pacer = Pacer(0)
    pacer.offer_report(3, 10, "reading", 0.0)
    nudged = pacer.offer_report(3, 10, "checking", 1.0)
    assert nudged is not None
    assert nudged.message == "checking"
    assert 3 < nudged.progress < 3.000001
    assert pacer.offer_report(4, 10, "writing", 2.0) == Progress(4, 10, "writing")


def test_a_message_may_be_a_function_and_is_asked_only_when_written():
    asked: list[int] = []

    def message(n: int) -> str:
        asked.append(n)
        return f"item {n}"

    pacer = Pacer(4)
    for n in range(100):
        pacer.offer_report(n, 100, lambda n=n: message(n), n * 0.001)
    last = pacer.write_last(1.0, success=False)
    assert last is not None
    assert last.message == "item 99"
    assert asked == [0, 99]


def test_heartbeats_never_pass_the_next_value_nor_the_total():
    pacer = Pacer(4)
    pacer.offer_report(9, 10, "nearly", 0.0)
    beats = [pacer.write_heartbeat(10.0 * n) for n in range(1, 1000)]
    assert all(9 < beat.progress < 9.5 for beat in beats)
    assert beats[0].message == "nearly"
    assert pacer.offer_report(9.5, None, None, 20000.0) == Progress(9.5, 10)


def test_after_all_was_done_the_total_moves_along():
    pacer = Pacer(4)
    pacer.offer_report(10, 10, "done", 0.0)
    beat = pacer.write_heartbeat(10.0)
    assert beat.progress == beat.total
    assert beat.progress > 10


def test_a_run_that_fails_is_not_reported_as_complete():
    pacer = Pacer(4)
    pacer.offer_report(1, 10, None, 0.0)
    pacer.offer_report(2, 10, None, 0.1)
    assert pacer.write_last(0.2, success=False) == Progress(2, 10)


def test_a_run_without_reports_has_no_last_word():
    assert Pacer(4).write_last(1.0, success=True) is None


@given(st.floats(-1e15, 1e15), st.one_of(st.none(), st.floats(-1e15, 1e15)))
def test_a_nudge_increases_and_stays_below_a_total_above(value, total):
    nudged = smallest_increase(value, total)
    if total is None or value >= total:
        assert nudged > value
    else:
        assert value <= nudged <= total
    assert nudged - value <= max(1.0, abs(value)) * NUDGE * 2


@given(st.one_of(st.none(), st.booleans(), st.text(), st.binary(), numbers))
def test_only_finite_numbers_are_numbers(value):
    number = as_finite(value)
    assert number is None or math.isfinite(number)
