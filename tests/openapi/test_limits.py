"""Limits of requests: the document and the sandbox agree on them."""

from __future__ import annotations

from typing import Any

import attrs
import jsonschema
import orjson
import pytest

from aiobatch.dialects import dialect_for
from aiobatch.interfaces import Request
from aiobatch.models import MAX_ATTRIBUTES, MAX_IDS
from aiobatch.sandbox import Sandbox, SandboxOptions

from ..contract.stage import TARGETS
from .document import DOCUMENTS, Document

# The last allowed number and the first one beyond the limit.
_LIMITS = {
    "most ids": (MAX_IDS, MAX_IDS + 1),
    "fewest ids": (1, 0),
    "longest name": (255, 256),
    "longest page": (100, 101),
    "shortest page": (1, 0),
    "most attributes": (MAX_ATTRIBUTES, MAX_ATTRIBUTES + 1),
}


def _request(label: str, limit: str, number: int) -> Request:
    """Return a request with a part of that size. A dialect rejects some of them."""
    dialect = dialect_for(TARGETS[label])
    if limit == "longest name":
        created = dialect.build_create("vip")
        name = "a" * number
        return attrs.evolve(
            created,
            target=created.target.replace("/vip", f"/{name}"),
            body=created.body.replace(b'"vip"', orjson.dumps(name)),
        )
    if limit.endswith("page"):
        page = dialect.build_list(limit=77)
        return attrs.evolve(page, target=page.target.replace("limit=77", f"limit={number}"))
    update = dialect.build_update("vip", ["u"], [])
    body = orjson.loads(update.body)
    (row,) = body["ids"]
    if limit.endswith("ids"):
        body["ids"] = [row | {"id": f"u{n}"} for n in range(number)]
    else:
        row["attributes"] = {f"a{n}": n for n in range(number)}
    return attrs.evolve(update, body=orjson.dumps(body))


def _is_documented(document: Document, request: Request) -> bool:
    """Return whether the document allows a request."""
    operation = document.find(request.method, request.target)
    body = orjson.loads(request.body) if request.body else None
    try:
        operation.check_request(request.target, request.headers, body)
    except jsonschema.ValidationError:
        return False
    return True


def _respond(sandbox: Sandbox, request: Request) -> tuple[int, Any]:
    status, _, body = sandbox.answer(request.method, request.target, request.headers, request.body)
    return status, orjson.loads(body)


@pytest.mark.parametrize(
    ("label", "limit"),
    [
        # A body of 10,000 IDs is slow to check, and test_documents compares the documents' figures too.
        pytest.param(
            label, limit, marks=[pytest.mark.sweep] if limit == "most ids" and label != "1.0" else []
        )
        for label in DOCUMENTS
        for limit in _LIMITS
        if (label, limit) != ("1.0", "most attributes")  # whose IDs have none
    ],
)
def test_document_and_sandbox_have_the_same_limits(limit: str, label: str, document: Document) -> None:
    """Document and sandbox allow the last number within a limit and refuse the next one."""
    sandbox = Sandbox(SandboxOptions(indexing_delay=0))
    assert _respond(sandbox, dialect_for(TARGETS[label]).build_create("vip"))[0] < 300
    inside, outside = (_request(label, limit, number) for number in _LIMITS[limit])
    assert _is_documented(document, inside)
    assert _respond(sandbox, inside)[0] == document.find(inside.method, inside.target).good
    assert not _is_documented(document, outside)
    assert _respond(sandbox, outside)[0] == 400


def test_default_page_matches_the_document(label: str, document: Document) -> None:
    """A page without a limit has the documented number of rows and the documented start."""
    dialect = dialect_for(TARGETS[label])
    sandbox = Sandbox(SandboxOptions(indexing_delay=0))
    for number in range(30):
        _respond(sandbox, dialect.build_create(f"a{number}"))
    page = dialect.build_list()
    bare = attrs.evolve(page, target=page.target.partition("?")[0])
    (rows,) = (one for one in _respond(sandbox, bare)[1].values() if isinstance(one, list))
    parameters = {one["name"]: one["schema"] for one in document.find(bare.method, bare.target).parameters}
    assert len(rows) == parameters["limit"]["default"]
    assert parameters["from"].get("default") == (None if label == "2.x" else 0)
