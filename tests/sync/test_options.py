from __future__ import annotations

import math
from typing import Any

import pytest

from aiobatch import IdType, InvalidInputError
from aiobatch.sync import Mode, SyncOptions


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"timeout": 0}, "timeout must be above 0"),
        ({"timeout": math.nan}, "timeout must be a finite number"),
        ({"grace": -1}, "grace must be 0 or more seconds"),
        ({"grace": True}, "grace must be 0 or more seconds"),
        ({"grace": math.nan}, "grace must be 0 or more seconds"),
        ({"drift_patience": "10"}, "drift_patience must be 0 or more seconds"),
        ({"drift": -1}, "drift must be a whole number of at least 0"),
        ({"drift": 0.5}, "drift must be a whole number of at least 0"),
        ({"max_refused": True}, "max_refused must be a whole number of at least 0"),
        ({"chunk_size": 0}, "chunk_size must be a whole number of at least 1"),
        ({"chunk_size": 10_001}, "chunk_size must be at most 10000"),
        ({"memory_limit": "much"}, "memory_limit must be an amount of memory such as '512MB'"),
        ({"memory_limit": 512}, "memory_limit must be an amount of memory such as '512MB'"),
    ],
)
def test_an_option_of_no_use_is_refused(values: dict[str, Any], text: str) -> None:
    """An error names the option and what it must be."""
    with pytest.raises(InvalidInputError, match=text):
        SyncOptions(**values)


def test_a_mode_can_be_a_word() -> None:
    """What a person writes becomes the mode; None as a timeout means for ever."""
    options = SyncOptions(mode="add", timeout=None)
    assert (options.mode, options.timeout) == (Mode.ADD, None)


def test_the_rules_of_ids_are_those_of_the_type() -> None:
    """A type that was named goes before the version's own."""
    assert SyncOptions().rules(IdType.INSTALL_IDS).id_type is IdType.INSTALL_IDS
    named = SyncOptions(id_type=IdType.ADVERTISING_IDS, trim=False).rules(IdType.CUSTOM_IDS)
    assert (named.id_type, named.trim) == (IdType.ADVERTISING_IDS, False)
