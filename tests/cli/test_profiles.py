"""The file of `--clients`."""

from pathlib import Path

import pytest

from headway.cli.clients_file import read_profiles
from headway.client_profiles import Profile
from headway.errors import SetupError


def written(place: Path, text: str) -> Path:
    path = place / "clients.toml"
    path.write_text(text)
    return path


def test_profiles_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [[client]]
        name = "reporting-agent*"
        since = "2.1"
        deadline = "2m"
        resets = true

        [[client]]
        name = "other"
        deadline = 5
        """,
    )
    assert read_profiles(path) == (
        Profile("reporting-agent*", "2.1", deadline=120.0, resets=True),
        Profile("other", deadline=5.0),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[client]]\ndeadline = 5", "client 1: name is missing"),
        ("[[client]]\nname = 'a'\ndeadlin = 5", "'deadlin' is not known; there are name"),
        ("[[client]]\nname = 'a'\nresets = 'yes'", "resets must be true or false, not 'yes'"),
        ("[[client]]\nname = 5", "name must be a text, not 5"),
        ("[[client]]\nname = 'a'\ndeadline = 'soon'", "'soon' is not a duration"),
        ("[client]\nname = 'a'", "[[client]] tables and nothing else"),
        ("profiles = 1", "[[client]] tables and nothing else"),
        ("client = [1]", "client 1: name is missing"),
        ("= 5", "is no TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SetupError) as caught:
        read_profiles(written(tmp_path, text))
    assert says in str(caught.value)
    assert "clients.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        read_profiles(tmp_path / "none.toml")
