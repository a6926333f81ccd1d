"""The decorator `tool` has the parameters of `add_tool`, which declares them."""

import inspect

import pytest

from headway import Headway


def test_tool_has_all_parameters_of_add_tool_but_the_function():
    added = list(inspect.signature(Headway.add_tool).parameters.values())
    assert list(inspect.signature(Headway.tool).parameters.values()) == [added[0], *added[2:]]


def test_a_wrong_option_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match=r"Headway\.tool\(\) got an unexpected .* 'timout'"):
        Headway().tool(timout="3s")  # pyright: ignore[reportCallIssue]


def test_the_decorator_registers_through_add_tool():
    """A subclass that watches `add_tool` sees each function."""
    seen: list[str] = []

    class Watching(Headway):
        def add_tool(self, fn, *args, **options):
            seen.append(fn.__name__)
            super().add_tool(fn, *args, **options)

    @Watching().tool(timeout="3s")
    def quick() -> int:
        return 1

    assert seen == ["quick"]
    assert quick() == 1
