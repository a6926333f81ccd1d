"""The keys of encrypted journals: their file, their ids, and what is said of wrong ones."""

import os
from pathlib import Path
from typing import Any

import pytest

from headway import Encryption, SetupError
from headway.encryption import new_key, secrets_of, shown_id

FIRST, SECOND = new_key(), new_key()


def file_of(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "journal.keys"
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def test_a_file_has_a_key_a_line_and_comments(tmp_path: Path) -> None:
    text = f"# the keys of the fleet\n\n{FIRST}  # of today\n  {SECOND}"
    found = Encryption.from_file(file_of(tmp_path, text), plain="read")
    assert found.keys == (FIRST, SECOND)
    assert (found.plain, found.file) == ("read", tmp_path / "journal.keys")
    assert [each.hex() for each in secrets_of(found)] == [shown_id(FIRST), shown_id(SECOND)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs a key"),
        ("# nothing\n", "needs a key"),
        ("secret", "key 1 is none"),
        (f"{FIRST}\nhwk_c2hvcnQ", "key 2 is none"),
        (FIRST + "A", "key 1 is none"),
        (FIRST.replace("hwk_", "hwk_!", 1)[:-1], "key 1 is none"),
        (f"{FIRST}\n{FIRST}", "same key twice"),
    ],
    ids=["empty", "no key", "a word", "a short one", "a long one", "another letter", "twice"],
)
def test_a_wrong_file_is_refused_without_a_word_of_what_is_in_it(
    tmp_path: Path, text: str, why: str
) -> None:
    with pytest.raises(SetupError, match=why) as refused:
        Encryption.from_file(file_of(tmp_path, text))
    assert "journal.keys" in str(refused.value)
    assert FIRST[4:12] not in str(refused.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"none\.keys cannot be read: No such file"):
        Encryption.from_file(tmp_path / "none.keys")
    (tmp_path / "binary.keys").write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="it is no text"):
        Encryption.from_file(tmp_path / "binary.keys")


def test_there_are_three_fates_of_plain_entries() -> None:
    wrong: Any = "maybe"
    with pytest.raises(SetupError, match="refuse, read or write"):
        Encryption((FIRST,), wrong)


def test_the_keys_are_not_shown(tmp_path: Path) -> None:
    assert FIRST not in repr(Encryption.from_file(file_of(tmp_path, FIRST)))


@pytest.mark.skipif(os.name != "posix", reason="files have no mode")
def test_a_file_that_others_can_read_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_of(tmp_path, FIRST)
    Encryption.from_file(file)
    assert "open to other users" not in caplog.text
    file.chmod(0o644)
    Encryption.from_file(file)
    assert f"{file} is open to other users of this machine (mode 0644)" in caplog.text
