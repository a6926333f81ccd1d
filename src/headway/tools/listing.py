"""The listing pass: the files to process, in a fixed order, before any of them is read.

Kept per directory and as bare names, so that a million files fit in memory and the work on
them starts soon. Nothing is opened here but directories. What is hidden or private is left out, and
only counted.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mcp.server.mcpserver.exceptions import ToolError

from headway.tools.patterns import Pattern, State
from headway.tools.roots import (
    DIRECTORY,
    PathInRoot,
    Roots,
    open_beneath,
    printable_name,
    refusal_cause,
)

MAX_PATH = 4096
"""Longer paths are reported and not entered; the limit most systems have for one path."""

NOTICE_EVERY = 1000
"""Names looked at between two signs of life."""


class Obstacle(NamedTuple):
    """The reason why something that was found is not opened."""

    status: str
    reason: str


SPECIAL = Obstacle("skipped", "a FIFO, socket or device")
LINK_OUT = Obstacle("skipped", "a link that leaves the allowed directories")
LINK_TO_DIRECTORY = Obstacle("skipped", "a link to a directory; these are not followed")
LINK_TO_NOTHING = Obstacle("skipped", "a link that leads nowhere")
PRIVATE = Obstacle("skipped", "the server's own data")
TOO_DEEP = Obstacle("failed", f"the path is longer than {MAX_PATH} characters")


class Found(NamedTuple):
    """One thing to process: a file, or something that stands where files were asked for."""

    folder: str
    """Relative to the root of the listing's place."""
    name: str
    shown: str
    """Relative to the directory asked for, as valid Unicode."""
    obstacle: Obstacle | None


@dataclass(slots=True)
class _Folder:
    path: str
    names: list[str] = field(default_factory=list[str])
    obstacles: dict[str, Obstacle] = field(default_factory=dict[str, Obstacle])


class Listing:
    """The files that a pattern finds below a path.

    Iterating yields each directory's files by name, then those of its subdirectories. An
    unreadable directory is found as one thing, its name ending in a slash.

    `left_out` is how many that match, and directories that might have some, are hidden or private.

    Raises:
        ToolError: There is more than `limit`.
    """

    def __init__(
        self,
        roots: Roots,
        place: PathInRoot,
        pattern: Pattern,
        *,
        limit: int,
        notice: Callable[[int], None],
    ) -> None:
        self.place = place
        self._roots = roots
        self._pattern = pattern
        self._limit = limit
        self._notice = notice
        self.left_out = 0
        self._count = 0
        self._seen = 0
        self._folders: list[_Folder] = []
        self._walk_root()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Found]:
        prefix = len(self.place.path) + 1 if self.place.path else 0
        for folder in self._folders:
            below = printable_name(folder.path[prefix:])
            below = below + "/" if below else ""
            obstacles = folder.obstacles
            for name in folder.names:
                shown = below + printable_name(name)
                yield Found(folder.path, name, shown, obstacles.get(name))

    def _walk_root(self) -> None:
        pending: list[tuple[str, State]] = [(self.place.path, self._pattern.start)]
        while pending:
            path, state = pending.pop()
            folder = _Folder(path)
            below = self._enter_folder(folder, state)
            if folder.names:
                folder.names.sort()
                self._folders.append(folder)
            below.sort(reverse=True)
            pending.extend(below)
        self._notice(self._count)

    def _enter_folder(self, folder: _Folder, state: State) -> list[tuple[str, State]]:
        """Fill in a folder, and return the subdirectories to enter."""
        place = PathInRoot(self.place.root, folder.path)
        obstacle = PRIVATE if self._roots.is_private(place.absolute) else None
        if len(folder.path) > MAX_PATH:
            obstacle = TOO_DEEP
        if obstacle is None:
            try:
                handle = open_beneath(place, DIRECTORY)
                try:
                    return self._scan_folder(handle, folder, state)
                finally:
                    os.close(handle)
            except OSError as error:
                obstacle = Obstacle(
                    "failed", f"the directory cannot be read: {refusal_cause(error)}"
                )
        self._add_found(folder, "", obstacle)
        return []

    def _scan_folder(self, handle: int, folder: _Folder, state: State) -> list[tuple[str, State]]:
        below: list[tuple[str, State]] = []
        place = PathInRoot(self.place.root, folder.path)
        matches = self._pattern.file_matcher(state)
        with os.scandir(handle) as entries:
            for entry in entries:
                self._seen += 1
                if self._seen % NOTICE_EVERY == 0:
                    self._notice(self._count)
                name = entry.name
                is_meant = matches is not None and bool(matches(name))
                is_directory = entry.is_dir(follow_symlinks=False)
                inside = () if is_meant and not is_directory else self._pattern.descend(state, name)
                if self._is_closed(place, name):
                    self.left_out += bool(inside) if is_directory else is_meant
                elif is_directory:
                    if inside:
                        below.append((f"{folder.path}/{name}" if folder.path else name, inside))
                elif entry.is_file(follow_symlinks=False):
                    if is_meant:
                        self._add_found(folder, name)
                elif is_meant or (entry.is_symlink() and inside):
                    self._add_found(folder, name, self._find_obstacle(entry, folder))
        return below

    def _is_closed(self, place: PathInRoot, name: str) -> bool:
        """Return whether something in a directory is not to be listed."""
        if self._roots.is_closed(name):
            return True
        return self._roots.is_own(f"{place.absolute.rstrip('/')}/{name}")

    def _find_obstacle(self, entry: os.DirEntry[str], folder: _Folder) -> Obstacle | None:
        """Return why an entry that is neither file nor directory is skipped."""
        if not entry.is_symlink():
            return SPECIAL
        here = PathInRoot(self.place.root, folder.path).absolute.rstrip("/")
        # Whether a target outside exists is not the caller's business, so this comes first.
        if self._roots.locate(os.path.realpath(f"{here}/{entry.name}")) is None:
            return LINK_OUT
        try:
            mode = entry.stat().st_mode
        except OSError:
            return LINK_TO_NOTHING
        if stat.S_ISDIR(mode):
            return LINK_TO_DIRECTORY
        return None if stat.S_ISREG(mode) else SPECIAL

    def _add_found(self, folder: _Folder, name: str, obstacle: Obstacle | None = None) -> None:
        self._count += 1
        if self._count > self._limit:
            raise ToolError(
                f"More than {self._limit:,} files match, the most that one call may process; "
                "give a directory further down or a narrower pattern"
            )
        folder.names.append(name)
        if obstacle is not None:
            folder.obstacles[name] = obstacle
