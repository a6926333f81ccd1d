"""A process whose tools print, whose children print, and whose answers hold line separators."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.kit.stdio import ROOT, program, transport_of
from tests.kit.waits import until

pytestmark = pytest.mark.anyio

TARGET = str(Path(__file__).with_name("target.py"))
each_era = pytest.mark.parametrize("era", ["2025", "2026"])


@pytest.mark.requirement("stdio.only-messages")
@each_era
async def test_nothing_gets_between_two_messages(era: str):
    async with program("run", TARGET, "--stdio") as client:
        await client.ready()
        if era == "2025":
            await client.shake_hands()
        for _ in range(3):
            answer = await client.call("noisy", era=era, level="debug")
            assert answer["result"]["content"][0]["text"] == "done\u2028with\u2029noise\u0085"
        client.close()
        assert await client.gone() == 0
        await client.hear_all()
        assert not [m for m in client.heard if m.get("result") == "forged"]


async def test_what_was_printed_is_on_stderr():
    async with program("run", TARGET, "--stdio") as client:
        assert "printed" in await client.complains("printed while")
        assert "native" not in await client.complains("fd 1 while")
        await client.call("noisy", era="2026")
        for text in ("printed", "forged", "original", "native code", "by a child", "by a shell"):
            await client.complains(text)


async def test_a_tool_that_reads_stdin_does_not_get_the_clients_messages():
    async with program("run", TARGET, "--stdio") as client:
        await client.ready()
        asked = await client.start("nosy", era="2026")
        later = [await client.start("add", {"a": n, "b": 1}, era="2026") for n in range(20)]
        assert (await client.answer(asked))["result"]["content"][0]["text"] == "nothing, b'', b''"
        for number, identity in enumerate(later):
            assert (await client.answer(identity))["result"]["content"][0]["text"] == str(
                number + 1
            )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_children_do_not_have_the_pipes():
    """Else a client would wait for the end of a stream that a daemon still holds."""
    async with program("run", TARGET, "--stdio") as client:
        await client.ready()
        answer = await client.call("open_files", era="2026")
        assert answer["result"]["structuredContent"]["result"][:3] == [0, 1, 2]
        assert len(answer["result"]["structuredContent"]["result"]) == 4  # and the listing itself


@pytest.mark.requirement("json.utf-8", era="2026")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
async def test_the_locale_does_not_matter(encoding: str):
    env = {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    async with program("run", TARGET, "--stdio", env=env) as client:
        await client.ready()
        name = "ünbekannt ☃"
        message = client.message("tools/call", {"name": name, "arguments": {}}, era="2026", id=1)
        await client.raw(json.dumps(message, ensure_ascii=False).encode() + b"\n")
        assert name in json.dumps(await client.answer(1), ensure_ascii=False)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@each_era
async def test_a_client_that_does_not_read_costs_little_and_blocks_no_tool(
    tmp_path: Path, era: str
):
    """Sixty megabytes are said to nobody; the tools end all the same, and all is bounded."""
    marks = [tmp_path / "one", tmp_path / "two"]
    async with program("run", TARGET, "--stdio") as client:
        await client.ready()
        if era == "2025":
            await client.shake_hands()
        options: dict[str, Any] = {"era": era, "level": "debug"}
        before = (await client.call("memory", **options))["result"]["structuredContent"]["result"]
        transport_of(client.reader).pause_reading()
        calls = [
            client.message(
                "tools/call",
                {"name": "flood", "arguments": {"mark": str(mark), "count": 3000, "size": 10_000}},
                **options,
            )
            for mark in marks
        ]
        # At once: when the first one has said much, the next is not read before that is taken.
        await client.raw(b"".join(json.dumps(call).encode() + b"\n" for call in calls))
        await until(lambda: all(mark.exists() for mark in marks))
        assert _resident(client.process.pid) - before < 60_000_000
        transport_of(client.reader).resume_reading()
        for call in calls:
            answer = await client.answer(call["id"])
            assert answer["result"]["content"][0]["text"] == "flooded"
        assert [m for m in client.heard if "were dropped" in str(m.get("params"))]


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


async def test_serve_speaks_stdio_too(tmp_path: Path):
    (tmp_path / "a.txt").write_text("hello")
    env = {"XDG_DATA_HOME": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
    async with program("serve", "--stdio", "--root", str(tmp_path), env=env) as client:
        await client.ready()
        names = [
            tool["name"] for tool in (await client.ask("tools/list", era="2026"))["result"]["tools"]
        ]
        assert "process_files" in names
        answer = await client.call("process_files", {"directory": "."}, era="2026", token=1)
        assert answer["result"]["isError"] is False
        assert [m for m in client.heard if m.get("method") == "notifications/progress"]
