"""What the file tools may touch: everything below the roots, and nothing else.

Two steps keep it so. `Roots.directory` resolves what a client asked for and refuses what lies
outside. `open_beneath` then opens it one name at a time and follows no link on the way, so
swapping a directory for a link after the check gives an error and not somebody's secrets.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mcp.server.mcpserver.exceptions import ToolError

from headway.errors import SetupError

# Windows lacks these flags; `Roots` refuses to start there.
NO_FOLLOW = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
DIRECTORY = NO_FOLLOW | getattr(os, "O_DIRECTORY", 0)


class Place(NamedTuple):
    """A directory or file below a root, free of links when it was resolved."""

    root: str
    path: str
    """Relative to the root, with slashes; empty for the root itself."""

    @property
    def absolute(self) -> str:
        """The path from `/`."""
        return f"{self.root.rstrip('/')}/{self.path}" if self.path else self.root


class Roots:
    """The directories below which tools may read; the server's own data is not theirs.

    `private` stays closed where it lies below a root: it holds other callers' results.

    Raises:
        SetupError: No root, a root that is no directory, or a system without `O_NOFOLLOW`.
    """

    def __init__(self, roots: Sequence[Path], private: Path | None = None) -> None:
        if os.scandir not in os.supports_fd or os.open not in os.supports_dir_fd:
            raise SetupError("the file tools need Linux, macOS or another POSIX system")
        if not roots:
            raise SetupError("the file tools need at least one root directory; give --root DIR")
        self._roots = [_real_directory(root) for root in roots]
        self.private = os.path.realpath(private) if private is not None else None

    def __str__(self) -> str:
        return ", ".join(printable(root) for root in self._roots)

    def directory(self, asked: str) -> Place:
        """The directory a client means: an absolute path, or one relative to the first root.

        Raises:
            ToolError: It is not below a root, missing, or not a directory.
        """
        shown = repr(printable(asked)[:200])
        if "\0" in asked or ".." in asked.split("/"):
            raise ToolError(f"The directory {shown} may not contain '..' or NUL; {self._advice()}")
        try:
            place = self.locate(os.path.realpath(Path(self._roots[0], asked)))
        except (OSError, ValueError) as error:  # ValueError: not encodable as a file name
            raise ToolError(f"The directory {shown} cannot be a path; {self._advice()}") from error
        # Whether a path outside exists is not the caller's business, so this comes first.
        if place is None:
            raise ToolError(f"The directory {shown} is outside what is allowed; {self._advice()}")
        try:
            os.close(open_beneath(place, DIRECTORY))
        except NotADirectoryError as error:
            text = f"{shown} is not a directory; give one, and a pattern for the files in it"
            raise ToolError(text) from error
        except OSError as error:
            text = f"The directory {shown} cannot be opened ({cause(error)}); {self._advice()}"
            raise ToolError(text) from error
        return place

    def locate(self, real: str) -> Place | None:
        """Where a resolved path lies, or None when it is not to be touched."""
        if self.is_private(real):
            return None
        for root in self._roots:
            if real == root:
                return Place(root, "")
            prefix = root.rstrip("/") + "/"
            if real.startswith(prefix):
                return Place(root, real[len(prefix) :])
        return None

    def is_private(self, real: str) -> bool:
        """Whether a resolved path is the server's own data, or in it."""
        private = self.private
        if private is None or not (real == private or real.startswith(private + "/")):
            return False
        # A root inside the data directory was put there on purpose.
        return not any(root == private or root.startswith(private + "/") for root in self._roots)

    def _advice(self) -> str:
        return f"give an existing directory below {self}, or a path relative to the first of these"


def open_beneath(place: Place, flags: int) -> int:
    """Open a path below a root without following a single link; the caller closes the result.

    Raises:
        OSError: Also when a part of the path has become a link.
    """
    names = place.path.split("/") if place.path else []
    handle = os.open(place.root, flags if not names else DIRECTORY)
    for position, name in enumerate(names, start=1):
        parent = handle
        try:
            handle = os.open(name, flags if position == len(names) else DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
    return handle


def printable(name: str) -> str:
    r"""A file name as valid Unicode: bytes that are not UTF-8 become `\udcff`, spelled out."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


_CAUSES: dict[type[OSError], str] = {
    FileNotFoundError: "it does not exist",
    PermissionError: "permission denied",
    NotADirectoryError: "it is not a directory",
}


def cause(error: OSError) -> str:
    """Why the system refused, without the path in it."""
    return _CAUSES.get(type(error)) or (error.strerror or type(error).__name__).lower()


def _real_directory(root: Path) -> str:
    try:
        real = os.path.realpath(root, strict=True)
    except OSError as error:
        raise SetupError(f"the root {str(root)!r} cannot be opened: {cause(error)}") from error
    if not Path(real).is_dir():
        raise SetupError(f"the root {str(root)!r} is not a directory")
    return real
