"""Parquet as a relation."""

from __future__ import annotations

from .._errors import SourceError
from ._relation import (
    ReadContext,
    Relation,
    SourceFile,
    choose_id,
    columns_of,
    describe,
    explained,
    message_of,
)

_FAULTS = (
    (
        "magic bytes",
        "it is no Parquet file, or it was cut short: the footer is missing; write or copy it again",
    ),
    ("too small", "it is too small for a Parquet file: empty, or cut short; write or copy it again"),
    ("not valid UTF8", "it holds text that is not UTF-8; write its columns as UTF-8 strings"),
)


def parquet_relation(context: ReadContext, file: SourceFile) -> Relation:
    """Give a Parquet file's relation.

    Raises:
        SourceError: It is damaged, or lacks a column.
    """
    # Hive and Impala write text as bytes without saying that it is text.
    sql = f"read_parquet({file.sql}, binary_as_string = true, hive_partitioning = false)"
    with explained(lambda exc: _explain(exc, file)):
        kinds = describe(context.connection, sql)
        metadata = f"SELECT num_rows FROM parquet_file_metadata({file.sql})"
        rows = context.connection.execute(metadata).fetchall()[0][0]
    id_name = choose_id(context, list(kinds), file.shown)
    return Relation(
        location=file.shown,
        sql=sql,
        rows=rows,
        explain=lambda exc: _explain(exc, file),
        **columns_of(context, kinds, id_name, file.shown),
    )


def _explain(exc: Exception, file: SourceFile) -> SourceError:
    """Say what is wrong with the file; DuckDB's own text may show a value."""
    text = message_of(exc)
    found = (words for sign, words in _FAULTS if sign in text)
    default = f"it is damaged: its pages cannot be read ({type(exc).__name__}); write or copy it again"
    return SourceError(next(found, default), location=file.shown)
