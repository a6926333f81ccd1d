"""Fail when a file, a function or a class has outgrown its shape, or a docstring names no subject.

A limit is not a taste: a function past it holds a table, a class past it holds another class, and
a long file with two public classes in it holds two files. A long file about one thing is left
alone, up to a point: it reads better than two files that call each other in turn.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

PACKAGE = Path("src/headway")

FILE_LINES = 500
"""For a file with more than one public class."""

LONGEST_FILE_LINES = 600
"""For every file."""

FUNCTION_LINES = 45
"""Without the signature and the docstring."""

CLASS_ATTRIBUTES = 15
CLASS_METHODS = 30

NAMELESS = {"utils", "helpers", "common", "core", "manager", "misc"}

SHARED_NAMES = {
    "__init__": "Python's own",
    "app": "the served app, and the command line's: each is the top of its package",
    "store": "one contract, and one implementation for each storage: the folder says which",
    "endpoint": "one for each transport: the folder says which",
}
"""File names that may occur more than once below `src/headway`, each with the reason."""

LARGE_CLASSES = {
    "Settings": "one field for each setting: it is the table itself",
    "ServeOptions": "one field for each option that two commands share: likewise a table",
    "Connection": "40 methods: most are callbacks of asyncio, of the parser and of uvicorn",
}
"""Classes that may pass the limits, each with the reason."""

SHOWN_TO_CLIENTS = {
    "BatchSummary", "Outcome", "SearchResult", "SourceReport", "Summary", "TypeTotals",
}  # fmt: skip
"""Classes of results of tools: their docstrings are in the schemas that clients get, and stay."""

RELATIVE = re.compile(r"(Who|What|Whose|Whether)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults(path: Path, text: str) -> Iterator[str]:
    """Yield what is wrong with a Python file, each with its file and line."""
    tree = ast.parse(text)
    yield from file_faults(path, text, tree)
    for node in ast.walk(tree):
        if isinstance(node, Function):
            size = body_lines(node)
            if size > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {size} lines of {FUNCTION_LINES}"
    if path.is_relative_to(PACKAGE):
        yield from class_faults(path, tree)
        yield from attribute_faults(path, tree)
        yield from docstring_faults(path, tree)


def file_faults(path: Path, text: str, tree: ast.Module) -> Iterator[str]:
    """Yield what is wrong with a file as a whole: its length and its name."""
    lines = text.count("\n")
    public = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    if lines > LONGEST_FILE_LINES:
        yield f"{path}:1: {lines} lines of {LONGEST_FILE_LINES}"
    elif lines > FILE_LINES and len(public) > 1:
        yield (
            f"{path}:1: {lines} lines of {FILE_LINES} for a file with more than one public "
            f"class ({', '.join(public)}); give each its own file"
        )
    if path.stem in NAMELESS:
        yield f"{path}:1: {path.stem!r} names no part of the problem"


def class_faults(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield the classes that hold or do too much."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or node.name in LARGE_CLASSES:
            continue
        attributes = len(attributes_of(node))
        methods = sum(isinstance(member, Function) for member in node.body)
        if attributes > CLASS_ATTRIBUTES:
            yield (
                f"{path}:{node.lineno}: {node.name} has {attributes} attributes of "
                f"{CLASS_ATTRIBUTES}; carve a class out of it"
            )
        if methods > CLASS_METHODS:
            yield (
                f"{path}:{node.lineno}: {node.name} has {methods} methods of {CLASS_METHODS}; "
                "carve a class out of it"
            )


def docstring_faults(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings that begin with a relative instead of a subject or a verb."""
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef | ast.Module):
            if isinstance(node, ast.ClassDef) and node.name in SHOWN_TO_CLIENTS:
                continue
            found = RELATIVE.match(ast.get_docstring(node) or "")
            if found:
                line = node.body[0].lineno
                yield (
                    f"{path}:{line}: a docstring begins with {found[0]!r}; name the subject, or "
                    "say what the function does: 'Return …'"
                )


def attribute_faults(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of attributes and constants that begin with such a relative.

    "Whether …" names a truth value well enough.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | ast.Module):
            continue
        for before, said in pairwise(node.body):
            if not isinstance(before, ast.Assign | ast.AnnAssign):
                continue
            match said:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    found = RELATIVE.match(text)
                    if found and found[0] != "Whether":
                        yield f"{path}:{said.lineno}: a docstring begins with {found[0]!r}; name it"
                case _:
                    pass


def name_faults(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the file names of the package that occur more than once."""
    places: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if path.is_relative_to(PACKAGE) and path.stem not in SHARED_NAMES:
            places[path.stem].append(path)
    for name, same in places.items():
        for path in same[1:]:
            yield f"{path}:1: there is a {name!r} at {same[0]} too; a name is to say which it is"


def body_lines(node: Function) -> int:
    """Count the lines of a function without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1


def attributes_of(node: ast.ClassDef) -> set[str]:
    """Return the names of a class's fields and of all that its methods set on `self`."""
    declared = {
        member.target.id
        for member in node.body
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)
    }
    assigned = {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute)
        and isinstance(inner.ctx, ast.Store)
        and isinstance(inner.value, ast.Name)
        and inner.value.id == "self"
    }
    return declared | assigned


def main() -> int:
    """Look at every Python file of the project; return 1 where one has a fault."""
    paths = [
        path
        for folder in ("src", "tests", "bench", "scripts")
        for path in sorted(Path(folder).rglob("*.py"))
    ]
    found = [fault for path in paths for fault in faults(path, path.read_text())]
    found += name_faults(paths)
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
