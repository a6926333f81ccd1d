"""What a tree can hold that must be reported, and never hang, leak or end the call."""

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.tools import operations
from headway.tools.files import FileTools
from headway.tools.reading import Reader
from headway.tools.roots import Roots

LINK_OUT = ("skipped", "a link that leaves the allowed directories")
LINK_TO_DIRECTORY = ("skipped", "a link to a directory; these are not followed")
LINK_TO_NOTHING = ("skipped", "a link that leads nowhere")
SPECIAL = ("skipped", "a FIFO, socket or device")
OK = ("ok", None)


def test_links_are_followed_only_to_files_below_the_roots(workplace: Any, heard: Any) -> None:
    root: Path = workplace.root
    workplace.write("sub/real.txt", "real")
    (root / "to-file").symlink_to("sub/real.txt")
    (root / "to-directory").symlink_to("sub")
    (root / "out").symlink_to(workplace.outside / "secret.txt")
    (root / "out-relative").symlink_to("../outside/secret.txt")
    (root / "out-directory").symlink_to(workplace.outside)
    (root / "out-missing").symlink_to(workplace.outside / "missing")
    (root / "sub" / "nested-out").symlink_to("../../outside/secret.txt")
    (root / "chain").symlink_to("out")
    (root / "dangling").symlink_to("missing")
    (root / "itself").symlink_to("itself")
    summary = workplace.process()
    assert heard.outcomes == {
        "to-file": OK,
        "sub/real.txt": OK,
        "to-directory": LINK_TO_DIRECTORY,
        "out": LINK_OUT,
        "out-relative": LINK_OUT,
        "out-directory": LINK_OUT,
        "out-missing": LINK_OUT,
        "sub/nested-out": LINK_OUT,
        "chain": LINK_OUT,
        "dangling": LINK_TO_NOTHING,
        "itself": LINK_TO_NOTHING,
    }
    assert summary.files == summary.ok + summary.skipped == 11


def test_directories_that_contain_themselves_are_walked_once(workplace: Any, heard: Any) -> None:
    workplace.write("a/b/file.txt")
    (workplace.root / "a" / "b" / "up").symlink_to("../..")
    (workplace.root / "a" / "here").symlink_to(".")
    workplace.process(pattern="**/*.txt")
    assert heard.outcomes == {
        "a/b/file.txt": OK,
        "a/here": LINK_TO_DIRECTORY,
        "a/b/up": LINK_TO_DIRECTORY,
    }


