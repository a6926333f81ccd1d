"""`headway run URL`: another server, served through a proxy."""

import pytest
from tests.cli.conftest import Command
from tests.kit.program import Programs


def test_what_is_at_a_url_is_served_with_its_progress_and_errors(
    command: Command, programs: Programs, served_example: str
):
    _, url = programs.serve("run", served_example, "--port", "0", "--journal", "memory:")
    assert url != served_example
    listed = command("tools", url)
    assert listed.out.startswith("count\n  Count, and tell.\n")
    called = command("call", url, "count", "steps=3")
    assert called.out == "counted to 3\n"
    assert "Step 3" in called.err
    failed = command("call", url, "fail")
    assert failed.code == 1
    assert "fail" in failed.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("http://",), "is no URL of a server"),
        (("http://[::1/mcp",), "is no URL of a server"),
        (("http://127.0.0.1:9/mcp", "--reload"), "has no files here to watch"),
    ],
)
def test_what_cannot_be_served_is_said(arguments: tuple[str, ...], why: str, command: Command):
    said = command("run", *arguments, "--port", "0")
    assert said.code in (2, 3)
    assert why in said.err
