"""Text of a page or a text file from its bytes, as a browser would read it, and how sure that reading is.

Order, after the HTML standard ("determining the character encoding"): byte-order mark; the charset that the transport
states; the declaration in the first 1,024 bytes of a page; UTF-8, if the bytes are (nearly) that; detection by
Resiliparse (uchardet); windows-1252. Labels mean what the Encoding standard says they mean.

A saved page has lost its transport header, which outranks the declaration. So a declaration that the bytes plainly
contradict is not believed: many sequences of valid UTF-8 under another label, or hardly any under the label UTF-8.

Why Resiliparse: of 76 texts and pages (12 languages, 17 encodings, short and long) uchardet reads 60 right and
charset-normalizer 57, which takes Russian for Mac Cyrillic and French for Baltic. Most that uchardet misses is UTF-16
without a mark and the name that it gives to Korean; both are handled here, which makes 74.
"""

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ...core.extras import require

Source = Literal["bom", "transport", "declared", "utf-8", "detected", "default"]

_REPLACEMENT = "\ufffd"
_DECLARATION_BYTES = 1_024
_SAMPLE_BYTES = 65_536
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_NEARLY = 8
"""UTF-8 with at most one bad byte for so many good sequences is UTF-8; so many bad bytes are no accident."""
_PLAINLY_UTF8 = 16
"""So many sequences of valid UTF-8 and no invalid one do not happen in another encoding."""
_FEWEST_TO_DETECT = 4
"""Fewer bytes beyond ASCII tell nothing about the language."""


def _labels() -> dict[str, str]:
    """Python's codec for each label of the Encoding standard that Python does not read as the standard means it."""
    groups = {
        "utf-8": "utf-8 utf8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8",
        "cp1252": "iso-8859-1 iso8859-1 iso88591 iso_8859-1 iso-ir-100 latin1 latin-1 l1 ascii us-ascii ansi_x3.4-1968 "
        "cp819 ibm819 windows-1252 cp1252 x-cp1252 x-user-defined",
        "cp1254": "iso-8859-9 iso8859-9 iso88599 iso_8859-9 latin5 l5 windows-1254 cp1254 x-cp1254",
        "cp874": "iso-8859-11 iso8859-11 tis-620 windows-874 dos-874",
        "gb18030": "gb18030 gbk gb2312 gb_2312 gb_2312-80 csgb2312 chinese csiso58gb231280 iso-ir-58 x-gbk",
        "cp932": "shift_jis shift-jis sjis x-sjis ms_kanji ms932 windows-31j csshiftjis",
        "cp949": "cp949 euc-kr euckr korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949 uhc iso-ir-149 cseuckr",
        "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
        "euc_jp": "euc-jp x-euc-jp cseucpkdfmtjapanese",
        "iso2022_jp": "iso-2022-jp csiso2022jp",
        "koi8_r": "koi8-r koi8 koi koi8_r cskoi8r",
        "koi8_u": "koi8-u koi8-ru",
        "cp866": "ibm866 cp866 866 csibm866",
        "mac_roman": "macintosh mac x-mac-roman csmacintosh",
        "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian mac-cyrillic",
        "iso8859_8": "iso-8859-8 iso-8859-8-i iso-8859-8-e logical visual hebrew",
        "utf-16-le": "utf-16 utf-16le unicode ucs-2 iso-10646-ucs-2 csunicode unicodefeff",
        "utf-16-be": "utf-16be unicodefffe",
    }
    windows = {
        f"{form}{page}": f"cp{page}" for page in range(1250, 1259) for form in ("windows-", "cp", "x-cp")
    }
    parts = (2, 3, 4, 5, 6, 7, 10, 13, 14, 15, 16)
    iso = {
        f"{form}{part}": f"iso8859_{part}"
        for part in parts
        for form in ("iso-8859-", "iso8859-", "iso_8859-")
    }
    latin = {"latin2": "iso8859_2", "cyrillic": "iso8859_5", "arabic": "iso8859_6", "greek": "iso8859_7"}
    return (
        windows | iso | latin | {label: codec for codec, names in groups.items() for label in names.split()}
    )


