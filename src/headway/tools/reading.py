"""Opening and reading listed files, which may have changed since.

A file is opened by its name in the handle of its directory, and no link is followed unasked.
Nothing but a regular file is read, and a file that changes under the reader is not trusted.
"""

import os
import stat
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from headway.tools.listing import LINK_OUT, PRIVATE, SPECIAL, Found
from headway.tools.roots import DIRECTORY, NO_FOLLOW, PathInRoot, Roots, open_beneath

CHUNK = 1024 * 1024
"""Bytes read at once; a cancel is noticed between two chunks."""

# Should a FIFO or a terminal take a listed file's place, opening it must not hang or bind us.
FILE = NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


class Skipped(Exception):
    """The file is left out on purpose; the text says why."""


class Failed(Exception):
    """The file could not be processed; the text says why."""


class OpenFile:
    """A regular file being read: its handle and what the system said when it was opened."""

    __slots__ = ("_handle", "_notice", "found", "mtime_ns", "place", "size")

    def __init__(
        self,
        found: Found,
        place: PathInRoot,
        handle: int,
        status: os.stat_result,
        notice: Callable[[Found, float], None],
    ) -> None:
        self.found = found
        self._handle = handle
        self._notice = notice
        self.place = place
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns

    def chunks(self) -> Iterator[bytes]:
        """Yield the content, piece by piece.

        Raises:
            Failed: At the end, when the file changed on the way: what was read may never
                have been its content.
        """
        offset = 0
        # A byte more than there should be, so that growth shows without a second read.
        while chunk := os.read(self._handle, min(CHUNK, self.size - offset + 1)):
            offset += len(chunk)
            if offset > self.size:
                break
            if len(chunk) == CHUNK:
                self._notice(self.found, offset / (self.size + 1))
            yield chunk
        after = os.fstat(self._handle)
        if offset != self.size or after.st_mtime_ns != self.mtime_ns:
            raise Failed("it changed while it was being read")

    def content(self) -> bytes:
        """Return the whole content; ask for `size` first."""
        return b"".join(self.chunks())


class Reader:
    """Opens the files of a listing; keeps the directory of the last one open for the next.

    `notice` is called with the share of a large file that was read, between 0 and 1.
    """

    def __init__(self, roots: Roots, root: str, notice: Callable[[Found, float], None]) -> None:
        self._roots = roots
        self._own = roots.own_files()
        self._root = root
        self._notice = notice
        self._folder: str | None = None
        self._folder_handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave_folder()

    def read(
        self, found: Found, work: Callable[[OpenFile], dict[str, object]]
    ) -> dict[str, object]:
        """Open the file, and return the result of `work`.

        Raises:
            Skipped: It is not a file to read.
            Failed: It changed.
            OSError: It cannot be opened or read.
        """
        handle, place = self._open_file(found)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise Skipped(SPECIAL.reason)
            if (status.st_dev, status.st_ino) in self._own:
                raise Skipped(PRIVATE.reason)
            return work(OpenFile(found, place, handle, status, self._notice))
        finally:
            os.close(handle)

    def _open_file(self, found: Found) -> tuple[int, PathInRoot]:
        path = f"{found.folder}/{found.name}" if found.folder else found.name
        place = PathInRoot(self._root, path)
        self._enter_folder(found.folder)
        try:
            return os.open(found.name, FILE, dir_fd=self._folder_handle), place
        except OSError:
            # Which error a link gives differs between systems; so ask whether it is one.
            target = os.path.realpath(place.absolute)
            if target == place.absolute:
                raise
        resolved = self._roots.locate(target)
        if resolved is None:
            raise Skipped(LINK_OUT.reason)
        return open_beneath(resolved, FILE), resolved

    def _enter_folder(self, folder: str) -> None:
        if folder != self._folder:
            self._leave_folder()
            self._folder_handle = open_beneath(PathInRoot(self._root, folder), DIRECTORY)
            self._folder = folder

    def _leave_folder(self) -> None:
        if self._folder is not None:
            os.close(self._folder_handle)
            self._folder = None
