"""Tables of `aiobatch.toml`. Options of the engine come from their declarations in `SyncOptions`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import attrs
import cattrs

from .._guard import GuardPolicy
from .._option_fields import RATE, SHARED_RATE, Check, Table, key, metadata, options_of, whole_number
from .._options import SyncOptions
from .._strict_converter import check_kind, strict_converter
from ..sources._source import Source

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITERAL_KEY: Final = (
    'must name an environment variable, such as "${BATCH_REST_API_KEY}". '
    "If this is a real key, revoke it in Batch: it has been exposed in this file."
)
_PROJECT_VERSION: Final = Check(
    text="a version such as 2.11",
    accepts=lambda value: re.fullmatch(r"2\.[1-9][0-9]{0,2}", value) is not None,
    schema={"pattern": r"^2\.[1-9][0-9]{0,2}$"},
)
_Fields = list["attrs.Attribute[Any]"]


@attrs.frozen
class EnvVariable:
    """A key that is in the environment, written `${NAME}`.

    Attributes:
        name: The variable's name.
    """

    name: str

    #: For the schema.
    pattern = f"^{_VARIABLE.pattern}$"

    @classmethod
    def parse(cls, value: object) -> EnvVariable:
        """Return the variable that `${NAME}` names.

        Raises:
            ValueError: It is anything else, such as the key itself.
        """
        match = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(_LITERAL_KEY)
        return cls(match[1])


def _optional(field: attrs.Attribute[Any], kind: Any) -> attrs.Attribute[Any]:
    """Return an option as a key that may be missing. The engine has its default."""
    check = field.metadata["check"]
    if check is not None and check.choices:
        kind = Literal[tuple(check.choices)]
    if check is not None and check.examples:
        kind = str
    return field.evolve(default=None, validator=None, converter=None, type=kind | None)


def engine_options(owner: type[attrs.AttrsInstance], table: Table) -> Callable[[type, _Fields], _Fields]:
    """Return an attrs field transformer that adds the options of *owner* that a table takes.

    Args:
        owner: The class that declares the options.
        table: The table.
    """
    kinds = {"guard": GuardTable} if owner is SyncOptions else {}
    added = [
        _optional(field, kinds.get(name, field.type))
        for name, field in options_of(owner).items()
        if table in field.metadata["tables"]
    ]
    return lambda _, fields: [*fields, *added]


@attrs.frozen(kw_only=True, field_transformer=engine_options(GuardPolicy, "defaults"))
class GuardTable:
    """Limits on what a run may remove."""


def _source_options(_: type, fields: _Fields) -> _Fields:
    """Add the options of a source. Its attributes may be a list too."""
    options = dict(options_of(Source))
    attributes = options.pop("attributes")
    path = options.pop("path").evolve(default=attrs.NOTHING, type=str)
    return [
        path,
        *(_optional(field, field.type) for field in options.values()),
        _optional(attributes, _COLUMNS),
        *fields,
    ]


_COLUMNS: Final = list[str] | dict[str, str]


@attrs.frozen(kw_only=True, field_transformer=_source_options)
class SourceTable:
    """The location of members, and their columns."""


@attrs.frozen(kw_only=True)
class TargetsTable:
    """The apps and projects of an audience."""

    apps: list[str] | None = key("Send the audience to these [apps]. The source is read once for all.")
    projects: list[str] | None = key("Send the audience to these [projects].")


@attrs.frozen(kw_only=True, field_transformer=engine_options(SyncOptions, "defaults"))
class DefaultsTable(TargetsTable):
    """Options of every audience that does not set its own, and of the run as a whole."""

    state: str | None = key(
        "Use this state: a file, relative to the folder of this one, or a URL such as s3://bucket/prefix."
    )
    shared_rate: str | None = key(
        "Share a rate such as 2/s with all processes that use the REST API key.", SHARED_RATE
    )
    shared_redis: EnvVariable | None = key(
        "Share it through the Redis of this URL. Default: on this machine."
    )
    jobs: int | None = key("Sync this many audiences at the same time. Default: 1.", whole_number(1))


@attrs.frozen(kw_only=True, field_transformer=engine_options(SyncOptions, "audience"))
class AudienceTable(TargetsTable):
    """One audience."""

    source: str | SourceTable = attrs.field(metadata=metadata("Read the members from this path or table."))
    name: str | None = key("Sync the audience of this name. Default: the name of the table.")


@attrs.frozen(kw_only=True)
class AppTable:
    """An app of the Custom Audience API 1.x. iOS and Android are one app each.

    Attributes:
        rest_api_key: The company's REST API key, as `${NAME}`.
        api_key: The app's API key, as `${NAME}`.
        version: "1.0" for custom and advertising IDs, "1.1" for install IDs with attributes and tags.
        rate: Requests per second at most.
    """

    rest_api_key: EnvVariable
    api_key: EnvVariable
    version: Literal["1.0", "1.1"] | None = None
    rate: float | None = attrs.field(default=None, metadata={"check": RATE})


@attrs.frozen(kw_only=True)
class ProjectTable:
    """A project of the Audience API 2.x.

    Attributes:
        rest_api_key: The company's REST API key, as `${NAME}`.
        project_key: The project's key, as `${NAME}`.
        version: "2.1" to "2.11" or later.
        rate: Requests per second at most.
    """

    rest_api_key: EnvVariable
    project_key: EnvVariable
    version: str | None = attrs.field(default=None, metadata={"check": _PROJECT_VERSION})
    rate: float | None = attrs.field(default=None, metadata={"check": RATE})


@attrs.frozen(kw_only=True)
class NotifyTable:
    """Alerts on changes of state. They need the extra `notify`."""

    urls: list[EnvVariable] | None = key("Send alerts to the Apprise URLs of these environment variables.")
    on: list[Literal["failure", "refusal", "staleness", "recovery"]] | None = key(
        "Report these changes of state. Default: all."
    )


@attrs.frozen(kw_only=True)
class ConfigTable:
    """Audiences, their sources, and the apps and projects they go to. `aiobatch run` syncs them.

    Attributes:
        audiences: Audiences by name.
        defaults: Options of every audience that does not set its own.
        apps: Apps of the Custom Audience API 1.x, by a name of your choice.
        projects: Projects of the Audience API 2.x, by a name of your choice. Without apps and projects, all
            audiences go to the target of the environment's BATCH_* keys.
        notify: Alerts on changes of state, by mail, chat or webhook.
    """

    audiences: dict[str, AudienceTable]
    defaults: DefaultsTable = attrs.field(factory=DefaultsTable)
    apps: dict[str, AppTable] = attrs.field(factory=dict)
    projects: dict[str, ProjectTable] = attrs.field(factory=dict)
    notify: NotifyTable | None = None


def config_converter() -> cattrs.Converter:
    """Return the converter that reads these tables."""
    converter = strict_converter()
    converter.register_structure_hook(EnvVariable, lambda value, _: EnvVariable.parse(value))
    converter.register_structure_hook_func(
        lambda kind: kind in {_COLUMNS, _COLUMNS | None}, _either(converter, list[str], dict[str, str])
    )
    converter.register_structure_hook_func(
        lambda kind: kind == str | SourceTable, _either(converter, str, SourceTable)
    )
    return converter


def _either(converter: cattrs.Converter, first: Any, second: Any) -> Callable[[Any, Any], Any]:
    """Return a hook for a value of one of two types, of which the second is a table."""

    def structure(value: Any, _: object) -> Any:
        check_kind(value, str if first is str else list, dict)
        return converter.structure(value, second if isinstance(value, dict) else first)

    return structure


def given(table: Any) -> Mapping[str, Any]:
    """Return the keys of a table that are given. None is an empty table."""
    return (
        {}
        if table is None
        else {name: one for name, one in attrs.asdict(table, recurse=False).items() if one is not None}
    )