def test_what_is_no_file_is_never_opened(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(workplace.root / "fifo")
    (workplace.root / "link-to-fifo").symlink_to("fifo")
    monkeypatch.chdir(workplace.root)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        workplace.process()
    assert heard.outcomes == {"fifo": SPECIAL, "link-to-fifo": SPECIAL, "socket": SPECIAL}


def test_a_file_that_vanishes_is_reported(workplace: Any, heard: Any) -> None:
    workplace.write("a")
    gone = workplace.write("b")
    workplace.write("c")
    heard.meanwhile["a"] = gone.unlink
    summary = workplace.process()
    assert heard.outcomes == {"a": OK, "b": ("failed", "it does not exist"), "c": OK}
    assert [dict(failure) for failure in summary.failures] == [
        {"file": "b", "reason": "it does not exist"}
    ]


def test_a_file_swapped_for_a_link_does_not_leak(workplace: Any, heard: Any) -> None:
    workplace.write("a")
    swapped = workplace.write("b")

    def swap() -> None:
        swapped.unlink()
        swapped.symlink_to(workplace.outside / "secret.txt")

    heard.meanwhile["a"] = swap
    workplace.process()
    assert heard.outcomes["b"] == LINK_OUT


def test_a_directory_swapped_for_a_link_does_not_leak(workplace: Any, heard: Any) -> None:
    workplace.write("a")
    workplace.write("sub/deep/secret.txt")

    def swap() -> None:
        shutil.rmtree(workplace.root / "sub")
        (workplace.outside / "deep").mkdir()
        (workplace.outside / "deep" / "secret.txt").write_text("the secret\n")
        (workplace.root / "sub").symlink_to(workplace.outside)

    heard.meanwhile["a"] = swap
    workplace.process()
    assert heard.outcomes["sub/deep/secret.txt"] == ("failed", "it is not a directory")


def test_a_link_whose_target_is_swapped_does_not_leak(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last moment there is: after the link was resolved and found to be allowed."""
    target = workplace.write("target/file")
    (workplace.root / "link").symlink_to("target/file")
    locate = Roots.locate

    def swapping(self: Roots, real: str) -> object:
        place = locate(self, real)
        if heard.parts and real == str(target) and not target.is_symlink():
            target.unlink()
            target.symlink_to(workplace.outside / "secret.txt")
        return place

    workplace.write("a")
    monkeypatch.setattr(Roots, "locate", swapping)
    workplace.process(pattern="*")
    assert heard.outcomes["link"][0] == "failed"


def test_a_file_swapped_for_a_fifo_does_not_hang(workplace: Any, heard: Any) -> None:
    workplace.write("a")
    swapped = workplace.write("b")
    heard.meanwhile["a"] = lambda: (swapped.unlink(), os.mkfifo(swapped))
    workplace.process()
    assert heard.outcomes["b"] == SPECIAL


@pytest.mark.parametrize("size", [0, 3, 100])
def test_a_file_that_changes_while_it_is_read_is_not_trusted(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    changing = workplace.write("changing", b"0123456789")
    read = os.read

    def changed_meanwhile(handle: int, count: int) -> bytes:
        if changing.stat().st_size != size:
            changing.write_bytes(bytes(size))
        return read(handle, count)

    monkeypatch.setattr(os, "read", changed_meanwhile)  # there is no other moment to do it
    workplace.process()
    assert heard.outcomes["changing"] == ("failed", "it changed while it was being read")


def test_names_that_are_not_utf8_are_spelled_out(workplace: Any, heard: Any) -> None:
    Path(os.fsdecode(os.fsencode(workplace.root) + b"/caf\xe9.txt")).write_text("coffee")
    below = Path(os.fsdecode(os.fsencode(workplace.root) + b"/dir\xff"))
    below.mkdir()
    (below / "naïve\n.txt").write_text("x")
    summary = workplace.process()
    assert heard.outcomes == {"caf\\udce9.txt": OK, "dir\\udcff/naïve\n.txt": OK}
    json.dumps(heard.parts, ensure_ascii=False).encode()
    summary.model_dump_json().encode()


def test_an_index_takes_no_names_that_are_not_utf8(workplace: Any, heard: Any) -> None:
    Path(os.fsdecode(os.fsencode(workplace.root) + b"/caf\xe9.txt")).write_text("coffee")
    workplace.process(operation="index")
    assert heard.outcomes == {"caf\\udce9.txt": ("skipped", "its name is not valid UTF-8")}


def test_too_long_a_path_is_reported(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.tools.listing.MAX_PATH", 10)
    workplace.write("short/a")
    workplace.write("short/much-longer/b")
    workplace.process()
    assert heard.outcomes["short/a"] == OK
    assert heard.outcomes["short/much-longer/"][0] == "failed"


def test_the_servers_own_data_is_not_processed(workplace: Any, heard: Any) -> None:
    workplace.data = workplace.root / "data"
    workplace.write("data/journal.sqlite", "somebody's results")
    workplace.write("mine.txt")
    (workplace.root / "way-in").symlink_to("data/journal.sqlite")
    workplace.process()
    assert heard.outcomes == {
        "mine.txt": OK,
        "way-in": LINK_OUT,
        "data/": ("skipped", "the server's own data"),
    }


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A directory of ours in which permissions count, also when the tests run as root."""
    directory = Path(tempfile.mkdtemp())
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(directory, 65534, 65534)
        os.seteuid(65534)
    try:
        yield directory
    finally:
        if was_root:
            os.seteuid(0)
        shutil.rmtree(directory)


def test_what_may_not_be_read_is_reported(ordinary_user: Path, heard: Any) -> None:
    (ordinary_user / "a").write_text("x")
    (ordinary_user / "closed").write_text("x")
    (ordinary_user / "closed").chmod(0)
    (ordinary_user / "sub").mkdir(mode=0)
    summary = FileTools(Roots([ordinary_user]), ordinary_user / "data").process_files(".")
    (ordinary_user / "sub").chmod(0o700)
    assert heard.outcomes == {
        "a": OK,
        "closed": ("failed", "permission denied"),
        "sub/": ("failed", "the directory cannot be read: permission denied"),
    }
    assert (summary.ok, summary.failed) == (1, 2)


def test_no_handle_stays_open(workplace: Any, heard: Any) -> None:
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("needs /proc")
    workplace.write("a/one")
    workplace.write("b/two")
    os.mkfifo(workplace.root / "fifo")
    (workplace.root / "link").symlink_to("a/one")
    (workplace.root / "out").symlink_to("/")
    heard.meanwhile["a/one"] = (workplace.root / "b" / "two").unlink
    before = len(list(handles.iterdir()))
    for operation in ("checksum", "stats", "index"):
        workplace.process(operation=operation)
    assert len(list(handles.iterdir())) == before


def test_every_file_of_a_directory_shares_one_handle(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    enter = Reader._enter_folder

    def counted(self: Reader, folder: str) -> None:
        if folder != self._folder:
            opened.append(folder)
        enter(self, folder)

    monkeypatch.setattr(Reader, "_enter_folder", counted)
    for name in ("a/1", "a/2", "a/3", "b/1", "b/2"):
        workplace.write(name)
    workplace.process()
    assert opened == ["a", "b"]
    assert operations.file_type("x.tar.GZ") == "gz"
