"""Lines about what a server has besides tools: its resources and its prompts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headway.cli.display.printable import one_line, plain

if TYPE_CHECKING:
    from mcp_types import Prompt, Resource, ResourceTemplate


def resource_lines(resource: "Resource | ResourceTemplate") -> Iterator[str]:
    """Yield the lines of a resource: its URI, its type and what it is."""
    uri = getattr(resource, "uri", None) or getattr(resource, "uri_template", "")
    kind = f" ({resource.mime_type})" if resource.mime_type else ""
    yield one_line(f"{uri}{kind}")
    if (title := resource.title or resource.name) != str(uri):
        yield f"  {one_line(title)}"
    yield from _described(resource.description)


def prompt_lines(prompt: "Prompt") -> Iterator[str]:
    """Yield the lines of a prompt: its name, what it is, and its arguments."""
    yield one_line(prompt.name)
    yield from _described(prompt.description)
    for argument in prompt.arguments or ():
        needed = ", required" if argument.required else ""
        told = f"  {argument.description}" if argument.description else ""
        yield f"    {one_line(f'{argument.name}: string{needed}{told}')}"


def _described(text: str | None) -> Iterator[str]:
    for line in plain(text or "").strip().splitlines():
        yield f"  {line}".rstrip()
