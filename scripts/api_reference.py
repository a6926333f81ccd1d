"""The API reference `docs/api.md`: made from the docstrings of the public names, or checked.

    python scripts/api_reference.py            write it anew
    python scripts/api_reference.py --check    fail where it is not what the docstrings say

Only the source is read, so that every Python writes the same page.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SOURCE: Final = Path("src/headway")
PAGE: Final = Path("docs/api.md")
FACES: Final = {
    "headway": SOURCE / "__init__.py",
    "headway.testing": SOURCE / "testing" / "__init__.py",
}
"""The modules whose names are public, and where these are listed."""

HEAD: Final = """# API reference

All public names and what their docstrings promise. `scripts/api_reference.py` writes this page
from the source; `make check` holds it against the docstrings. [The tutorial](tutorial.md) shows
them at work, and [testing](testing.md) those of `headway.testing`.
"""

WIDTH: Final = 96
"""Characters of a line of code."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


class Sources:
    """The modules of the package, parsed once each."""

    def __init__(self) -> None:
        self._parsed: dict[Path, ast.Module] = {}

    def find(self, path: Path, name: str) -> Definition | None:
        """Return the definition of a name, in this module or in the one it is imported from."""
        for node in self._module(path).body:
            if isinstance(node, Definition) and node.name == name:
                return node
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headway"):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.find(file_of(node.module or ""), alias.name)
        return None

    def _module(self, path: Path) -> ast.Module:
        if path not in self._parsed:
            self._parsed[path] = ast.parse(path.read_text())
        return self._parsed[path]


def file_of(module: str) -> Path:
    """Return the file of a module of the package."""
    place = SOURCE.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def signature_of(node: Function, name: str, *, is_method: bool = False) -> str:
    """Return `name(arguments) -> result`, a line for each argument where one line is too short."""
    parts = parameters_of(node.args)[is_method:]
    result = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    line = f"{name}({', '.join(parts)}){result}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"
    return line.replace("'", '"')


