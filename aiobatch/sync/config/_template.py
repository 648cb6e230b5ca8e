"""A commented `aiobatch.toml` to start from, derived from the declared options."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import orjson

from .._guard import GuardPolicy
from .._option_fields import options_of
from .._options import SyncOptions
from ..sources._source import Source
from ._tables import AudienceTable, DefaultsTable, GuardTable, NotifyTable, SourceTable

_HEAD: Final = """\
# The audiences of `aiobatch run`, their sources, and the apps and projects they go to.
#
#   aiobatch run --check      validates this file without any network
#   aiobatch run --dry-run    also reads the sources, and shows what would be sent
#   aiobatch status           shows the last success and the last attempt of each audience
#
# ${NAME} is an environment variable. A key is never written here. Paths are relative to this file. A line
# such as #wait = true shows an option with its default, or with an example if it has none.
"""
_TARGETS: Final = """\
[projects.web]  # a project of the Audience API 2.x, under a name of your choice
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"

#[apps.ios]  # an app of the Custom Audience API 1.x: iOS and Android are one app each
#rest_api_key = "${BATCH_REST_API_KEY}"
#api_key = "${BATCH_IOS_KEY}"
"""
_AUDIENCE: Final = """\
[audiences.vip]
source = "vip.csv"  # CSV, JSON lines or Parquet: a file, a directory or a pattern, also at s3:// or https://
projects = ["web"]
"""
_QUERY: Final = """\
#[audiences.churned]
#projects = ["web"]
"""
_OWNERS: Final = (SyncOptions, Source, GuardPolicy)
# Keys of an audience that have a line of their own above, and keys that the tables explain.
_WRITTEN: Final = frozenset({"apps", "projects", "source", "guard"})
# Values of options that have no default.
_EXAMPLES: Final[Mapping[str, Any]] = {
    "state": "state.duckdb",
    "jobs": 1,
    "urls": ["${ALERT_URL}"],
    "on": ["failure", "refusal", "staleness", "recovery"],
    "shared_rate": "2/s",
    "shared_redis": "${REDIS_URL}",
    "id_type": "custom_ids",
    "max_spill": "10GB",
    "max_removals": 50_000,
    "max_additions_percent": 200,
    "name": "VIP_2026",
    "description": "The customers of the month",
    "rejects": "vip-rejects.csv",
    "path": "postgresql://etl:${PGPASSWORD}@db/crm",
    "query": "SELECT user_id FROM churned",
    "id_column": "user_id",
    "attributes": ["city", "age"],
    "tags_column": "tags",
}
# Options of files. The example of a table is a database.
_OF_FILES: Final = frozenset({"format", "header", "delimiter"})


def config_template() -> str:
    """Return the text of a new config."""
    own = [name for name in _names(AudienceTable) if name not in {*_names(DefaultsTable), *_WRITTEN}]
    parts = (
        _HEAD,
        "[defaults]  # options of every audience that does not set its own\n"
        + _keys(DefaultsTable, [name for name in _names(DefaultsTable) if name not in _WRITTEN]),
        "#[defaults.guard]  # limits on what a run may change\n" + _keys(GuardTable, _names(GuardTable)),
        "#[notify]  # alerts by mail, chat or webhook, with the extra `notify`\n"
        + _keys(NotifyTable, _names(NotifyTable)),
        _TARGETS,
        _AUDIENCE + _keys(AudienceTable, own),
        f"{_QUERY}#[audiences.churned.source]  # a table, for a database or for more options\n"
        + _keys(SourceTable, [name for name in _names(SourceTable) if name not in _OF_FILES]),
    )
    return "\n".join(parts)


def _names(table: type[attrs.AttrsInstance]) -> list[str]:
    return [field.name for field in attrs.fields(table)]


def _keys(table: type[attrs.AttrsInstance], names: list[str]) -> str:
    """Return keys of a table, each below its help."""
    return "".join(
        f"# {attrs.fields_dict(table)[name].metadata['help']}\n#{name} = {_value(name)}\n" for name in names
    )


def _value(name: str) -> str:
    """Return the default of an option, or an example, as TOML."""
    default = next((value for value in _defaults(name) if value is not None), None)
    value = _EXAMPLES.get(name, default)
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return orjson.dumps(value).decode()  # strings, numbers, booleans and arrays are alike in TOML


def _defaults(name: str) -> Iterator[Any]:
    """Yield the default of an option, as the engine declares it."""
    for owner in _OWNERS:
        if (field := options_of(owner).get(name)) is not None:
            yield field.default
