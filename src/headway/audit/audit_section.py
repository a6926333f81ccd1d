"""The section `[audit]`: where a line goes for each call, refusal and cancel, and what is in it.

[audit]
to = "/var/log/headway/audit.jsonl"   # or "stderr", "syslog:"
arguments = "names"                   # or "hashes", "values"
redact = ["iban", "*_pin"]
required = true
refusal_rate = 1
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from headway.audit.destinations import STDERR, SYSLOG, syslog_address
from headway.toml_file import Mistake, TomlFile
from headway.toml_lines import Key
from headway.toml_sections import Text, mistake_of, path_text

SECTION: Final = "audit"


def _check_place(text: str, info: ValidationInfo) -> str:
    if text == STDERR:
        return text
    if text.startswith(SYSLOG):
        syslog_address(text)
        return text
    return path_text(text, info)


class AuditConfig(BaseModel):
    """The section: where an audit log goes, and how much it has of each call."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    to: Annotated[Text, AfterValidator(_check_place)] = STDERR
    """A file, `stderr`, `syslog:`, `syslog:/path/of/socket` or `syslog:host:port` (UDP)."""
    arguments: Literal["names", "hashes", "values"] = "names"
    """How much is told of a call's arguments."""
    redact: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Names of arguments whose values are never told, with wildcards; added to those that are
    always among them (`headway.audit.told_arguments.ALWAYS_REDACTED`)."""
    required: bool = False
    """Refuse calls while the log cannot be written."""
    refusal_rate: Annotated[float, Field(strict=False, gt=0, allow_inf_nan=False)] = 1.0
    """Refusals a second of a kind that are recorded, beyond a hundred at once; the others
    are counted. Anybody can cause refusals, and they are not to fill the disk."""


def parse_audit(toml: TomlFile) -> tuple[AuditConfig | None, list[Mistake]]:
    """Return what a file's `[audit]` says, or None where it has none, and what is wrong in it."""
    if SECTION not in toml.values:
        return None, []
    try:
        context = {"directory": toml.directory}
        return AuditConfig.model_validate(toml.values[SECTION], context=context), []
    except ValidationError as error:
        found = [mistake_of(each, _keys_at) for each in error.errors()]
        return None, [((SECTION, *place), what) for place, what in found]


def _keys_at(_place: tuple[Key, ...]) -> Iterable[str]:
    return AuditConfig.model_fields
