"""Settings are refused when they are set, not when they bite."""

import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import SetupError
from headway.settings import (
    Settings,
    parse_duration,
    parse_duration_or_zero,
    parse_window,
    with_values,
)


def with_value(name: str, value: float) -> Settings:
    values: dict[str, Any] = {name: value}
    return Settings(**values)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("45s", 45),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5h", 5400),
        ("90", 90),
        (90, 90),
        (0.25, 0.25),
        (" 10 s ", 10),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "soon", "-5s", "0", "0ms", "5w", "1h30m", "nan", "inf"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SetupError, match="is not a duration; write 500ms, 45s, 30m or 2h"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0s", "0ms", "0.0", 0, 0.0])
def test_no_time_at_all_is_a_duration_where_that_is_a_choice(text: str | float) -> None:
    assert parse_duration_or_zero(text) == 0
    assert parse_window(text) == 0
    assert with_values(Settings(), [f"grace={text}"]).grace == 0
    with pytest.raises(SetupError, match="heartbeat must be above zero"):
        with_values(Settings(), [f"heartbeat={text}"])


@pytest.mark.parametrize("text", ["", "-0.1", "-5s", "soon", "nan"])
def test_less_than_no_time_is_no_duration(text: str) -> None:
    for parse in (parse_duration_or_zero, parse_window):
        with pytest.raises(SetupError, match=f"^'{text}' is no"):
            parse(text)


@given(st.text(max_size=10))
def test_any_text_is_a_positive_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except SetupError:
        return
    assert seconds > 0


@given(st.floats(1e-3, 1e9))
def test_a_number_is_seconds_however_it_is_written(seconds: float) -> None:
    assert parse_duration(seconds) == seconds


@pytest.mark.parametrize("name", ["heartbeat", "ping", "retry", "timeout", "session_ttl"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_times_must_be_above_zero(name: str, value: float) -> None:
    with pytest.raises(SetupError, match=f"{name} must be above zero"):
        with_value(name, value)


@pytest.mark.parametrize("name", ["max_runs", "threads", "max_body", "max_depth", "max_sessions"])
def test_limits_must_leave_room_for_one(name: str) -> None:
    with pytest.raises(SetupError, match=f"{name} must be at least 1"):
        with_value(name, 0)


@pytest.mark.parametrize("name", ["progress_rate", "commit_after", "max_queue"])
def test_zero_is_a_choice_where_less_is_not(name: str) -> None:
    assert getattr(with_value(name, 0), name) == 0
    with pytest.raises(SetupError, match="cannot be negative"):
        with_value(name, -1)


def test_the_old_name_of_a_setting_is_accepted_with_a_warning_that_has_the_new_one() -> None:
    with pytest.warns(FutureWarning, match="'notice' is now called 'shutdown_delay'"):
        settings = Settings(notice=5)

    assert settings.shutdown_delay == 5
    assert replace(settings, grace=60).shutdown_delay == 5
    with pytest.warns(FutureWarning, match="shutdown_delay"):
        assert replace(settings, notice=7).shutdown_delay == 7
    with pytest.warns(FutureWarning), pytest.raises(SetupError, match="shutdown_delay cannot be"):
        Settings(notice=-1)


def test_the_old_name_of_a_setting_is_accepted_on_the_command_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        settings = with_values(Settings(), ["notice=5s"])

    assert settings == Settings(shutdown_delay=5)
    assert "'notice' is now called 'shutdown_delay'" in caplog.text
