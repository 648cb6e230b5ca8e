from __future__ import annotations

import math
from typing import Any

import duckdb
import pytest

from aiobatch import IdType, InvalidInputError
from aiobatch.sync import Mode, SyncOptions
from aiobatch.sync._option_fields import parse_size


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"timeout": 0}, "timeout must be a finite number of seconds above 0"),
        ({"timeout": math.nan}, "timeout must be a finite number of seconds"),
        ({"grace": -1}, "grace must be 0 or more seconds"),
        ({"grace": True}, "grace must be 0 or more seconds"),
        ({"grace": math.nan}, "grace must be 0 or more seconds"),
        ({"drift_patience": "10"}, "drift_patience must be 0 or more seconds"),
        ({"drift": -1}, "drift must be a whole number of at least 0"),
        ({"drift": 0.5}, "drift must be a whole number of at least 0"),
        ({"max_refused": True}, "max_refused must be a whole number of at least 0"),
        ({"chunk_size": 0}, "chunk_size must be a whole number of at least 1"),
        ({"chunk_size": 10_001}, "chunk_size must be .* at most 10000"),
        ({"memory_limit": "much"}, "memory_limit must be an amount of memory"),
        ({"memory_limit": "99.9MB"}, "memory_limit must be an amount of memory of at least 100MB"),
        ({"memory_limit": "95 MiB"}, "memory_limit must be an amount of memory of at least 100MB"),
        ({"id_type": 5}, "id_type must be a word such as custom_ids"),
        ({"description": 5}, "description must be of type str, or None, not 5"),
        ({"guard": {}}, "guard must be of type GuardPolicy, not dict"),
        ({"create": "false"}, "create must be true or false, not str"),
        ({"memory_limit": 512}, "memory_limit must be an amount of memory"),
    ],
)
def test_an_invalid_option_is_refused(values: dict[str, Any], text: str) -> None:
    """An error names the option and what it must be."""
    with pytest.raises(InvalidInputError, match=text):
        SyncOptions(**values)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100MB", 100_000_000),
        ("96MiB", 100_663_296),
        ("0.1 GB", 100_000_000),
        ("1.5GiB", 1_610_612_736),
        ("2TB", 2 * 10**12),
        ("200000KB", 200_000_000),
        ("100000000B", 100_000_000),
    ],
)
def test_memory_limits_have_units(text: str, size: int) -> None:
    """All units of DuckDB are accepted from 100MB, and mean as many bytes as in DuckDB."""
    assert parse_size(SyncOptions(memory_limit=text).memory_limit) == size
    with duckdb.connect(config={"memory_limit": text}) as one, duckdb.connect() as other:
        other.execute(f"SET memory_limit = '{size}B'")
        limits = [c.execute("SELECT current_setting('memory_limit')").fetchone() for c in (one, other)]
    assert limits[0] == limits[1]


def test_modes_and_types_can_be_words() -> None:
    """A word becomes the mode or the type. None as a timeout means no limit."""
    options = SyncOptions(mode="add", id_type="install_ids", timeout=None)
    assert (options.mode, options.id_type, options.timeout) == (Mode.ADD, IdType.INSTALL_IDS, None)


def test_id_rules_prefer_the_named_type() -> None:
    """A type that is named replaces the default of the version."""
    assert SyncOptions().rules(IdType.INSTALL_IDS).id_type is IdType.INSTALL_IDS
    named = SyncOptions(id_type=IdType.ADVERTISING_IDS, trim=False).rules(IdType.CUSTOM_IDS)
    assert (named.id_type, named.trim) == (IdType.ADVERTISING_IDS, False)
