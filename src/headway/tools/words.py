"""Words as people search for them, in whatever script.

Chinese, Japanese, Thai and others put no spaces between words, and Korean puts endings behind them.
So that a part of such a text is found, `split` takes each of its characters for a word: a phrase of
them, side by side, is any word. `folded` is for comparing: case, accents and width do not count.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

SEPARATOR = "\x1f"
"""Stands between two words where the text has nothing. Index and reader take it out again."""

_UNSPACED = (
    "\u0e01-\u0e5b\u0e81-\u0edf"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u1950-\u19df\u1a20-\u1aad\uaa80-\uaadf"  # Khmer, Tai Le, Lue, Tham, Viet
    "\u1b00-\u1b7f\ua980-\ua9df"  # Balinese, Javanese
    "\u0f40-\u0fbc"  # Tibetan
    "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3038-\u303c"  # radicals and signs of Chinese
    "\u3041-\u30ff\u31f0-\u31ff\u3105-\u312f\u31a0-\u31bf"  # Japanese, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese characters
    "\ua000-\ua4c6"  # Yi
    "\uac00-\ud7a3\u3131-\u318e"  # Korean
    "\U00016fe0-\U00018d08\U0001aff0-\U0001b2fb"  # Tangut, Khitan, more Japanese, Nushu
    "\U00020000-\U000323af"  # more Chinese characters
)

_RUN = re.compile(f"[{_UNSPACED}]+")

PIECE = 65536
"""Characters that are looked at in one go. While Python looks for a pattern nothing else runs."""

# What is written in pieces or in another width. Whole texts are not normalized: Python takes
# quadratic time for accents out of order, and nothing of these has any.
_VARIANTS = re.compile(
    "[\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7fb]+|[\uff01-\uff9f]+|[\u3041-\u30ff][\u3099\u309a]"
    "|[\uf900-\ufad9\U0002f800-\U0002fa1d]+"
)

_ACCENTED = re.compile("[\u00c0-\u024f\u0300-\u0377\u0386-\u03ce\u0400-\u0457\u1e00-\u1fff]+")

# Letters whose other forms a tokenizer that folds accents of Latin does not know for the same.
_UNFOLDED = re.compile("[\u00df\u1e9e\ufb00-\ufb06\u0370-\u03ff\u1f00-\u1fff\u0401\u0451]")

_QUOTES = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02", '"'))

_INVISIBLE = str.maketrans(dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff"))


def has_unspaced(text: str) -> bool:
    """Return whether a text has characters of a script without spaces."""
    return not text.isascii() and _RUN.search(_uniform_width(text)) is not None


def split(text: str) -> str:
    """Return a text with a separator beside each character of a script without spaces."""
    text = text.replace(SEPARATOR, " ")
    return text if text.isascii() else "".join(map(_split_piece, _split_pieces(text)))


def join(text: str) -> str:
    """Return split text joined again; only the width of characters may differ."""
    return text.replace(SEPARATOR, "")


def pairs(term: str) -> list[str]:
    """Return each two characters of a term that stand side by side in a script without spaces."""
    runs = _RUN.findall(_uniform_width(term))
    return list(dict.fromkeys(run[at : at + 2] for run in runs for at in range(len(run) - 1)))


def folded(text: str) -> str:
    """Return a text for comparing: case, accents and width do not count."""
    if text.isascii():
        return text.lower()
    plain = _uniform_width(text.translate(_INVISIBLE)).casefold()
    return _ACCENTED.sub(lambda found: found[0].translate(_base_letters()), plain)


def folded_besides(text: str) -> str:
    """Return a text for comparing where a tokenizer would not fold all of it; else nothing."""
    if text.isascii() or _UNFOLDED.search(text) is None:
        return ""
    return "".join(map(folded, _split_pieces(text)))


def is_word(term: str) -> bool:
    """Return whether a term has a letter or a digit in it, and not signs alone."""
    return any(map(str.isalnum, term))


def terms_in(query: str, most: int) -> tuple[str, ...]:
    """Return words and quoted phrases; a quote that nothing closes is not there."""
    plain = query.replace("\0", " ").translate(_QUOTES).translate(_INVISIBLE)
    found: list[tuple[str, str]] = re.findall(r'"([^"]*)"|([^\s"]+)', plain)
    terms = (" ".join((phrase or word).split()) for phrase, word in found)
    return tuple(dict.fromkeys(term for term in terms if term))[:most]


def _split_pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces, cut where there is a space if that is near."""
    start = 0
    while start < len(text):
        end = start + PIECE
        space = text.rfind(" ", end - 200, end) if end < len(text) else -1
        yield text[start : space + 1 or end]
        start = space + 1 or end


def _split_piece(piece: str) -> str:
    def apart(run: re.Match[str]) -> str:
        return f"{SEPARATOR}{SEPARATOR.join(run[0])}{SEPARATOR}"

    return piece if piece.isascii() else _RUN.sub(apart, _uniform_width(piece))


def _uniform_width(text: str) -> str:
    """Return letters in one width and one piece."""
    return _VARIANTS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)


@lru_cache(maxsize=1)
def _base_letters() -> dict[int, str | None]:
    """Return letters with accents and the same letters without; lone accents become nothing."""
    bases: dict[int, str | None] = dict.fromkeys(range(768, 880))
    for code in (*range(0xC0, 0x250), *range(0x370, 0x3D0), *range(0x1E00, 0x2000), 0x451, 0x450):
        base, *accents = unicodedata.normalize("NFD", chr(code))
        if accents and all(map(unicodedata.combining, accents)):
            bases[code] = base
    return bases
