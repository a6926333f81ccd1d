"""What a target says of logging is what counts, whoever serves it."""

import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from tests.kit.program import programs_in

from headway import Headway
from headway.api.capture import capture_logging
from headway.cli.log_output import setup
from headway.testing import run_tool


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """As in a process that has just begun, and afterwards as before."""
    root, shop = logging.getLogger(), logging.getLogger("shop")
    loggers = [root, shop, *map(logging.getLogger, setup.QUIET_LOGGERS)]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    basic_config = logging.basicConfig
    for each in loggers:
        each.handlers[:] = []
    root.setLevel(logging.WARNING)
    yield
    logging.basicConfig = basic_config
    for each, level, handlers, propagate in before:
        for handler in each.handlers:
            handler.close()
        each.setLevel(level)
        each.handlers[:], each.propagate = handlers, propagate
    for each in logging.root.manager.loggerDict.values():
        if isinstance(each, logging.Logger):
            each.disabled = False  # as `dictConfig` leaves them


def say() -> None:
    logging.getLogger("shop").debug("it is looked at")
    logging.getLogger("shop").info("it is taken")


def test_without_any_it_is_on_stderr(capsys: pytest.CaptureFixture[str]):
    setup.configure_logging("info")
    say()
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO    shop: it is taken")


@pytest.mark.parametrize("when", ["before", "behind", "later"])
def test_a_file_of_the_targets_has_all_and_stderr_nothing(
    when: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Before its server is made, behind that as the SDK sets up its own, or in its lifespan."""
    file = tmp_path / "app.log"

    def set_up() -> None:
        logging.basicConfig(filename=file, level=logging.DEBUG, format="%(message)s")

    setup.configure_logging("info")
    if when == "before":
        set_up()
    MCPServer("shop")
    if when == "behind":
        set_up()
    setup.check_log_setup()
    if when == "later":
        set_up()
    say()
    assert file.read_text() == "it is looked at\nit is taken\n"
    assert capsys.readouterr().err == ""


def test_the_level_is_pythons_where_the_target_says_none(tmp_path: Path):
    file = tmp_path / "app.log"
    setup.configure_logging("info")
    logging.basicConfig(filename=file, format="%(message)s")
    say()
    logging.getLogger("shop").warning("it is lost")
    assert file.read_text() == "it is lost\n"


def test_the_sdk_sets_up_nothing(capsys: pytest.CaptureFixture[str]):
    setup.configure_logging("info")
    MCPServer("shop")
    say()
    assert "INFO    shop: it is taken" in capsys.readouterr().err


def test_what_has_a_handler_of_its_own_is_not_said_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    setup.configure_logging("info")
    logging.getLogger("shop").addHandler(logging.FileHandler(tmp_path / "app.log"))
    say()
    logging.getLogger("other").info("on stderr")
    assert (tmp_path / "app.log").read_text() == "it is taken\n"
    assert [line[-9:] for line in capsys.readouterr().err.splitlines()] == ["on stderr"]


def test_a_null_handler_and_one_that_only_listens_are_nobodys_place(
    capsys: pytest.CaptureFixture[str],
):
    setup.configure_logging("info")
    logging.getLogger("shop").addHandler(logging.NullHandler())
    with capture_logging("shop"):
        say()
    assert "it is taken" in capsys.readouterr().err


def test_our_own_loggers_go_on_whatever_is_switched_off(tmp_path: Path):
    file = tmp_path / "app.log"
    setup.configure_logging("info")
    ours = logging.getLogger("headway.engine.tool_failures")
    theirs = logging.getLogger("mcp.server.mcpserver.server")
    root = {"level": "INFO", "handlers": ["file"]}
    handlers = {"file": {"class": "logging.FileHandler", "filename": str(file)}}
    logging.config.dictConfig({"version": 1, "handlers": handlers, "root": root})
    assert ours.disabled
    setup.check_log_setup()
    ours.error("a tool failed")
    theirs.error("a tool crashed")
    assert file.read_text() == "a tool failed\na tool crashed\n"


@pytest.mark.anyio
async def test_what_is_logged_in_a_call_names_its_run(capsys: pytest.CaptureFixture[str]):
    setup.configure_logging("info")
    mcp: Any = Headway("shop")

    @mcp.tool()
    async def take() -> None:
        say()
        raise ValueError("sold out")

    outcome = await run_tool(mcp, "take", raise_on_error=False)
    lines = capsys.readouterr().err.splitlines()
    said, crashed = (line for line in lines if " (run " in line)
    assert "INFO    shop: it is taken (run " in said
    assert "unexpected exception (run " in crashed
    assert outcome.is_error


TARGET = """
import logging
from mcp.server.mcpserver import MCPServer
logging.basicConfig(filename="app.log", level=logging.DEBUG, format="%(name)s %(message)s")
mcp = MCPServer("shop")
@mcp.tool()
def take() -> str:
    logging.getLogger("shop").debug("it is looked at")
    return "ok"
"""


@pytest.mark.parametrize("command", [("call", "shop.py:mcp", "take")])
def test_an_unmodified_file_writes_where_it_says(tmp_path: Path, command: tuple[str, ...]):
    (tmp_path / "shop.py").write_text(TARGET)
    with programs_in(tmp_path) as programs:
        assert programs.run(*command).out == "ok\n"
    assert "shop it is looked at\n" in (tmp_path / "app.log").read_text()
