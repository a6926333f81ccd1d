"""The section `[encryption]`: the keys that the journal is encrypted with.

[encryption]
keys = "journal.keys"   # a file, of which headway journal key makes the lines
plain = "read"          # while it is being switched on
"""

from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from headway.encryption import Encryption, PlainEntries
from headway.errors import SetupError
from headway.toml_file import Mistake, TomlFile
from headway.toml_lines import Key
from headway.toml_sections import Text, mistake_of, path_text

SECTION: Final = "encryption"


class EncryptionSection(BaseModel):
    """The section: where the keys are, and what becomes of entries that are not encrypted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    keys: Annotated[Text, AfterValidator(path_text)]
    """The file with the keys; the first one encrypts, each of them decrypts."""
    plain: PlainEntries = "refuse"
    """The fate of entries that are not encrypted: `refuse`, `read`, or `write` more of them."""


def parse_encryption(toml: TomlFile) -> tuple[Encryption | None, list[Mistake]]:
    """Return the keys that a file names, or None where it names none, and what is wrong there."""
    if SECTION not in toml.values:
        return None, []
    try:
        context = {"directory": toml.directory}
        found = EncryptionSection.model_validate(toml.values[SECTION], context=context)
        return Encryption.from_file(found.keys, plain=found.plain), []
    except ValidationError as error:
        wrong = [mistake_of(each, _keys_at) for each in error.errors()]
        return None, [((SECTION, *place), what) for place, what in wrong]
    except SetupError as error:
        return None, [((SECTION, "keys"), str(error))]


def _keys_at(_place: tuple[Key, ...]) -> Iterable[str]:
    return EncryptionSection.model_fields
