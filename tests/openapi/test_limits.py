"""Where each API draws a line, the document and the sandbox draw it at the same place."""

from __future__ import annotations

from typing import Any

import attrs
import jsonschema
import orjson
import pytest

from aiobatch._http import Request
from aiobatch.dialects import dialect_for
from aiobatch.models import MAX_ATTRIBUTES, MAX_IDS
from aiobatch.sandbox import Sandbox, SandboxOptions

from ..contract.stage import TARGETS
from .document import DOCUMENTS, Document

# Number that is just allowed, and the one beyond it.
_LINES = {
    "most ids": (MAX_IDS, MAX_IDS + 1),
    "fewest ids": (1, 0),
    "longest name": (255, 256),
    "longest page": (100, 101),
    "shortest page": (1, 0),
    "most attributes": (MAX_ATTRIBUTES, MAX_ATTRIBUTES + 1),
}


def _ask(label: str, line: str, number: int) -> Request:
    """Return a request of which something has that size; a dialect would not build each of them."""
    dialect = dialect_for(TARGETS[label])
    if line == "longest name":
        created = dialect.build_create("vip")
        name = "a" * number
        return attrs.evolve(
            created,
            target=created.target.replace("/vip", f"/{name}"),
            body=created.body.replace(b'"vip"', orjson.dumps(name)),
        )
    if line.endswith("page"):
        page = dialect.build_list(limit=77)
        return attrs.evolve(page, target=page.target.replace("limit=77", f"limit={number}"))
    update = dialect.build_update("vip", ["u"], [])
    body = orjson.loads(update.body)
    (row,) = body["ids"]
    if line.endswith("ids"):
        body["ids"] = [row | {"id": f"u{n}"} for n in range(number)]
    else:
        row["attributes"] = {f"a{n}": n for n in range(number)}
    return attrs.evolve(update, body=orjson.dumps(body))


def _is_documented(document: Document, request: Request) -> bool:
    """Tell whether the document allows a request."""
    operation = document.find(request.method, request.target)
    body = orjson.loads(request.body) if request.body else None
    try:
        operation.check_request(request.target, request.headers, body)
    except jsonschema.ValidationError:
        return False
    return True


def _answer(sandbox: Sandbox, request: Request) -> tuple[int, Any]:
    status, _, body = sandbox.answer(request.method, request.target, request.headers, request.body)
    return status, orjson.loads(body)


@pytest.mark.parametrize(
    ("label", "line"),
    [
        (label, line)
        for label in DOCUMENTS
        for line in _LINES
        if (label, line) != ("1.0", "most attributes")  # whose ids have none
    ],
)
def test_a_line_is_drawn_at_one_place(line: str, label: str, document: Document) -> None:
    """What is just allowed is so by the document and to the sandbox, and what is beyond that by neither."""
    sandbox = Sandbox(SandboxOptions(indexing_delay=0))
    assert _answer(sandbox, dialect_for(TARGETS[label]).build_create("vip"))[0] < 300
    inside, outside = (_ask(label, line, number) for number in _LINES[line])
    assert _is_documented(document, inside)
    assert _answer(sandbox, inside)[0] == document.find(inside.method, inside.target).good
    assert not _is_documented(document, outside)
    assert _answer(sandbox, outside)[0] == 400


def test_a_page_is_as_long_as_documented(label: str, document: Document) -> None:
    """Without a limit a page has as many rows as the document says, and begins where it says."""
    dialect = dialect_for(TARGETS[label])
    sandbox = Sandbox(SandboxOptions(indexing_delay=0))
    for number in range(30):
        _answer(sandbox, dialect.build_create(f"a{number}"))
    page = dialect.build_list()
    bare = attrs.evolve(page, target=page.target.partition("?")[0])
    (rows,) = (one for one in _answer(sandbox, bare)[1].values() if isinstance(one, list))
    parameters = {one["name"]: one["schema"] for one in document.find(bare.method, bare.target).parameters}
    assert len(rows) == parameters["limit"]["default"]
    assert parameters["from"].get("default") == (None if label == "2.x" else 0)
