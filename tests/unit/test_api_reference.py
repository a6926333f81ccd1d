"""The page of public names is made from the source, and says what that says."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "api_reference.py"

SOURCE = '''
class Report(Base):
    """How far a tool is.

    Raises:
        ValueError: It went back.
    """

    total: int | None = None
    """The whole,
    if it is known."""
    _hidden: int = 1

    def __init__(self, value: float, /, *names: str, unit: str = "files") -> None:
        """Not shown."""

    async def send(self, to: str) -> bool:
        """Send it."""

    @property
    def share(self) -> float:
        """The share that is done."""

    def _inner(self) -> None:
        """Not public."""
'''


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_class_is_shown_with_its_signature_its_fields_and_its_public_methods(
    script: ModuleType,
) -> None:
    shown = "\n".join(script.entries_of("Report", ast.parse(SOURCE).body[0]))
    assert 'class Report(value: float, /, *names: str, unit: str = "files")' in shown
    assert "- `total: int | None = None`: The whole, if it is known." in shown
    assert "async def send(to: str) -> bool" in shown
    assert "#### `Report.share`\nThe share that is done." in shown
    assert "**Raises**\n\n- ValueError: It went back." in shown
    assert "hidden" not in shown
    assert "inner" not in shown


def test_a_long_signature_has_a_line_for_each_argument(script: ModuleType) -> None:
    names = [f"argument_{number}" for number in range(12)]
    node = ast.parse(f"def send({', '.join(names)}): ...").body[0]
    shown = script.signature_of(node, "send")
    assert shown.splitlines()[0] == "send("
    assert shown.splitlines()[1] == "    argument_0,"
    assert shown.splitlines()[-1] == ")"


def test_a_name_is_found_where_it_is_defined_and_not_where_it_is_imported(
    script: ModuleType,
) -> None:
    page = script.page()
    assert "### `track`\n\n```python\ndef track(" in page
    assert "### `run_tool`\n\n```python\nasync def run_tool(" in page


def test_a_page_that_is_not_up_to_date_is_refused(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "PAGE", tmp_path / "api.md")
    monkeypatch.setattr(sys, "argv", ["api_reference.py"])
    assert script.main() == 0
    monkeypatch.setattr(sys, "argv", ["api_reference.py", "--check"])
    assert script.main() == 0
    (tmp_path / "api.md").write_text("earlier")
    assert script.main() == 1
    assert "python scripts/api_reference.py" in capsys.readouterr().out
