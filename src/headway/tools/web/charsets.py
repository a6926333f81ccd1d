"""The charset of an HTTP answer: what its Content-Type declares, and its body read by it.

The names are those of the WHATWG Encoding Standard, with what they mean there: `iso-8859-1` is
windows-1252, as everywhere on the web. They are a table, and nothing that a server sends is looked
up among Python's codecs: some of these are no charsets (`zip`, `idna`), take quadratic time
(`punycode`) or remember each unknown name for ever.
"""

import codecs
import re
from email.message import Message
from typing import NamedTuple

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""That of UTF-32 begins with that of UTF-16, so it comes before."""

_NAMES = {
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8 us-ascii "
    "ascii ansi_x3.4-1968 iso646-us",
    "utf-16-le": "utf-16 utf-16le utf16 utf16le utf_16 csunicode iso-10646-ucs-2 ucs-2 unicode "
    "unicodefeff",
    "utf-16-be": "utf-16be utf16be unicodefffe",
    "utf-32-le": "utf-32 utf-32le utf32",
    "utf-32-be": "utf-32be",
    "cp1252": "windows-1252 cp1252 x-cp1252 iso-8859-1 iso8859-1 iso88591 iso_8859-1 iso-ir-100 "
    "iso_8859-1:1987 latin1 latin-1 l1 csisolatin1 cp819 ibm819",
    "iso8859-2": "iso-8859-2 iso8859-2 iso88592 iso_8859-2 iso-ir-101 latin2 latin-2 l2 "
    "csisolatin2",
    "iso8859-3": "iso-8859-3 iso8859-3 iso88593 iso_8859-3 iso-ir-109 latin3 l3 csisolatin3",
    "iso8859-4": "iso-8859-4 iso8859-4 iso88594 iso_8859-4 iso-ir-110 latin4 l4 csisolatin4",
    "iso8859-5": "iso-8859-5 iso8859-5 iso88595 iso_8859-5 iso-ir-144 cyrillic csisolatincyrillic",
    "iso8859-6": "iso-8859-6 iso8859-6 iso88596 iso_8859-6 iso-8859-6-e iso-8859-6-i iso-ir-127 "
    "arabic asmo-708 ecma-114 csisolatinarabic",
    "iso8859-7": "iso-8859-7 iso8859-7 iso88597 iso_8859-7 iso-ir-126 greek greek8 ecma-118 "
    "elot_928 csisolatingreek sun_eu_greek",
    "iso8859-8": "iso-8859-8 iso8859-8 iso88598 iso_8859-8 iso-8859-8-e iso-8859-8-i iso-ir-138 "
    "hebrew visual logical csisolatinhebrew",
    "iso8859-10": "iso-8859-10 iso8859-10 iso885910 iso-ir-157 latin6 l6 csisolatin6",
    "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859-15": "iso-8859-15 iso8859-15 iso885915 iso_8859-15 latin-9 latin9 l9 csisolatin9",
    "iso8859-16": "iso-8859-16",
    "cp866": "ibm866 866 cp866 csibm866",
    "cp437": "ibm437 cp437 437",
    "cp850": "ibm850 cp850 850",
    "cp852": "ibm852 cp852 852",
    "koi8-r": "koi8-r koi8 koi koi8_r cskoi8r",
    "koi8-u": "koi8-u koi8-ru",
    "mac-roman": "macintosh mac x-mac-roman csmacintosh",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "cp874": "windows-874 cp874 dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 tis620",
    "cp1250": "windows-1250 cp1250 x-cp1250",
    "cp1251": "windows-1251 cp1251 x-cp1251",
    "cp1253": "windows-1253 cp1253 x-cp1253",
    "cp1254": "windows-1254 cp1254 x-cp1254 iso-8859-9 iso8859-9 iso88599 iso_8859-9 iso-ir-148 "
    "latin5 latin-5 l5 csisolatin5",
    "cp1255": "windows-1255 cp1255 x-cp1255",
    "cp1256": "windows-1256 cp1256 x-cp1256",
    "cp1257": "windows-1257 cp1257 x-cp1257",
    "cp1258": "windows-1258 cp1258 x-cp1258",
    "gb18030": "gb18030 gbk gb2312 gb_2312-80 gb_2312 x-gbk chinese cp936 ms936 windows-936 "
    "iso-ir-58 csgb2312 csiso58gb231280 euc-cn",
    "hz": "hz-gb-2312 hz",
    "big5hkscs": "big5 big5-hkscs big5hkscs cn-big5 x-x-big5 csbig5 big-5",
    "cp950": "cp950 windows-950",
    "euc_jp": "euc-jp eucjp x-euc-jp cseucpkdfmtjapanese",
    "iso2022_jp_2": "iso-2022-jp csiso2022jp iso-2022-jp-1 iso-2022-jp-2",
    "cp932": "shift_jis shift-jis shiftjis sjis x-sjis ms_kanji ms932 windows-31j cp932 csshiftjis",
    "cp949": "euc-kr euckr cp949 uhc windows-949 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 "
    "ksc_5601 iso-ir-149 cseuckr csksc56011987",
    "johab": "johab cp1361",
    "iso2022_kr": "iso-2022-kr csiso2022kr",
}


def _squeeze_name(name: str) -> str:
    """Return the letters and digits of a name; the characters between them vary."""
    return re.sub(r"[^a-z0-9]", "", name)


_CODECS = {_squeeze_name(name): codec for codec, names in _NAMES.items() for name in names.split()}

_SEVEN_BITS = {
    "utf-16-le",
    "utf-16-be",
    "utf-32-le",
    "utf-32-be",
    "hz",
    "iso2022_jp_2",
    "iso2022_kr",
}
"""Charsets in which what looks like ASCII may be something else."""

_ANY_LENGTH = 100
"""Characters of a name that are looked at."""


class Text(NamedTuple):
    """A body as text."""

    text: str
    problem: str | None = None
    """A note about bytes that could not be read; None when all of them could."""


def declared(content_type: str | None) -> str | None:
    """Return the charset that a Content-Type names, in lower case (RFC 9110, 8.3.1)."""
    if not content_type or "charset" not in content_type.lower():
        return None
    message = Message()
    message["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")[:2000]
    try:
        name = message.get_param("charset")
    except (ValueError, LookupError):
        return None
    if not isinstance(name, str):  # RFC 2231: charset, language and value
        name = name[2] if name else ""
    return name.strip(" '\"\t").lower()[:_ANY_LENGTH] or None


def codec_of(content_type: str | None) -> str | None:
    """Return Python's name of the charset that a Content-Type declares; None where none is
    known."""
    return _CODECS.get(_squeeze_name(declared(content_type) or ""))


def decode(body: bytes, content_type: str | None, *, is_whole: bool = True) -> Text:
    """Return a body as text: by its byte order mark, else by the declared charset, else as UTF-8.

    JSON is UTF-8 where it can be read so, whatever is declared (RFC 8259, 8.1 and 11). Where it is
    not whole, a character that is cut at the end is left out.
    """
    for mark, codec in _BOMS:
        if body.startswith(mark):
            return _decode_with(body[len(mark) :], codec, codec, is_whole)
    name = declared(content_type)
    codec = _CODECS.get(_squeeze_name(name or ""))
    if codec is None:
        return _read_unknown(body, name, is_whole)
    if codec not in _SEVEN_BITS and codec != "utf-8" and _is_json(content_type or ""):
        text = _decode_strictly(body, "utf-8", is_whole)
        if text is not None:
            return Text(text)
    return _decode_with(body, codec, name or codec, is_whole)


def _read_unknown(body: bytes, name: str | None, is_whole: bool) -> Text:
    text = _decode_strictly(body, "utf-8", is_whole)
    if text is not None:
        return Text(text)
    lost = Text(
        _decode_replacing(body, "utf-8", is_whole), "it is not UTF-8, and declares no charset"
    )
    if name is None:
        return lost
    shown = name[:40].encode("ascii", "backslashreplace").decode()
    return lost._replace(problem=f"it is not UTF-8, and its charset {shown!r} is not known")


def _decode_with(body: bytes, codec: str, name: str, is_whole: bool) -> Text:
    text = _decode_strictly(body, codec, is_whole)
    if text is None:
        return Text(_decode_replacing(body, codec, is_whole), f"it is not {name} throughout")
    return Text(text)


def _decode_strictly(body: bytes, codec: str, is_whole: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(codec)().decode(body, final=is_whole)
    except UnicodeDecodeError:
        return None


def _decode_replacing(body: bytes, codec: str, is_whole: bool) -> str:
    return codecs.getincrementaldecoder(codec)("replace").decode(body, final=is_whole)


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower().endswith(("/json", "+json"))
