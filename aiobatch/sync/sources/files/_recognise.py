"""Recognition of files that are not what their names promise: pages, dumps, pointers, archives."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .._location import Format

#: Bytes of a file that are looked at.
HEAD: Final = 64 * 1024

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_XZ: Final = b"\xfd7zXZ\x00"
_LZ4: Final = b"\x04\x22\x4d\x18"
#: Suffix of a compressed file -> its first bytes.
MARKS: Final = {".gz": b"\x1f\x8b", ".zst": _ZSTD, ".xz": _XZ, ".lz4": _LZ4, ".bz2": b"BZh"}
ENDS_EARLY: Final = "it ends early: the compressed file is truncated. Write or copy it again"
_COMPRESSED: Final = (
    (b"\x1f\x8b", "gzip twice"),
    (_ZSTD, "zstd"),
    (_XZ, "xz"),
    (_LZ4, "LZ4"),
    (b"\x02\x21\x4c\x18", "LZ4"),
    (b"\xff\x06\x00\x00sNaPpY", "Snappy"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"LZIP\x01", "lzip"),
    (b"\x89LZO\x00", "lzop"),
    (b"\x1f\x9d", "compress"),
    (b"\x1f\xa0", "compress"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\x5d\x00\x00", "LZMA"),
)
_BZIP2: Final = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_BINARY: Final = (
    (b"PAR1", Format.PARQUET, "Parquet"),
    (b"ORC", None, "ORC"),
    (b"Obj\x01", None, "Avro"),
    (b"ARROW1", None, "Arrow"),
    (b"FEA1", None, "Feather"),
    (b"SQLite format 3\x00", None, "a SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", None, "an old Office document"),
    (b"%PDF-", None, "a PDF document"),
    (b"PGDMP", None, "a dump of pg_dump"),
    (b"\x89HDF\r\n", None, "HDF5"),
    (b"PGCOPY\n\xff", None, "a binary COPY of PostgreSQL"),
)
_DUCKDB: Final = (b"DUCK", 8)
_ZIP: Final = b"PK\x03\x04"

_DUMP: Final = "it is a dump of SQL statements, not a table. Export the rows of a query as CSV"
_ALIGNED: Final = (
    "it is a table drawn for a terminal, not CSV. Export the rows as CSV, as psql does with --csv"
)
_POINTER: Final = "it is a pointer of Git LFS or git-annex, not the file itself. Fetch the file first"
_LIST: Final = "it is a list of other files (a manifest). Leave it out, or read the files that it names"
_SEP: Final = (
    "its first line is 'sep=', which only spreadsheets read. Remove that line: the delimiter is detected"
)
_MESSAGE: Final = (
    "its first line is a message of the program that wrote it, not a header. Write messages elsewhere, and "
    "export again"
)
# What the first line starts with, and what the file is then.
_STARTS: Final[Sequence[tuple[str, str]]] = (
    (r"version https://(git-lfs\.github\.com|hawser\.)|(\.\./)*\.?git/annex/|/annex/objects/", _POINTER),
    (r"(s3[an]?|gs|gcs|abfss?|wasbs?|az|hdfs|dbfs|file|https?|ftp)://\S+[ \t]*(\r|\n|\Z)", _LIST),
    (r"-- (MySQL|MariaDB|phpMyAdmin|Host:|PostgreSQL|Dump|Adminer|SQLite)|--[ \t]*\r?\n--|/\*[!M]", _DUMP),
    (r"insert\s+(ignore\s+)?into\s|replace\s+into\s|alter\s+table\s|lock\s+tables\s", _DUMP),
    (r"create\s+((global|local|temp|temporary|unlogged|external)\s+)*(table|database|schema)\s", _DUMP),
    (r"drop\s+(table|database|schema)\s|copy\s+\S+[^\r\n]*\sfrom\s+stdin|pragma\s+\w+\s*=", _DUMP),
    (r"set\s+\S+\s*(=|to\s)|use\s+[`\[\w]+\]?\s*;|(begin|start)(\s+transaction)?\s*;", _DUMP),
    (r"select\s[^\r\n]*\sfrom\s", _DUMP),
    (r"-\[ RECORD \d+ \]|\*{5,} *\d+\. row|[┌╔╭┏│║┃]", _ALIGNED),
    (r"sep=.{1,2}?[ \t]*(\r|\n|\Z)", _SEP),
    (
        (
            r"([\w./-][\w./ -]{0,80}: ?){0,4}(\[(warning|note|notice|error|info|debug|fatal|warn)\][ :]|"
            r"(\w*warning|warn|notice|note|error|fatal|panic|info|debug|hint|\w*exception): )"
        ),
        _MESSAGE,
    ),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S*[ ,]+(\[?\w+\]?[ :]+)?(warn|info|error|debug)", _MESSAGE),
    (r"traceback \(most recent call last\)|picked up (_?java|jdk)|(enter )?password( for [^:]*)?:", _MESSAGE),
    (r"(pager usage|timing|tuples only|expanded display|output format|field separator) is ", _MESSAGE),
    (r"(null display|welcome to|connected to|connection to|could not|cannot|access denied) ", _MESSAGE),
    (r"permission denied|curl: |psql \(|mysql>|you are now connected ", _MESSAGE),
)
_PATTERNS: Final = [(re.compile(pattern, re.IGNORECASE), text) for pattern, text in _STARTS]
_RULE: Final = re.compile(r"[ \t]*[|+:]?[-=─━═]{2,}[-=─━═|+: \t┼╪╬╋]*(\r|\n|\Z)")
_MARKUP: Final = re.compile(r"<(\?xml|!--|!doctype|/?[a-z_][\w:.-]*([\s/][^>]*)?>)", re.IGNORECASE)
_HTML: Final = re.compile(
    r"<(!doctype html|html|head|body|script|meta|title|form|div|table|style|link|p|h\d|center|iframe|font|"
    r"noscript|span|br|pre)\b",
    re.IGNORECASE,
)
_LOGIN: Final = re.compile(
    r"log.?in|sign.?in|log.?on|passw|sso|saml|authenti|authoriz|denied|expired", re.IGNORECASE
)
_JSON: Final = re.compile(r'\[\s*([\[{"\]\d-]|true\b|false\b|null\b|\Z)|\{\s*("|\}|\Z)')
_MANIFEST: Final = re.compile(r'"(entries|fileLocations|files|manifest|mandatory|URIs|url)"')
_UTF16: Final = re.compile(rb"([^\0]\0){4}|(\0[^\0]){4}")
#: Marks at the start of a file in an encoding of two or four bytes.
WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
IS_WIDE: Final = (
    "it is not UTF-8 but UTF-16 or UTF-32. Convert it, for example with 'iconv -f UTF-16 -t UTF-8'"
)


def recognised(head: bytes, file_format: Format) -> str | None:
    """Return what a file is instead of *file_format*, and what to do. None if nothing else is recognised.

    Args:
        head: The first bytes of the file, decompressed: `HEAD` of them or all.
        file_format: The format that it should have.
    """
    if binary := _binary(head, file_format):
        return binary
    if file_format is Format.PARQUET:
        text = _text(head)
        return _markup(text) or _listed(text) or _json(text)
    if head.startswith(WIDE) or _UTF16.match(head):
        return IS_WIDE
    text = _text(head)
    if file_format is Format.JSONL:
        return _markup(text) or _listed(text)
    return _markup(text) or _json(text) or _listed(text) or _drawn(text)


def misnamed(start: bytes, name: str) -> str | None:
    """Return what is wrong with a file that is not compressed as its name promises. None if nothing is.

    Args:
        start: Its first bytes as they are stored: more than any mark has, or all.
        name: Its name.
    """
    suffix = Path(name.lower()).suffix
    mark = MARKS.get(suffix, b"")
    if start.startswith((mark, *(magic for magic, _ in _COMPRESSED))):
        return None
    if mark.startswith(start):
        return ENDS_EARLY
    return (
        f"its name ends in {suffix}, but it is not compressed so. Give it the right name, or write it again"
    )


def _text(head: bytes) -> str:
    return head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")


def _binary(head: bytes, file_format: Format) -> str | None:
    found = next((name for magic, name in _COMPRESSED if head.startswith(magic)), None)
    if found or _BZIP2.match(head):
        return f"it is compressed with {found or 'bzip2'}. Decompress it, or compress it with gzip, once"
    if head.startswith(_ZIP):
        return "it is a ZIP archive or an Office document. Unpack it, or export the sheet as CSV"
    for magic, own, name in _BINARY:
        if head.startswith(magic) and own is not file_format and (name != "ORC" or b"\0" in head[:4096]):
            return f"it is {name}, not {file_format}. " + (
                "Set the format to parquet" if own else "Export its rows as CSV, JSON lines or Parquet"
            )
    mark, at = _DUCKDB
    if head[at : at + len(mark)] == mark and b"\0" in head[:at]:
        return "it is a DuckDB database. Write its address, duckdb:///PATH, and a query"
    return None


def _markup(text: str) -> str | None:
    if not _MARKUP.match(text):
        return None
    if _HTML.search(text[:4096]):
        kind = "the page of a login or an error" if _LOGIN.search(text) else "a web page"
        return f"it is HTML, {kind}, not data. Download the file again, with valid credentials"
    return "it is XML, not data that can be read. Export the rows as CSV, JSON lines or Parquet"


def _json(text: str) -> str | None:
    if not _JSON.match(text):
        return None
    if _MANIFEST.search(text):
        return "it is JSON that lists other files (a manifest). Use a pattern that leaves it out"
    return (
        "it is JSON, not CSV or Parquet. Write one object per line, and set the format to jsonl, or export "
        "the rows as CSV"
    )


def _listed(text: str) -> str | None:
    return next((words for pattern, words in _PATTERNS if pattern.match(text)), None)


def _drawn(text: str) -> str | None:
    """Return an error for a table with a rule of dashes in its first lines."""
    lines = [line for line in re.split(r"\r\n|\r|\n", text, maxsplit=3)[:3] if line.strip()]
    return _ALIGNED if any(_RULE.fullmatch(line) for line in lines[:2]) else None
