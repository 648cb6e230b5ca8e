"""A megabyte of what repeats, for each target: it must not take longer than it has to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_MANY = 1_000_000


def _repeated(*pieces: bytes, before: bytes = b"") -> list[bytes]:
    """Return a megabyte of each piece, behind what comes before it."""
    return [before + piece * (_MANY // len(piece)) for piece in pieces]


LONG: Mapping[str, Sequence[bytes]] = {
    "answers": [
        *_repeated(b"[", b"<", b" "),
        b'{"has_more": false, "audiences": [%s{}]}' % (b"{}," * (_MANY // 3)),
        b'{"custom_audiences": [%s1]}' % (b"1," * (_MANY // 2)),
        b'{"name": "%s"}' % (b"a" * _MANY),
        b'{"indexing_token": "%s"}' % (b"a" * _MANY),
        b'{"created": "%s"}' % (b"1" * _MANY),
    ],
    "errors": [
        *_repeated(b"[", b"<", before=b"\x04\x00\n"),
        b"\x04\x00\n" + b'{"message": "%s"}' % (b"rest-" * (_MANY // 5)),
        b"\x04\x00\n" + b'{"code": "%s"}' % (b"A" * _MANY),
        *_repeated(b"9", b"Wed, ", before=b"\x0b\x00"),
    ],
    "retry_after": _repeated(b"9", b"1.", b" ", b"+", b"Oct ", b"1:", b"(", b"-"),
    "token": _repeated(b"a", b":", b" ", b"vip:update:"),
    "flags": [*_repeated(b"9", b"-", b"="), *_repeated(b"0", before=b"503=")],
    "dsn": _repeated(b"a", b"a://", b"@", b"${", b"${PW}", b"?password=", b"&password=ab", b"a:", b"/"),
    "plan": [*_repeated(b"["), b'{"format": 1, "plan": %s}' % (b"[" * 900 + b"]" * 900)],
    "config": [*_repeated(b"a", b"#", b"["), b'a = "%s"' % (b"\\n" * (_MANY // 2))],
    "csv": [*_repeated(b"a\n", before=b"\x00id\n"), *_repeated(b"a,", b'"', before=b"\x00")],
    "jsonl": _repeated(b'{"id":1}\n', b"[", b"\n", b'{"id":', before=b"\x00"),
    "id_file": [*_repeated(b"a", b"a\n", b'"'), *_repeated(b"\n", before=b'id\n"')],
    "notes": [*_repeated(b"["), b'{"pid": "%s"}' % (b"a" * _MANY)],
    "sandbox": [
        *_repeated(b"[", before=b"\x01\x00\n"),
        *_repeated(b"&", before=b"\x00\x01?"),
        *_repeated(b"/1.0/x", before=b"\x00\x09"),
    ],
}
