"""Parquet files as relations."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..._errors import SourceError
from ..._sql import identifier
from .._id_rules import id_column
from .._relation import (
    Contract,
    ReadContext,
    Relation,
    check_distinct,
    choose_id,
    columns_of,
    describe,
    explained,
    kind_of,
    message_of,
    wanted_columns,
)
from .._source_file import SourceFile

# DuckDB gives the second of two equal names such an end.
_RENAMED = re.compile(r"_[0-9]+$")
_MARK = b"PAR1"
_FAULTS = (
    ("magic bytes", "it is no Parquet file: the footer is missing. Write or copy it again"),
    ("too small", "it ends early: it is too small for a Parquet file. Write or copy it again"),
    ("not valid UTF8", "it contains text that is not UTF-8. Write its columns as UTF-8 strings"),
)


def parquet_relation(context: ReadContext, file: SourceFile) -> Relation:
    """Return the relation of a Parquet file.

    Raises:
        SourceError: If it is damaged, or a column is missing.
    """
    # Hive and Impala write text as bytes that are not marked as text.
    sql = f"read_parquet({file.sql}, binary_as_string = true, hive_partitioning = false)"
    with explained(lambda exc: _explain(exc, file)):
        kinds = describe(context.connection, sql)
        metadata = f"SELECT num_rows FROM parquet_file_metadata({file.sql})"
        rows = context.connection.execute(metadata).fetchall()[0][0]
    id_name = choose_id(context, list(kinds), file.shown)
    _check_names(context, file, kinds, id_name)

    def is_null() -> bool:
        with explained(lambda exc: _explain(exc, file)):
            found = f"SELECT count({identifier(id_name)}) FROM {sql}"
            return bool(context.connection.execute(found).fetchall()[0][0] == 0)

    read = sql
    if id_column("", kinds[id_name]) is None and is_null():
        # A writer gives a column without values any type.
        kinds[id_name] = "VARCHAR"
        read = f"(SELECT * REPLACE (NULL::VARCHAR AS {identifier(id_name)}) FROM {sql})"
    return Relation(
        location=file.shown,
        sql=read,
        rows=rows,
        contract=Contract(id_name=id_name, kind=kind_of(kinds[id_name]), is_null=is_null),
        explain=lambda exc: _explain(exc, file),
        **columns_of(context, kinds, id_name, file.shown),
    )


def _check_names(context: ReadContext, file: SourceFile, kinds: Mapping[str, str], id_name: str) -> None:
    """Raise SourceError if DuckDB had to rename a wanted column."""
    if not any(map(_RENAMED.search, kinds)):
        return
    sql = f"SELECT name, coalesce(num_children, 0) FROM parquet_schema({file.sql})"
    nodes = iter(context.connection.execute(sql).fetchall())

    def read_node() -> str:
        name, children = next(nodes)
        for _ in range(children):
            read_node()
        return str(name)

    _, width = next(nodes)
    names = [read_node() for _ in range(width)]
    wanted = [name for name in wanted_columns(context.source, id_name) if name in kinds]
    check_distinct(names, kinds, wanted, file.shown)


def _explain(exc: Exception, file: SourceFile) -> SourceError:
    text = message_of(exc)  # not shown: it may contain a value
    if _FAULTS[0][0] in text and _begins_as_parquet(file):
        msg = "it ends early: the footer of the Parquet file is missing. Write or copy it again"
        return SourceError(msg, location=file.shown)
    found = (words for sign, words in _FAULTS if sign in text)
    default = f"it is damaged: its pages cannot be read. Write or copy it again. [{type(exc).__name__}]"
    return SourceError(next(found, default), location=file.shown)


def _begins_as_parquet(file: SourceFile) -> bool:
    with file.open() as stream:
        return stream.read(len(_MARK)) == _MARK
