"""`--reload`: new code answers the next call, and what runs goes on in the old process.

The parent of `prefork` watches the target's files. When one changes it starts a process with the
new code on the same socket. Once that is ready the old one is retired: it accepts nothing more,
lets its streams come back to the new one, and ends when its last call has. Sessions, keys and
results are in the journal, which both share.

Code that does not load changes nothing. Its process writes the reason into a note, which the old
process gives to the next caller.
"""

import logging
import os
import signal
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headway.errors import SetupError

if TYPE_CHECKING:
    from watchfiles import Change

NOTE: Final = "HEADWAY_RELOAD_NOTE"
"""The variable by which a worker gets the path of its parent's note."""

RETIRE: Final = signal.SIGUSR1 if os.name == "posix" else signal.SIGTERM
"""The signal that has a worker end when its last call has."""

SUFFIXES: Final = (".py", ".toml")
"""Files whose change counts."""

LONGEST_NOTE: Final = 2000
"""Characters of a note."""


class ReloadNote:
    """The reason why the newest code does not answer, in a file that processes share."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> str:
        """Return the reason; empty when the newest code answers."""
        try:
            return self.file.read_text(encoding="utf-8")
        except OSError:
            return ""

    def write(self, reason: str) -> None:
        """Leave a reason for the next callers."""
        with suppress(OSError):  # a full disk: the terminal has it all the same
            self.file.write_text(reason[:LONGEST_NOTE], encoding="utf-8")

    def clear(self) -> None:
        """Remove the reason: the newest code answers."""
        self.file.unlink(missing_ok=True)

    @contextmanager
    def take_failure(self) -> Generator[None]:
        """Write down why the code inside cannot be served, if it cannot."""
        try:
            yield
        except SetupError as error:
            self.write(str(error))
            raise


@cache
def note_for_worker() -> ReloadNote | None:
    """Return the note that this worker's parent has; None where nothing is reloaded."""
    file = os.environ.pop(NOTE, None)  # programs that this process starts are no workers
    return None if file is None else ReloadNote(Path(file))


@contextmanager
def noting_failure() -> Generator[None]:
    """Leave the reason for callers, in a worker that cannot do what is inside."""
    note = note_for_worker()
    with nullcontext() if note is None else note.take_failure():
        yield


@contextmanager
def new_note() -> Generator[ReloadNote]:
    """Make a note for the workers of this process; it is gone with the context."""
    with tempfile.TemporaryDirectory(prefix="headway-reload-") as directory:
        yield ReloadNote(Path(directory) / "note")


def check_reload() -> None:
    """Check that files can be watched.

    Raises:
        SetupError: They cannot.
    """
    if os.name != "posix":
        raise SetupError("--reload needs a POSIX system")
    try:
        import watchfiles  # pyright: ignore[reportUnusedImport]  # noqa: F401
    except ModuleNotFoundError as error:
        raise SetupError(
            "--reload needs watchfiles; install it with: pip install 'headway[reload]'"
        ) from error


async def watch_changes(places: Sequence[Path]) -> AsyncGenerator[list[Path]]:
    """Yield the files that changed, whenever some did; what changes meanwhile comes together."""
    from watchfiles import (
        DefaultFilter,
        awatch,  # pyright: ignore[reportUnknownVariableType]
    )

    ignored = DefaultFilter()

    def is_code(change: "Change", path: str) -> bool:
        return path.endswith(SUFFIXES) and ignored(change, path)

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts what it sees
    async for changes in awatch(*places, watch_filter=is_code, raise_interrupt=False):
        yield sorted({Path(path) for _, path in changes})
