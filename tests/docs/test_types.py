"""What the documentation and the examples show is right to both type checkers.

pyright reads the examples in `make check`. mypy reads them here, and the files of the tutorial.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tutorial_and_the_examples_are_right_to_mypy(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text()
    for text, name in re.findall(r"```python\n(# (\w+\.py)\n.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(text)
    files = [*sorted(tmp_path.glob("*.py")), *sorted((ROOT / "examples").glob("[!u]*.py"))]
    assert len(files) > 15
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), *map(str, files)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
