"""The operations on each file: its checksum, its statistics, or a row in the index.

An operation looks at one open file after the other and returns the facts for its part. At
the end it adds its own totals to the summary.
"""

import hashlib
import logging
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from headway.tools.index import Document, TextIndex, find_gone, index_trouble
from headway.tools.listing import Listing
from headway.tools.reading import OpenFile, Skipped
from headway.tools.roots import printable_name

logger = logging.getLogger(__name__)

MAX_TYPES = 50
"""Types in a summary; the rest are added up as `other`."""

SNIFFED = 8192
"""Bytes in which a NUL makes a file binary, as git looks at it."""


class TypeTotals(BaseModel):
    """What the files of one type come to."""

    files: int = 0
    bytes: int = 0
    lines: int = 0
    words: int = 0


class Totals(BaseModel):
    """The totals of one operation, for the summary; the fields of the others stay empty."""

    digest: str | None = Field(
        default=None,
        description="checksum: SHA-256 over a line '<sha256>  <file>' for each file that is ok",
    )
    types: dict[str, TypeTotals] | None = Field(
        default=None, description="stats: totals by file type"
    )
    removed: int | None = Field(
        default=None,
        description="index: files that were in the index and are gone from the directory",
    )


class Operation(ABC):
    """One way to process files; used in a `with` block, by one thread."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def examine(self, file: OpenFile) -> dict[str, object]:
        """Return the facts about one file.

        Raises:
            Skipped: The operation is not for such files.
        """

    @abstractmethod
    def totals(self, listing: Listing) -> Totals:
        """Return the totals of all files; called once, after the last one."""

    def close(self) -> None:
        """Release the resources of the operation; by default it has none."""
        return


class Checksum(Operation):
    """SHA-256 of the content, whatever its kind."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._digest = hashlib.sha256()

    def examine(self, file: OpenFile) -> dict[str, object]:
        """Return the digest of one file."""
        _refuse_larger(file, self._largest)
        digest = hashlib.sha256()
        for chunk in file.chunks():
            digest.update(chunk)
        self._digest.update(f"{digest.hexdigest()}  {file.found.shown}\n".encode())
        return {"bytes": file.size, "sha256": digest.hexdigest()}

    def totals(self, listing: Listing) -> Totals:
        """Return one digest over all, to compare two trees at a glance."""
        return Totals(digest=self._digest.hexdigest())


class Stats(Operation):
    """Lines and words as `wc` counts them, bytes, and the type, from the name's suffix."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._types: dict[str, TypeTotals] = {}

    def examine(self, file: OpenFile) -> dict[str, object]:
        """Return the counts of one file; a binary one has no lines or words."""
        _refuse_larger(file, self._largest)
        kind = file_type(file.found.name)
        counts = _count_words(file)
        totals = self._types.setdefault(kind, TypeTotals())
        totals.files += 1
        totals.bytes += file.size
        if counts is None:
            return {"bytes": file.size, "type": kind, "binary": True}
        totals.lines += counts[0]
        totals.words += counts[1]
        return {"bytes": file.size, "type": kind, "lines": counts[0], "words": counts[1]}

    def totals(self, listing: Listing) -> Totals:
        """Return the totals by type, the one with the most files first."""
        ranked = sorted(self._types.items(), key=lambda item: (-item[1].files, item[0]))
        types = dict(ranked[:MAX_TYPES])
        for _, more in ranked[MAX_TYPES:]:
            other = types.setdefault("other", TypeTotals())
            for field in TypeTotals.model_fields:
                setattr(other, field, getattr(other, field) + getattr(more, field))
        return Totals(types=types)


class Index(Operation):
    """The text of each file goes into the full-text index; an unchanged file stays.

    No file is taken that is larger than `largest`, and none once the index has `total` bytes.
    """

    def __init__(self, file: Path, *, largest: int, total: int) -> None:
        self._largest = largest
        self._total = total
        with _index_errors():
            self._index = TextIndex(file)

    def examine(self, file: OpenFile) -> dict[str, object]:
        """Index one file, or forget it when it has become something that is not indexed."""
        path = file.place.absolute
        if printable_name(path) != path:
            raise Skipped("its name is not valid UTF-8")
        with _index_errors():
            if self._index.is_current(path, file.size, file.mtime_ns):
                raise Skipped("unchanged since it was indexed")
            self._index.remove_path(path)
        _refuse_larger(file, self._largest)
        with _index_errors():
            if not self._index.has_room(file.size, self._total):
                raise Skipped(
                    f"the index has all of its {self._total:,} bytes; the operator may give it "
                    "more, with bytes in [index]"
                )
        text = _decode_text(file.content())
        document = Document(path, file.size, file.mtime_ns, text, file.place.path)
        with _index_errors():
            self._index.add_document(document)
        return {"bytes": file.size}

    def totals(self, listing: Listing) -> Totals:
        """Return how many rows were removed because their file is gone."""
        with _index_errors():
            gone = list(find_gone(self._index.paths_below(listing.place.absolute)))
            for path in gone:
                self._index.remove_path(path)
            self._index.flush()
        return Totals(removed=len(gone))

    def close(self) -> None:
        """Write the remaining changes; also after a cancel, since their parts said `ok`."""
        with _index_errors():
            self._index.close()


@contextmanager
def _index_errors() -> Generator[None]:
    """Raise an error that says what to do, for an index that cannot be used."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        logger.warning("the full-text index cannot be used: %s", error)
        raise ToolError(
            f"The full-text index cannot be used ({index_trouble(error)}); the operator should "
            "look at index.sqlite in the server's data directory, or delete it to start anew"
        ) from error


def file_type(name: str) -> str:
    """Return the suffix of a name, in lower case and without its dot; `none` when there is none."""
    suffix = PurePosixPath(name).suffix[1:].lower()
    return suffix if suffix.isascii() and suffix.isalnum() and len(suffix) <= 16 else "none"


def _refuse_larger(file: OpenFile, limit: int) -> None:
    if file.size > limit:
        raise Skipped(f"larger than {limit:,} bytes")


def _count_words(file: OpenFile) -> tuple[int, int] | None:
    """Return lines and words; None for a binary file, which is not read to its end."""
    lines = words = 0
    inside_word = False
    for position, chunk in enumerate(file.chunks()):
        if position == 0 and b"\0" in chunk[:SNIFFED]:
            return None
        lines += chunk.count(b"\n")
        # A word across two chunks is one word.
        words += len(chunk.split()) - (inside_word and not chunk[:1].isspace())
        inside_word = not chunk[-1:].isspace()
    return lines, words


def _decode_text(content: bytes) -> str:
    """Return the content as text; a byte order mark is not part of it."""
    if b"\0" not in content:
        with suppress(UnicodeDecodeError):
            return content.decode("utf-8-sig")
    raise Skipped("binary, or not UTF-8 text")
