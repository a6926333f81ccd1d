"""`process_files`: every file of a directory, one at a time, with progress and partial results.

The tool reads top to bottom: find the directory, list the files, look at each, sum up. `roots` says
which files may be touched, `reading` opens them safely, `operations` processes them.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from headway import part, report, track
from headway.tools.listing import MAX_PATH, Found, Listing
from headway.tools.operations import Checksum, Index, Operation, Stats, Totals
from headway.tools.patterns import MAX_PATTERN, Pattern
from headway.tools.reading import Failed, Reader, Skipped
from headway.tools.roots import PRIVATE_NAMES, Roots, printable_name, refusal_cause

INDEX_FILE = "index.sqlite"
"""The full-text index, under the server's data directory."""

Directory = Annotated[
    str,
    Field(
        max_length=MAX_PATH,
        description="Relative to the first allowed directory, which is '.', or absolute. Nothing "
        "in it is replaced: no ~, no variables, no wildcards.",
    ),
]
Glob = Annotated[
    str,
    Field(
        max_length=MAX_PATTERN,
        description="Which files, relative to the directory: '*.txt', 'src/**/*.py'; '**' is any "
        "number of directories. One glob: no regular expression, no list, no {a,b}.",
    ),
]
OperationName = Literal["checksum", "stats", "index"]
AskedOperation = Annotated[
    OperationName,
    Field(
        description="checksum: SHA-256 of each file. stats: lines, words, bytes and type. "
        "index: put text files into the server's full-text index."
    ),
]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one call; sizes in bytes."""

    files: int = 1_000_000
    """Files in one call; their names are held in memory, about 100 bytes each."""

    checksum_bytes: int = 16 * 1024 * 1024 * 1024
    """The largest file that `checksum` reads, piece by piece. A file of holes takes no room on a
    disk and as long to read as any other."""

    stats_bytes: int = 1024 * 1024 * 1024
    """The largest file that `stats` reads, piece by piece."""

    index_bytes: int = 16 * 1024 * 1024
    """The largest file that `index` takes, which is in memory several times over."""

    index_total: int = 2 * 1024 * 1024 * 1024
    """The full-text index with all that is in it, on disk."""

    hidden: bool = False
    """Whether files and directories are read whose names begin with a dot."""

    private: tuple[str, ...] = PRIVATE_NAMES
    """Patterns of names that are never read or listed, hidden or not."""

    failures: int = 20
    """Failures spelled out in the result; each of the others is a part like all files."""


class Failure(BaseModel):
    """A file that could not be processed, and why."""

    file: str
    reason: str


class Summary(Totals):
    """What came of a call: `files` is the sum of `ok`, `skipped` and `failed`."""

    directory: str
    pattern: str
    operation: str
    files: int
    ok: int
    skipped: int
    failed: int
    left_out: int = Field(
        description="Files that match, and directories that may have some, hidden or private"
    )
    bytes: int = Field(description="Bytes of the files that are ok")
    skipped_because: dict[str, int] = Field(description="Reasons for skipping, and how often")
    failures: list[Failure] = Field(description="The first files that failed")


class FileTools:
    """The tools that read files below the roots; what they keep goes to `data`."""

    def __init__(self, roots: Roots, data: Path, limits: Limits | None = None) -> None:
        self._roots = roots
        self._data = data
        self._limits = limits or Limits()

    def process_files(
        self, directory: Directory, pattern: Glob = "**/*", operation: AskedOperation = "checksum"
    ) -> Summary:
        """Process every file below a directory, and report each one as it is done.

        Files that are unreadable, vanish, are too large or of the wrong kind are reported and
        do not stop the rest. Links to directories are not followed, nor links that leave the
        allowed directories. Hidden files and those with keys are left out. Directories named
        node_modules or __pycache__ are entered only when the pattern names them.
        """
        place = self._roots.find_directory(directory)
        glob = Pattern(pattern)
        self._roots.check_names(glob.names)
        report(0, message=f"Listing {printable_name(directory)}")
        listing = Listing(self._roots, place, glob, limit=self._limits.files, notice=_count_found)
        tally = FileTotals(self._limits.failures)

        def message(found: Found) -> str:
            return f"{operation} {found.shown}"

        with (
            self._make_operation(operation) as work,
            Reader(self._roots, place.root, _report_share) as reader,
        ):
            for found in track(listing, message=message):
                outcome = examine_file(reader, found, work)
                tally.add(found.shown, outcome)
                part({"file": found.shown, **outcome})
            totals = work.totals(listing)
        shown = self._roots.shown_path(place)
        return tally.summary(totals, shown, pattern, operation, left_out=listing.left_out)

    def _make_operation(self, name: OperationName) -> Operation:
        match name:
            case "checksum":
                return Checksum(self._limits.checksum_bytes)
            case "stats":
                return Stats(self._limits.stats_bytes)
            case "index":
                limits = self._limits
                return Index(
                    self._data / INDEX_FILE, largest=limits.index_bytes, total=limits.index_total
                )


def examine_file(reader: Reader, found: Found, work: Operation) -> dict[str, object]:
    """Return the outcome of one file: its status, and the facts or the reason."""
    if found.obstacle is not None:
        return {"status": found.obstacle.status, "reason": found.obstacle.reason}
    try:
        return {"status": "ok", **reader.read(found, work.examine)}
    except Skipped as left_out:
        return {"status": "skipped", "reason": str(left_out)}
    except Failed as failed:
        return {"status": "failed", "reason": str(failed)}
    except OSError as error:
        return {"status": "failed", "reason": refusal_cause(error)}


@dataclass(slots=True)
class FileTotals:
    """The outcomes so far, added up."""

    listed: int
    """How many failures are kept."""
    files: int = 0
    bytes: int = 0
    statuses: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    failures: list[Failure] = field(default_factory=list[Failure])

    def add(self, file: str, outcome: dict[str, object]) -> None:
        """Count one file."""
        self.files += 1
        status = str(outcome["status"])
        self.statuses[status] += 1
        if status == "ok":
            size = outcome["bytes"]
            assert isinstance(size, int)
            self.bytes += size
        elif status == "skipped":
            self.reasons[str(outcome["reason"])] += 1
        elif len(self.failures) < self.listed:
            self.failures.append(Failure(file=file, reason=str(outcome["reason"])))

    def summary(
        self, totals: Totals, directory: str, pattern: str, operation: str, *, left_out: int
    ) -> Summary:
        """Return the result of the call."""
        return Summary(
            directory=directory,
            pattern=printable_name(pattern),
            operation=operation,
            files=self.files,
            ok=self.statuses["ok"],
            skipped=self.statuses["skipped"],
            failed=self.statuses["failed"],
            left_out=left_out,
            bytes=self.bytes,
            skipped_because=dict(self.reasons),
            failures=self.failures,
            **totals.model_dump(),
        )


def _report_share(_found: Found, share: float) -> None:
    """Report the share of a large file that is done: a part of the item that `track` is at."""
    report(share, 1)


def _count_found(count: int) -> None:
    report(0, message=f"Listing … {count:,} files")
