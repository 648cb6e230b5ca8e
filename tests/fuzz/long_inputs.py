"""Long repetitive inputs for each target, to find superlinear running times."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

# Returns about the given number of bytes.
Long = Callable[[int], bytes]


def _long(before: bytes, piece: bytes, after: bytes, size: int) -> bytes:
    """Return about *size* bytes: *before*, repeated *piece*, *after*."""
    return before + piece * (size // len(piece)) + after


def _repeated(*pieces: bytes, before: bytes = b"", after: bytes = b"") -> list[Long]:
    """Return an input of each piece, repeated."""
    return [functools.partial(_long, before, piece, after) for piece in pieces]


LONG: Mapping[str, Sequence[Long]] = {
    "answers": [
        *_repeated(b"[", b"<", b" "),
        *_repeated(b"{},", before=b'{"has_more": false, "audiences": [', after=b"{}]}"),
        *_repeated(b"1,", before=b'{"custom_audiences": [', after=b"1]}"),
        *_repeated(b"a", before=b'{"name": "', after=b'"}'),
        *_repeated(b"a", before=b'{"indexing_token": "', after=b'"}'),
        *_repeated(b"1", before=b'{"created": "', after=b'"}'),
    ],
    "errors": [
        *_repeated(b"[", b"<", before=b"\x04\x00\n"),
        *_repeated(b"rest-", before=b'\x04\x00\n{"message": "', after=b'"}'),
        *_repeated(b"A", before=b'\x04\x00\n{"code": "', after=b'"}'),
        *_repeated(b"9", b"Wed, ", before=b"\x0b\x00"),
    ],
    "retry_after": _repeated(b"9", b"1.", b" ", b"+", b"Oct ", b"1:", b"(", b"-"),
    "token": _repeated(b"a", b":", b" ", b"vip:update:"),
    "flags": [*_repeated(b"9", b"-", b"="), *_repeated(b"0", before=b"503=")],
    "dsn": _repeated(b"a", b"a://", b"@", b"${", b"${PW}", b"?password=", b"&password=ab", b"a:", b"/"),
    "plan": _repeated(b"["),
    # No string of escapes: tomllib appends to a string, which is linear only where the heap lets it grow.
    "config": _repeated(b"a", b"#", b"["),
    "csv": [*_repeated(b"a\n", before=b"\x00id\n"), *_repeated(b"a,", b'"', before=b"\x00")],
    "jsonl": _repeated(b'{"id":1}\n', b"[", b"\n", b'{"id":', before=b"\x00"),
    "id_file": [*_repeated(b"a", b"a\n", b'"'), *_repeated(b"\n", before=b'id\n"')],
    "notes": [*_repeated(b"["), *_repeated(b"a", before=b'{"pid": "', after=b'"}')],
    "sandbox": [
        *_repeated(b"[", before=b"\x01\x00\n"),
        *_repeated(b"&", before=b"\x00\x01?"),
        *_repeated(b"/1.0/x", before=b"\x00\x09"),
    ],
}