def parameters_of(arguments: ast.arguments) -> list[str]:
    """Return each parameter as the source has it, with `/` and `*` where they stand."""
    positional = [*arguments.posonlyargs, *arguments.args]
    unset: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    parts = [_parameter(*pair) for pair in zip(positional, unset + arguments.defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg is not None:
        parts.append(f"*{_parameter(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        parts.append("*")
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    parts += [_parameter(*pair) for pair in named]
    if arguments.kwarg is not None:
        parts.append(f"**{_parameter(arguments.kwarg, None)}")
    return parts


def _parameter(given: ast.arg, default: ast.expr | None) -> str:
    kind = "" if given.annotation is None else f": {ast.unparse(given.annotation)}"
    equals = " = " if kind else "="
    return given.arg + kind + ("" if default is None else equals + ast.unparse(default))


def method_named(node: ast.ClassDef, name: str) -> Function | None:
    """Return a method of a class that it defines itself."""
    return next((one for one in node.body if isinstance(one, Function) and one.name == name), None)


def is_property(node: Function) -> bool:
    """Return whether a method is read like an attribute."""
    return any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list)


def text_of(node: Definition) -> str:
    """Return a docstring as Markdown; its sections `Raises:` and the like become lists."""
    lines: list[str] = []
    in_section = False
    for line in inspect.cleandoc(ast.get_docstring(node) or "").splitlines():
        if line.endswith(":") and line[:-1] in ("Raises", "Returns", "Args", "Yields"):
            in_section = True
            lines += [f"**{line[:-1]}**", ""]
        elif in_section and line.startswith("    ") and not line.startswith("     "):
            lines.append(f"- {line.strip()}")
        else:
            in_section = in_section and line.startswith("     ")
            lines.append(line)
    return "\n".join(lines)


def entries_of(name: str, node: Definition) -> Iterator[str]:
    """Yield the blocks of Markdown for one public name."""
    yield f"### `{name}`"
    if isinstance(node, ast.ClassDef):
        init = method_named(node, "__init__")
        shown = signature_of(init, name, is_method=True) if init else name
        yield f"```python\nclass {shown.removesuffix(' -> None')}\n```"
        yield text_of(node)
        yield "\n".join(fields_of(node))
        yield from _members(name, node)
        return
    prefix = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    yield f"```python\n{prefix} {signature_of(node, name)}\n```"
    yield text_of(node)


def fields_of(node: ast.ClassDef) -> Iterator[str]:
    """Yield an item of a list for each public field of a class, with the text after it."""
    for name, field, said in documented_fields(node):
        default = "" if field.value is None else f" = {ast.unparse(field.value)}"
        line = f"- `{name}: {ast.unparse(field.annotation)}{default}`"
        yield f"{line}: {said}" if said else line


def documented_fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.AnnAssign, str]]:
    """Yield each public field of a class: its name, its definition and the text after it."""
    following = [*node.body[1:], None]
    for field, after in zip(node.body, following, strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if field.target.id.startswith("_"):
            continue
        said = after.value if isinstance(after, ast.Expr) else None
        value = said.value if isinstance(said, ast.Constant) else None
        text = inspect.cleandoc(value) if isinstance(value, str) else ""
        yield field.target.id, field, " ".join(text.split())


def _parameters_like(owner: ast.ClassDef, method: Function) -> Function:
    """Return a method with the parameters of the one whose parameters it is declared to have."""
    for one in method.decorator_list:
        if isinstance(one, ast.Call) and ast.unparse(one.func) == "_with_parameters_of":
            like = method_named(owner, ast.unparse(one.args[0]))
            assert like is not None
            arguments = ast.parse(ast.unparse(like)).body[0]
            assert isinstance(arguments, Function)
            del arguments.args.args[1]  # the function that it registers
            method.args = arguments.args
    return method


def _members(name: str, node: ast.ClassDef) -> Iterator[str]:
    for method in node.body:
        if not isinstance(method, Function) or method.name.startswith("_"):
            continue
        yield f"#### `{name}.{method.name}`"
        if not is_property(method):
            is_awaited = isinstance(method, ast.AsyncFunctionDef)
            shown = signature_of(_parameters_like(node, method), method.name, is_method=True)
            yield f"```python\n{'async def' if is_awaited else 'def'} {shown}\n```"
        yield text_of(method)


def names_in(path: Path) -> list[str]:
    """Return `__all__` of a module."""
    value = _assigned(path, "__all__")
    if value is None:
        raise SystemExit(f"{path} has no __all__")
    return list(ast.literal_eval(value))


def _assigned(path: Path, name: str) -> ast.expr | None:
    for node in ast.parse(path.read_text()).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else []
        targets = node.targets if isinstance(node, ast.Assign) else targets
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            return node.value
    return None


def homes_in(path: Path) -> dict[str, Path]:
    """Return where the names of a lazy face are defined: its table `_MODULES`, else `api`."""
    table = _assigned(path, "_MODULES")
    if table is None:
        return {}
    modules: dict[str, str] = ast.literal_eval(table)
    return {name: file_of(f"headway.{modules.get(name, 'api')}") for name in names_in(path)}


def page() -> str:
    """Return the whole page."""
    sources, blocks = Sources(), [HEAD]
    for face, path in FACES.items():
        blocks.append(f"## `{face}`\n")
        homes = homes_in(path)
        for name in names_in(path):
            node = sources.find(homes.get(name, path), name)
            if node is not None:
                blocks += [f"{block}\n" for block in entries_of(name, node) if block]
    return "\n".join(blocks)


def main() -> int:
    """Write the page, or with `--check` return 1 when it is not up to date."""
    made = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made)
        return 0
    if PAGE.exists() and PAGE.read_text() == made:
        return 0
    print(f"{PAGE} is not what the docstrings say: python scripts/api_reference.py writes it anew")
    return 1


if __name__ == "__main__":
    sys.exit(main())
