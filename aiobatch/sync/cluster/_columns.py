"""The columns of a frame that a sync reads."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from ...errors import InvalidInputError
from ...models import IdType
from .._errors import SourceError
from ..sources._interruptible import InterruptibleQuery
from ..sources._relation import ReadContext, choose_id, columns_of, wanted_columns
from ..sources._source import Source


def pick_columns(source: Source, id_type: IdType, names: Sequence[str], label: str) -> list[str]:
    """Return the columns to read, that of the IDs first. Their types are not known yet.

    Args:
        source: The wanted columns.
        id_type: The type of the IDs.
        names: All columns.
        label: The name of the source.

    Raises:
        InvalidInputError: A column is missing.
    """
    with duckdb.connect() as connection:
        interruptible = InterruptibleQuery(connection=connection, on_progress=None)
        context = ReadContext(
            connection=connection, source=source, id_type=id_type, interruptible=interruptible
        )
        try:
            id_name = choose_id(context, names, label)
            columns_of(context, dict.fromkeys(names, "VARCHAR"), id_name, label)
        except SourceError as error:
            raise InvalidInputError(error.text) from None
    return wanted_columns(source, id_name)
