"""Names of processes and runs: what they may be, and whose a run is."""

import pytest

from headway.stream_names import (
    PROCESS_ID_LENGTH,
    call_of,
    is_run_id,
    new_call_id,
    new_process_id,
    process_of,
)


def test_ids_are_no_options_of_a_command() -> None:
    """Somebody stops a run with `headway cancel ID`, or with what stands in the logs for it."""
    assert not any(
        new_process_id().startswith("-") or new_call_id().startswith("-") for _ in range(2000)
    )


def test_an_id_names_its_process_and_its_call() -> None:
    tag, call = new_process_id(), new_call_id()

    assert len(tag) == PROCESS_ID_LENGTH
    assert is_run_id(tag + call)
    assert process_of(f"run/owner/{tag}{call}") == tag
    assert call_of(f"run/owner/{tag}{call}") == call


@pytest.mark.parametrize("text", ["", "x" * 39, "x" * 41, "x" * 39 + "/", "x" * 39 + "\n"])
def test_a_text_that_is_no_id_is_told_apart(text: str) -> None:
    assert not is_run_id(text)
