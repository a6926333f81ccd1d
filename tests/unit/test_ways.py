"""What a call gets that outlasts its window, and when."""

from math import inf

import pytest

from headway.client_profiles import PROFILES, UNKNOWN, Profile, numbers, profile_of
from headway.protocol.continue_run_tool import widened
from headway.protocol.handover_policy import Shown, Way, Windows, way_of

NOBODY = Windows(None, None)
OPERATOR = Windows(None, 30.0)
RESUMES = Profile("r", resumes=True)
HARD = Profile("h", resets=False, deadline=40.0)
SHORT = Profile("s", deadline=20.0)


@pytest.mark.parametrize(
    ("shown", "windows", "expected"),
    [
        (Shown(UNKNOWN, knows_tasks=True), NOBODY, (Way.TASK, 45.0)),
        (Shown(UNKNOWN, knows_tasks=True, has_token=True), OPERATOR, (Way.TASK, 30.0)),
        (Shown(UNKNOWN, knows_tasks=True), Windows(2.0, 30.0), (Way.TASK, 2.0)),
        (Shown(UNKNOWN, knows_tasks=True), Windows(inf, 30.0), (Way.STAY, inf)),
        (Shown(UNKNOWN, knows_tasks=True), Windows(None, inf), (Way.STAY, inf)),
        (Shown(UNKNOWN, knows_tasks=True), Windows(0.0, inf), (Way.TASK, 0.0)),
        (Shown(SHORT, knows_tasks=True), NOBODY, (Way.TASK, 15.0)),
        (Shown(UNKNOWN, has_token=True), OPERATOR, (Way.STAY, inf)),
        (Shown(UNKNOWN, has_token=True, can_reconnect=True), OPERATOR, (Way.STAY, inf)),
        (Shown(HARD, has_token=True), OPERATOR, (Way.HANDLE, 30.0)),
        (Shown(HARD, has_token=True), Windows(None, 60.0), (Way.HANDLE, 30.0)),
        (Shown(HARD, has_token=True), NOBODY, (Way.STAY, inf)),
        (Shown(RESUMES, can_reconnect=True), NOBODY, (Way.RECONNECT, 45.0)),
        (Shown(RESUMES, can_reconnect=True), OPERATOR, (Way.RECONNECT, 30.0)),
        (Shown(RESUMES), NOBODY, (Way.STAY, inf)),
        (Shown(RESUMES), OPERATOR, (Way.HANDLE, 30.0)),
        (Shown(UNKNOWN, can_reconnect=True), NOBODY, (Way.STAY, inf)),
        (Shown(UNKNOWN), NOBODY, (Way.STAY, inf)),
        (Shown(UNKNOWN), OPERATOR, (Way.HANDLE, 30.0)),
        (Shown(UNKNOWN), Windows(5.0, None), (Way.HANDLE, 5.0)),
        (Shown(UNKNOWN), Windows(inf, 30.0), (Way.STAY, inf)),
        (Shown(SHORT), OPERATOR, (Way.HANDLE, 15.0)),
    ],
)
def test_the_way_of_a_hand_over_depends_on_client_and_windows(
    shown: Shown, windows: Windows, expected: tuple[Way, float]
) -> None:
    assert way_of(shown, windows) == expected


def test_a_client_is_known_by_name_and_version() -> None:
    assert profile_of("claude-code", "2.1.400").tasks is True
    assert profile_of("Claude-Code", "2.1.100").tasks is False
    assert profile_of("Visual Studio Code - Insiders", "1.106.0").resets is False
    assert profile_of("somebody", "1") is UNKNOWN
    own = Profile("some*", "2", deadline=1.0)
    assert profile_of("somebody", "2.0.1", (own,)) is own
    assert profile_of("somebody", "1.9", (own,)) is UNKNOWN


@pytest.mark.parametrize(
    ("text", "expected"), [("2.1.319-beta", (2, 1, 319)), ("v1", (1,)), ("", ()), ("x", ())]
)
def test_versions_are_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text) == expected


def test_every_row_has_a_source() -> None:
    assert all(row.source for row in PROFILES)


def test_a_widened_schema_takes_what_it_took_and_a_handle() -> None:
    schema = {
        "type": "object",
        "title": "Report",
        "$defs": {"File": {"type": "object", "required": ["name"]}},
        "properties": {"files": {"type": "array", "items": {"$ref": "#/$defs/File"}}},
        "required": ["files"],
    }
    wider = widened(schema)
    assert wider is not None
    import jsonschema

    jsonschema.validate({"files": [{"name": "a"}]}, wider)
    jsonschema.validate({"run_id": "x.1", "state": "working"}, wider)
    for wrong in ({"files": [{}]}, {"run_id": "x"}, {}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, wider)


def test_a_schema_that_refers_to_itself_elsewhere_is_left_out() -> None:
    assert widened({"type": "object", "properties": {"inner": {"$ref": "#"}}}) is None
