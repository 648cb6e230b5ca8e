"""IDs, members and Arrow tables of a Python program, as relations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import orjson

from ..._validation import is_unicode
from ...models import Member
from .._errors import SourceError
from ._attributes import ColumnSql
from ._id_rules import IdColumn
from ._location import ArrowSource, ArrowTable, IterableSource, Location
from ._relation import (
    Contract,
    ReadContext,
    Relation,
    Relations,
    check_distinct,
    choose_id,
    columns_of,
    describe,
    explained,
    kind_of,
    valid_text,
    wanted_columns,
)
from .files._read import with_one_contract

_TABLE = "aiobatch_table"
# Items per relation. The event loop waits while they are serialized, so more of them would block it.
_MANY = 10_000
_LISTS = """(SELECT unnest(from_json($1, '["VARCHAR"]')) AS id,
    unnest(from_json($2, '["VARCHAR"]')) AS attributes, unnest(from_json($3, '[["VARCHAR"]]')) AS tags)"""

_Row = tuple[str, str | None, list[str] | None]


def read_iterable(context: ReadContext, location: IterableSource) -> Relations:
    """Yield IDs and Members in portions, to bound the memory, or one relation for each batch of Arrow.

    Raises:
        SourceError: If an item is none of these, or the items are of both kinds.
    """
    items = iter(location.items)
    head = list(itertools.islice(items, 1))
    items = itertools.chain(head, items)
    if head and _is_batch(head[0]):
        yield from with_one_contract(_read_batch(context, location, item) for item in items)
        return
    first = 1
    while portion := list(itertools.islice(items, _MANY)):
        context.interruptible.check()
        rows = [_row(item, number, location) for number, item in enumerate(portion, start=first)]
        yield Relation(
            location=location.label,
            sql=_LISTS,
            id=IdColumn("id"),
            attributes=ColumnSql("json_extract(attributes, '$')::VARCHAR"),
            tags=ColumnSql("tags"),
            parameters=_lists(rows, first, location),
            first_row=first,
            explain=partial(_explain, location),
        )
        first += len(rows)


def read_arrow(context: ReadContext, location: ArrowSource) -> Relations:
    """Yield the relation of an Arrow table or stream.

    Raises:
        SourceError: If a column is missing, or the stream fails.
    """
    kinds = _register(context, location)
    try:
        id_name = choose_id(context, list(kinds), location.label)
        columns = columns_of(context, kinds, id_name, location.label)
        wanted = wanted_columns(context.source, id_name)
        names = getattr(getattr(location.table, "schema", None), "names", None)  # of pyarrow
        check_distinct(names if isinstance(names, list) else [*kinds], kinds, wanted, location.label)
        sql = valid_text(_TABLE, {name: kinds[name] for name in wanted})
        yield Relation(
            location=location.label,
            sql=sql,
            first_row=context.interruptible.done + 1,
            contract=Contract(id_name=id_name, kind=kind_of(kinds[id_name])),
            explain=partial(_explain, location),
            **columns,
        )
    finally:
        context.connection.unregister(_TABLE)


def _read_batch(context: ReadContext, location: IterableSource, item: object) -> Relations:
    context.interruptible.check()
    if not _is_batch(item):
        msg = f"an item has the type {type(item).__name__}, and the first one is a batch of Arrow"
        raise SourceError(msg, location=location.label)
    # Snowflake's batches are not fetched before their turn.
    table = item if isinstance(item, ArrowTable) else item.to_arrow()  # type: ignore[attr-defined]
    yield from read_arrow(context, ArrowSource(table=table))


def _is_batch(item: object) -> bool:
    """Return whether an item is a table of Arrow, or becomes one, as what `get_result_batches` returns."""
    return isinstance(item, ArrowTable) or callable(getattr(item, "to_arrow", None))


def _register(context: ReadContext, location: ArrowSource) -> dict[str, str]:
    with explained(partial(_explain, location)):
        context.connection.register(_TABLE, location.table)
        return describe(context.connection, _TABLE)


def _row(item: object, number: int, location: IterableSource) -> _Row:
    """Return an item's columns. A Member was checked when it was created."""
    if isinstance(item, str):
        return item, None, None
    if isinstance(item, Member):
        attributes = orjson.dumps(dict(item.attributes), option=orjson.OPT_SORT_KEYS).decode()
        return item.id, attributes if item.attributes else None, sorted(set(item.tags)) or None
    msg = f"item {number} has the type {type(item).__name__}. Pass strings or Members"
    raise SourceError(msg, location=location.label)


def _lists(rows: Sequence[_Row], first: int, location: IterableSource) -> list[str]:
    """Return the rows' columns as JSON, which DuckDB reads faster than Python lists."""
    try:
        return [orjson.dumps(column).decode() for column in zip(*rows, strict=True)]
    except orjson.JSONEncodeError:
        number = next(number for number, row in enumerate(rows, start=first) if not is_unicode(row[0]))
    msg = (
        f"item {number} contains a lone surrogate, which is not valid text. Decode it with its real encoding"
    )
    raise SourceError(msg, location=location.label)


def _explain(location: Location, exc: Exception) -> SourceError:
    # DuckDB's own text may contain a value.
    return SourceError(f"not all rows could be read. [{type(exc).__name__}]", location=location.label)
