"""The life cycle goes forward only, and says the same to everything that asks."""

import pytest

from headway.engine.lifecycle import TRANSITIONS, Lifecycle, Phase


@pytest.mark.parametrize("start", Phase)
@pytest.mark.parametrize("to", Phase)
def test_a_phase_is_entered_only_where_the_table_leads_to_it(start: Phase, to: Phase) -> None:
    lifecycle = Lifecycle(start)
    lifecycle.move_to(to)
    assert lifecycle.phase is (to if to in TRANSITIONS[start] else start)


def test_no_transition_goes_back() -> None:
    assert all(to.value > start.value for start, ends in TRANSITIONS.items() for to in ends)


@pytest.mark.parametrize(
    ("phase", "is_serving", "is_draining", "is_over"),
    [
        (Phase.NEW, False, False, False),
        (Phase.SERVING, True, False, False),
        (Phase.LEAVING, False, False, False),
        (Phase.DRAINING, False, True, False),
        (Phase.OVER, False, True, True),
    ],
)
def test_each_phase_has_its_answers(
    phase: Phase, is_serving: bool, is_draining: bool, is_over: bool
) -> None:
    lifecycle = Lifecycle(phase)
    answers = (lifecycle.is_serving, lifecycle.is_draining, lifecycle.is_over)
    assert answers == (is_serving, is_draining, is_over)