_CODECS = _labels()
# What stands in for a part of ISO 8859 when the text uses bytes that only the Windows encoding has.
_WINDOWS = {"iso8859_2": "cp1250", "iso8859_7": "cp1253", "iso8859_8": "cp1255", "iso8859_15": "cp1252"}
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_META = re.compile(rb"<meta[\s/](?:[^>\"']|\"[^\"]*\"|'[^']*')*>?", re.IGNORECASE)
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([^\s\"'/>;]+)", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([^\"'<>]+)[\"']")
# Letters beyond ASCII with at most four ASCII ones between: what tells the encoding, without markup.
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+(?:[\x00-\x7f]{1,4}[\x80-\xff]+){0,2000}[\x00-\x7f]?")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text with the Python codec that read it, what that choice rests on, and how many characters were unreadable."""

    text: str
    encoding: str
    source: Source
    replaced: int

    @property
    def note(self) -> str:
        """What a person should know about this reading; empty if nothing."""
        notes = []
        if self.source in ("detected", "default"):
            notes.append(f"no encoding is stated and it is not UTF-8; read as {self.encoding}")
        if self.replaced:
            notes.append(f"{self.replaced:,} characters are not valid {self.encoding} and were replaced")
        return "; ".join(notes)


def codec_of(label: str) -> str | None:
    """Python's codec for a label of the Encoding standard, in any case and with spaces around; None if there is none."""
    return _CODECS.get(label.strip(" \t\r\n\f\"'").lower())


def decode_text(content: bytes, *, markup: bool, charset: str | None = None) -> Decoded:
    """Decode a whole page or text file, in time linear in its size.

    :param markup: whether it is HTML or XML, which can declare its encoding.
    :param charset: what the transport (HTTP, WARC) states, if it is known.
    :raises MissingExtraError: if the encoding must be detected and Resiliparse is not installed.
    """
    for mark, codec in _BOMS:
        if content.startswith(mark):
            return _decoded(content[len(mark) :], codec, "bom")
    if charset and (stated := codec_of(charset)):
        return _decoded(content, stated, "transport")
    if wide := _unmarked_utf16(content):
        return _decoded(content, wide, "detected")
    utf8 = _decoded(content, "utf-8", "utf-8")
    letters = sum(map(len, _beyond_ascii(utf8.text))) if utf8.replaced or not content.isascii() else 0
    declared = declared_codec(content) if markup else None
    if declared == "utf-8":
        believed = utf8.replaced < max(_NEARLY, letters)
    else:
        believed = declared is not None and (utf8.replaced > 0 or letters < _PLAINLY_UTF8)
    if declared is not None and believed:
        return _decoded(content, declared, "declared")
    if utf8.replaced * _NEARLY <= letters:
        return utf8
    return _detected(content)


def declared_codec(content: bytes) -> str | None:
    """The codec that a page declares in its first 1,024 bytes: XML declaration or meta; None without a known one.

    A declaration that can be read as ASCII does not stand in UTF-16; after the standard it means UTF-8 then.
    """
    head = content[:_DECLARATION_BYTES]
    labels = [match[1] for match in [_XML.match(head)] if match]
    labels += [
        found[1] for meta in _META.findall(_COMMENT.sub(b"", head)) if (found := _CHARSET.search(meta))
    ]
    codecs_found = (codec_of(label.decode("latin-1")) for label in labels)
    codec = next(filter(None, codecs_found), None)
    return "utf-8" if codec is not None and codec.startswith("utf-16") else codec


def _decoded(content: bytes, codec: str, source: Source) -> Decoded:
    try:
        return Decoded(content.decode(codec), codec, source, 0)
    except UnicodeDecodeError:
        text = content.decode(codec, errors="replace")
        meant = content.count(b"\xef\xbf\xbd") if codec == "utf-8" else 0
        return Decoded(text, codec, source, text.count(_REPLACEMENT) - meant)


def _beyond_ascii(text: str) -> Iterable[str]:
    return re.findall("[^\x00-\x7f\ufffd]+", text)


def _unmarked_utf16(content: bytes) -> str | None:
    """UTF-16 without a byte-order mark: NUL is every other byte of its spaces, digits and markup, and only there."""
    sample = content[: _SAMPLE_BYTES & ~1]
    if len(content) % 2 or b"\0" not in sample:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) * 20 < len(sample) // 2 or min(even, odd) * 20 > max(even, odd):
        return None
    codec = "utf-16-le" if odd > even else "utf-16-be"
    try:
        codecs.decode(content, codec)
    except UnicodeDecodeError:
        return None
    return codec


def _detected(content: bytes) -> Decoded:
    """What uchardet takes the letters beyond ASCII for, if that reads them; otherwise windows-1252."""
    default = _decoded(content, "cp1252", "default")
    sample = _telling_bytes(content)
    if sum(byte > 127 for byte in sample) < _FEWEST_TO_DETECT:
        return default
    detector = require("resiliparse.parse.encoding", "cli")
    name = detector.detect_encoding(sample, max_len=0, html5_compatible=False, from_html_meta=False)
    codec = codec_of(name.replace("_", "-")) or codec_of(name) if name else None
    if codec == "mac_cyrillic":  # differs from windows-1251 in capitals, and is not met on the web
        codec = "cp1251"
    if codec in _WINDOWS and any(0x80 <= byte < 0xA0 for byte in sample):
        codec = _WINDOWS[codec]
    if codec is None or codec.startswith("utf"):
        return default
    found = _decoded(content, codec, "detected")
    return found if found.replaced * 50 <= len(sample) else default


def _telling_bytes(content: bytes) -> bytes:
    """The letters beyond ASCII from anywhere in the content, with the ASCII beside them, up to 64 KiB."""
    parts: list[bytes] = []
    size = 0
    for match in _BEYOND_ASCII.finditer(content):
        part = content[max(0, match.start() - 12) : match.end()][:_SAMPLE_BYTES]
        parts.append(part)
        size += len(part) + 1
        if size > _SAMPLE_BYTES:
            break
    return b" ".join(parts)
