"""Roots: the directories below which the file tools may read, and nowhere else.

Two steps keep it so. `Roots.find_directory` resolves the path that a client gave, and refuses one
that lies outside. `open_beneath` then opens it one name at a time and follows no link on the way,
so swapping a directory for a link after the check gives an error and not somebody's secrets.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mcp.server.mcpserver.exceptions import ToolError

from headway.errors import SetupError

# Windows lacks these flags; `Roots` refuses to start there.
NO_FOLLOW = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
DIRECTORY = NO_FOLLOW | getattr(os, "O_DIRECTORY", 0)


class PathInRoot(NamedTuple):
    """A directory or file below a root, free of links when it was resolved."""

    root: str
    path: str
    """Relative to the root, with slashes; empty for the root itself."""

    @property
    def absolute(self) -> str:
        """Return the path from `/`."""
        return f"{self.root.rstrip('/')}/{self.path}" if self.path else self.root


PRIVATE_NAMES = (
    ".env*", "*.env", ".ssh", "id_*", "*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "*.jks",
    "*.keystore", "*.kdbx", ".git", ".git-credentials", ".gnupg", ".aws", ".azure", ".kube",
    ".docker", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".npmrc", ".pypirc",
    ".htpasswd", ".*_history",
)  # fmt: skip
"""Names under which keys and passwords are kept; in upper or lower case."""

BESIDE_DATABASES = ("", "-wal", "-shm", "-journal")
"""The files of an SQLite database, by the ends of their names."""


class Roots:
    """The directories below which tools may read, and the files in them that stay closed.

    Closed are `private`, the directory with the server's own data, unless a root lies in it; `own`,
    its other files, whatever name leads to them; names that match one of `private_names`; and,
    unless `hidden`, those that begin with a dot. Only names below a root count, not that of the
    root.

    A client is told paths relative to the root. Where there are several, such a path begins
    with the name of its root.

    Raises:
        SetupError: No root, a root that is no directory, or a system without `O_NOFOLLOW`.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        private: Path | None = None,
        *,
        own: Iterable[Path] = (),
        private_names: Iterable[str] = PRIVATE_NAMES,
        hidden: bool = False,
    ) -> None:
        if os.scandir not in os.supports_fd or os.open not in os.supports_dir_fd:
            raise SetupError("the file tools need Linux, macOS or another POSIX system")
        if not roots:
            raise SetupError("the file tools need at least one root directory; give --root DIR")
        self._roots = list(dict.fromkeys(_real_directory(root) for root in roots))
        self._names = _names_of(self._roots)
        self._own = {os.path.realpath(file) for file in own}
        self._hidden = hidden
        self._private_name = _any_of(private_names)
        self.private = os.path.realpath(private) if private is not None else None

    def __str__(self) -> str:
        """Return the roots as clients are shown them."""
        if len(self._roots) == 1:
            return "the root directory, which is '.'; other paths are relative to it"
        return f"{', '.join(self._names.values())}; a path begins with one of these names"

    def shown_path(self, place: "PathInRoot") -> str:
        """Return a place as clients see it, and may ask for it."""
        if len(self._roots) == 1:
            return printable_name(place.path or ".")
        return printable_name(f"{self._names[place.root]}/{place.path}".rstrip("/"))

    def find_directory(self, asked: str) -> PathInRoot:
        """Return the directory that a client means: as it was shown, relative to the first root, or
        absolute.

        Raises:
            ToolError: It is not below a root, closed, missing, or not a directory.
        """
        shown = repr(printable_name(asked[:200]))
        if "\0" in asked or ".." in asked.split("/"):
            raise ToolError(
                f"The directory {shown} may not contain '..' or NUL; {self._path_advice()}"
            )
        try:
            real = os.path.realpath(self._absolute_path(asked))
        except (OSError, ValueError) as error:  # ValueError: not encodable as a file name
            raise ToolError(
                f"The directory {shown} cannot be a path; {self._path_advice()}"
            ) from error
        # Whether a path outside exists is not the caller's business, so this comes first.
        place = self._path_below(real)
        if place is None or self.is_private(real):
            raise ToolError(
                f"The directory {shown} is outside what is allowed; {self._path_advice()}"
            )
        self.check_names(place.path.split("/"))
        try:
            os.close(open_beneath(place, DIRECTORY))
        except NotADirectoryError as error:
            text = f"{shown} is not a directory; give one, and a pattern for the files in it"
            raise ToolError(text) from error
        except OSError as error:
            why = "; ".join([refusal_cause(error), *literal_signs(asked)])
            text = f"The directory {shown} cannot be opened ({why}); {self._path_advice()}"
            raise ToolError(text) from error
        return place

    def locate(self, real: str) -> PathInRoot | None:
        """Return the place of a resolved path below a root, or None when it must not be touched."""
        place = self._path_below(real)
        if place is None or self.is_private(real):
            return None
        return None if any(map(self.is_closed, place.path.split("/"))) else place

    def is_below(self, real: str) -> bool:
        """Return whether a resolved path lies below a root, closed or not."""
        return self._path_below(real) is not None

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse names, or patterns of names, that are closed.

        Raises:
            ToolError: One is.
        """
        for name in names:
            if self._private_name(name):
                raise ToolError(
                    f"{printable_name(name)[:200]!r} is private here: it is never read or listed"
                )
            if self.is_closed(name):
                raise ToolError(
                    f"{printable_name(name)[:200]!r} is hidden: names that begin with a dot are "
                    "not read here, unless the operator sets hidden = true in [files]"
                )

    def is_closed(self, name: str) -> bool:
        """Return whether a file or directory of this name is not to be read or listed."""
        is_hidden = name.startswith(".") and not self._hidden
        return is_hidden or self._private_name(name) is not None

    def is_private(self, real: str) -> bool:
        """Return whether a resolved path is the server's own data or file, or in it."""
        if self.is_own(real):
            return True
        private = self.private
        if private is None or not (real == private or real.startswith(private + "/")):
            return False
        # A root inside the data directory was put there on purpose.
        return not any(root == private or root.startswith(private + "/") for root in self._roots)

    def is_own(self, real: str) -> bool:
        """Return whether a resolved path is one of the server's own files by its name."""
        return real in self._own

    def own_files(self) -> set[tuple[int, int]]:
        """Return the server's own files as the system knows them, whatever name leads to them."""
        found: set[tuple[int, int]] = set()
        for file in self._own:
            with suppress(OSError):
                status = os.stat(file)  # noqa: PTH116 - a name, and not a path to take apart
                found.add((status.st_dev, status.st_ino))
        return found

    def _absolute_path(self, asked: str) -> Path:
        """Return a client's path as an absolute one."""
        first, _, rest = asked.partition("/")
        for root, name in self._names.items():
            if len(self._roots) > 1 and first == printable_name(name):
                return Path(root, rest)
        return Path(self._roots[0], asked)

    def _path_below(self, real: str) -> PathInRoot | None:
        for root in self._roots:
            if real == root:
                return PathInRoot(root, "")
            prefix = root.rstrip("/") + "/"
            if real.startswith(prefix):
                return PathInRoot(root, real[len(prefix) :])
        return None

    def _path_advice(self) -> str:
        return f"give an existing directory below {self}"


