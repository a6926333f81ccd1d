"""Fail when a file or a function has outgrown its shape, or a name says nothing.

A limit is not a taste: a file past it has two nouns in it, a function past it a table.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 500
FUNCTION_LINES = 45
NAMELESS = {"utils", "helpers", "common", "core", "manager", "misc"}


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1


def faults(path: Path) -> Iterator[str]:
    """What is wrong with a file."""
    text = path.read_text()
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines, {FILE_LINES} are allowed"
    if path.stem in NAMELESS:
        yield f"{path}: {path.stem!r} names no part of the problem"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = length(node)
            if size > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {size} lines of {FUNCTION_LINES}"


def main() -> int:
    """Look at every Python file of the project."""
    found = [
        fault
        for folder in ("src", "tests", "bench", "scripts")
        for path in sorted(Path(folder).rglob("*.py"))
        for fault in faults(path)
    ]
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
