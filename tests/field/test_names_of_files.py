"""A file may be called what it likes: its functions can go to other processes all the same."""

from pathlib import Path

import pytest
from tests.kit.program import programs_in

from headway.api.pool.module_files import ModuleFile, module_files, use_module_files

SERVER = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from headway import Headway, in_process

mcp = Headway("s")

class Amount:
    def __init__(self, n): self.n = n

def heavy(amount): return sum(range(amount.n))

@mcp.tool()
async def total(n: int) -> int:
    return await in_process(heavy, Amount(n))

@mcp.tool()
def pooled(n: int) -> int:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(heavy, Amount(n)).result()
"""


@pytest.mark.parametrize("name", ["my-server.py", "my.server.py", "mcp.py"])
def test_a_function_of_the_served_file_goes_to_a_process_and_to_a_pool(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / name).write_text(SERVER)
    with programs_in(tmp_path) as programs:
        for tool in ("total", "pooled"):
            called = programs.run("call", f"own/{name}:mcp", tool, "n=10")
            assert (called.code, called.out) == (0, "45\n"), called.err


def test_files_beside_it_may_be_called_like_those_of_python(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("queue", "types", "anyio", "msgspec", "mcp", "statistics"):
        (own / f"{name}.py").write_text("def mean(values): return 'mine'\n")
    (own / "s.py").write_text(
        "from headway import Headway, in_process\n"
        "import queue, statistics, types, anyio\n"
        "mcp = Headway('s')\n"
        "def found():\n"
        "    import anyio, queue, statistics, types\n"
        "    import anyio.to_process\n"
        "    theirs = hasattr(queue, 'Queue') and hasattr(types, 'FunctionType')\n"
        "    return [theirs and hasattr(anyio, 'sleep'), statistics.mean([1])]\n"
        "@mcp.tool()\n"
        "async def both() -> list[list]:\n"
        "    return [found(), await in_process(found)]\n"
    )
    with programs_in(tmp_path) as programs:
        called = programs.run("call", "own/s.py:mcp", "both", "--output", "json")
    assert called.code == 0, called.err
    assert '{"result": [[true, "mine"], [true, "mine"]]}' in called.out


def test_only_what_would_not_be_found_has_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {home.name for home in module_files()}
    (tmp_path / "msgspec.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {home.name for home in module_files()} - before == {"msgspec"}


def test_a_module_is_found_where_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delitem(sys.modules, "headway_told_here", raising=False)
    file = tmp_path / "odd-name.py"
    file.write_text("ANSWER = 42\n")
    use_module_files([ModuleFile("headway_told_here", str(file), None)])
    assert __import__("headway_told_here").ANSWER == 42
    del sys.modules["headway_told_here"]
