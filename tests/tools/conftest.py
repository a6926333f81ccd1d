"""A root to work in, things outside it, and ears for what a tool says while it works."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import headway.tools.files
from headway.tools import Limits
from headway.tools.files import FileTools, Summary
from headway.tools.roots import Roots


@dataclass
class Workplace:
    """`root` is what tools may read, `outside` is what they must not."""

    root: Path
    outside: Path
    data: Path
    limits: Limits = field(default_factory=Limits)
    own: list[Path] = field(default_factory=list)

    def write(self, name: str, content: str | bytes = "x\n") -> Path:
        """A file below the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def process(
        self, directory: str = ".", pattern: str = "**/*", operation: Any = "checksum"
    ) -> Summary:
        """Call the tool as a plain function."""
        roots = Roots(
            [self.root],
            private=self.data,
            own=self.own,
            private_names=self.limits.private,
            hidden=self.limits.hidden,
        )
        tools = FileTools(roots, self.data, self.limits)
        return tools.process_files(directory, pattern, operation)


@dataclass
class Heard:
    """What the tool said, and what should happen when it says it."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    reports: list[tuple[float, float | None, str | None]] = field(default_factory=list)
    meanwhile: dict[str, Callable[[], object]] = field(default_factory=dict)
    """By file: what to do to the tree right after that file's part."""

    def part(self, value: dict[str, Any]) -> None:
        """Stand for `headway.part`."""
        self.parts.append(value)
        self.meanwhile.pop(value["file"], lambda: None)()

    def report(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Stand for `headway.report`."""
        self.reports.append((progress, total, message))

    @property
    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        """Status and reason by file."""
        return {part["file"]: (part["status"], part.get("reason")) for part in self.parts}


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("the secret\n")
    return Workplace(root, outside, tmp_path / "data")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Outside a run `part` and `report` do nothing, so they are replaced by ears."""
    heard = Heard()
    monkeypatch.setattr(headway.tools.files, "part", heard.part)
    monkeypatch.setattr(headway.tools.files, "report", heard.report)
    return heard