def database_files(file: Path) -> list[Path]:
    """Return all files of an SQLite database, also those that are not there at the moment."""
    return [file.with_name(file.name + end) for end in BESIDE_DATABASES]


_SIGNS = (
    (r"~", "'~' is nobody's home directory here"),
    (r".*(\$\w|\$\{|%\w+%)", "variables are not replaced"),
    (r"\w+://|file:", "it is a path, and no URL"),
    (r"[A-Za-z]:[/\\]|.*\\", "directories are separated by '/'"),
    (r".*[*?\[{]", "wildcards go into the pattern"),
    (r".*%[0-9A-Fa-f]{2}", "nothing is decoded"),
    (r"\s|.*\s\Z|['\"]", "spaces and quotes count"),
)


def literal_signs(text: str) -> list[str]:
    """Return the signs of a path that are wildcards elsewhere, and stand for themselves here."""
    return [says for pattern, says in _SIGNS if re.match(pattern, text[:4096], re.DOTALL)]


def open_beneath(place: PathInRoot, flags: int) -> int:
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


def printable_name(name: str) -> str:
    r"""Return a file name as valid Unicode: bytes that are not UTF-8 become `\udcff`, spelled
    out."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


_CAUSES: dict[type[OSError], str] = {
    FileNotFoundError: "it does not exist",
    PermissionError: "permission denied",
    NotADirectoryError: "it is not a directory",
}


def refusal_cause(error: OSError) -> str:
    """Return why the system refused, without the path in it."""
    return _CAUSES.get(type(error)) or (error.strerror or type(error).__name__).lower()


def _real_directory(root: Path) -> str:
    try:
        real = os.path.realpath(root, strict=True)
    except OSError as error:
        raise SetupError(
            f"the root {str(root)!r} cannot be opened: {refusal_cause(error)}"
        ) from error
    if not Path(real).is_dir():
        raise SetupError(f"the root {str(root)!r} is not a directory")
    return real


def _names_of(roots: Sequence[str]) -> dict[str, str]:
    """Return a name for each root: the last part of its path, and a number where two have the
    same."""
    names: dict[str, str] = {}
    for root in roots:
        name = base = os.path.basename(root) or "root"  # noqa: PTH119 - a text, and no path to make
        count = 1
        while name in names.values():
            count += 1
            name = f"{base}-{count}"
        names[root] = name
    return names


def _any_of(patterns: Iterable[str]) -> Callable[[str], re.Match[str] | None]:
    """Return a predicate for names that match one of these patterns, in upper or lower case."""
    together = "|".join(map(fnmatch.translate, patterns)) or "(?!)"
    return re.compile(together, re.IGNORECASE).match
