"""Sections of a TOML file that pydantic reads: their texts, and mistakes in words of ours."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from headway.toml_file import Mistake, expand_variables, unknown_key
from headway.toml_lines import Key


def _expand(value: object) -> object:
    return expand_variables(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_expand), Field(min_length=1)]
"""A text that is not empty, with `${VARIABLE}` replaced."""


def path_text(text: str, info: ValidationInfo) -> str:
    """Return a path as it counts from the section's file, which is in the validation's context."""
    base: Path = Path() if info.context is None else info.context["directory"]
    return str(base / Path(text).expanduser())


def mistake_of(error: Any, keys_at: Callable[[tuple[Key, ...]], Iterable[str]]) -> Mistake:
    """Return one error of a `ValidationError`; `keys_at` returns the keys of the table there."""
    place: tuple[Key, ...] = error["loc"]
    match error["type"]:
        case "extra_forbidden":
            return place, unknown_key(str(place[-1]), keys_at(place[:-1]))
        case "missing":
            return place, "is missing"
        case "value_error":
            return place, str(error["ctx"]["error"])
        case "model_type" | "dict_type":
            return place, "is a table"
        case _:
            return place, str(error["msg"]).removeprefix("Input should be ")
