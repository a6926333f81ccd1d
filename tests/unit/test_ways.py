"""What a call gets that outlasts its window, and when."""

from math import inf

import pytest

from headway.client_profiles import PROFILES, UNKNOWN, Profile, profile_of, version_numbers
from headway.protocol.continue_run_tool import with_handle_schema
from headway.protocol.hand_over_policy import ClientTraits, HandOverForm, Windows, form_for

NOBODY = Windows(None, None)
OPERATOR = Windows(None, 30.0)
RESUMES = Profile("r", resumes=True)
HARD = Profile("h", resets=False, deadline=40.0)
SHORT = Profile("s", deadline=20.0)


@pytest.mark.parametrize(
    ("shown", "windows", "expected"),
    [
        (ClientTraits(UNKNOWN, knows_tasks=True), NOBODY, (HandOverForm.TASK, 45.0)),
        (
            ClientTraits(UNKNOWN, knows_tasks=True, has_token=True),
            OPERATOR,
            (HandOverForm.TASK, 30.0),
        ),
        (ClientTraits(UNKNOWN, knows_tasks=True), Windows(2.0, 30.0), (HandOverForm.TASK, 2.0)),
        (ClientTraits(UNKNOWN, knows_tasks=True), Windows(inf, 30.0), (HandOverForm.STAY, inf)),
        (ClientTraits(UNKNOWN, knows_tasks=True), Windows(None, inf), (HandOverForm.STAY, inf)),
        (ClientTraits(UNKNOWN, knows_tasks=True), Windows(0.0, inf), (HandOverForm.TASK, 0.0)),
        (ClientTraits(SHORT, knows_tasks=True), NOBODY, (HandOverForm.TASK, 15.0)),
        (ClientTraits(UNKNOWN, has_token=True), OPERATOR, (HandOverForm.STAY, inf)),
        (
            ClientTraits(UNKNOWN, has_token=True, can_reconnect=True),
            OPERATOR,
            (HandOverForm.STAY, inf),
        ),
        (ClientTraits(HARD, has_token=True), OPERATOR, (HandOverForm.HANDLE, 30.0)),
        (ClientTraits(HARD, has_token=True), Windows(None, 60.0), (HandOverForm.HANDLE, 30.0)),
        (ClientTraits(HARD, has_token=True), NOBODY, (HandOverForm.STAY, inf)),
        (ClientTraits(RESUMES, can_reconnect=True), NOBODY, (HandOverForm.RECONNECT, 45.0)),
        (ClientTraits(RESUMES, can_reconnect=True), OPERATOR, (HandOverForm.RECONNECT, 30.0)),
        (ClientTraits(RESUMES), NOBODY, (HandOverForm.STAY, inf)),
        (ClientTraits(RESUMES), OPERATOR, (HandOverForm.HANDLE, 30.0)),
        (ClientTraits(UNKNOWN, can_reconnect=True), NOBODY, (HandOverForm.STAY, inf)),
        (ClientTraits(UNKNOWN), NOBODY, (HandOverForm.STAY, inf)),
        (ClientTraits(UNKNOWN), OPERATOR, (HandOverForm.HANDLE, 30.0)),
        (ClientTraits(UNKNOWN), Windows(5.0, None), (HandOverForm.HANDLE, 5.0)),
        (ClientTraits(UNKNOWN), Windows(inf, 30.0), (HandOverForm.STAY, inf)),
        (ClientTraits(SHORT), OPERATOR, (HandOverForm.HANDLE, 15.0)),
    ],
)
def test_the_way_of_a_hand_over_depends_on_client_and_windows(
    shown: ClientTraits, windows: Windows, expected: tuple[HandOverForm, float]
) -> None:
    assert form_for(shown, windows) == expected


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
    assert version_numbers(text) == expected


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
    wider = with_handle_schema(schema)
    assert wider is not None
    import jsonschema

    jsonschema.validate({"files": [{"name": "a"}]}, wider)
    jsonschema.validate({"run_id": "x.1", "state": "working"}, wider)
    for wrong in ({"files": [{}]}, {"run_id": "x"}, {}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, wider)


def test_a_schema_that_refers_to_itself_elsewhere_is_left_out() -> None:
    assert with_handle_schema({"type": "object", "properties": {"inner": {"$ref": "#"}}}) is None
