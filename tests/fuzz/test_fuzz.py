"""Some inputs of the fuzzer (`make fuzz` has more), and those that broke something once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz.fuzzer import Fuzzer, corpus
from tests.fuzz.servers import HttpServer, PipeServer

SEED = 20261128


def test_whatever_is_sent_is_answered_and_leaves_nothing_behind() -> None:
    fuzzer = Fuzzer(SEED)
    assert fuzzer.run(300) == []
    assert fuzzer.sent >= 300


@pytest.fixture(scope="module")
def http() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


@pytest.fixture(scope="module")
def pipe() -> Iterator[PipeServer]:
    with PipeServer() as server:
        yield server


@pytest.mark.parametrize("path", list(corpus(".http")), ids=lambda path: path.stem)
def test_what_broke_the_endpoint_once_does_not_any_more(http: HttpServer, path: Path) -> None:
    http.strike(http.world.fill(path.read_bytes()))


@pytest.mark.parametrize("path", list(corpus(".line")), ids=lambda path: path.stem)
def test_what_broke_the_pipe_once_does_not_any_more(pipe: PipeServer, path: Path) -> None:
    pipe.strike(pipe.world.fill(path.read_bytes()))
    pipe.settle()
