"""What may stand in `aiobatch.toml`: each table is a class, and its docstring is what an editor shows.

Fields that are not given are None; what holds then is said by the engine's own defaults, not here.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import attrs

from ...models import IdType
from .._option_fields import SIZE
from ..sources._source import Format

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@attrs.frozen
class EnvVariable:
    """A key that stands in the environment, written `${NAME}`.

    Attributes:
        name: The variable's name.
    """

    name: str

    #: For the schema.
    pattern = f"^{_VARIABLE.pattern}$"

    @classmethod
    def parse(cls, text: str) -> EnvVariable | None:
        """Read `${NAME}`; None where it is anything else, such as the key itself."""
        match = _VARIABLE.fullmatch(text)
        return None if match is None else cls(match[1])


def _field(**constraints: Any) -> Any:
    """Return an optional field with constraints in the words of JSON Schema."""
    return attrs.field(default=None, metadata=constraints)


@attrs.frozen(kw_only=True)
class GuardTable:
    """What a run may do without being asked twice; a run of its own goes beyond it with --allow-removals N.

    Attributes:
        max_removals: Removals at most.
        max_removals_percent: Removals at most, per cent of the members before.
        small_audience: Audiences with fewer members than this are exempt from the percentage.
    """

    max_removals: int | None = _field(minimum=0)
    max_removals_percent: float | None = _field(minimum=0, maximum=100)
    small_audience: int | None = _field(minimum=0)


@attrs.frozen(kw_only=True)
class SourceTable:
    """Where members come from, and in which columns they stand.

    Attributes:
        path: A file, a directory, a pattern, or a database's address with `${NAME}` for its password.
        query: The SELECT, for a database.
        id_column: The column of ids; `id`, `user_id`, `custom_id` or the only one by default.
        attributes: Columns that become attributes, or a table of column and attribute's name.
        tags_column: The column of tags.
        format: How files are written; told by their names by default.
    """

    path: str
    query: str | None = None
    id_column: str | None = None
    attributes: list[str] | dict[str, str] | None = None
    tags_column: str | None = None
    format: Format | None = None


@attrs.frozen(kw_only=True)
class Settings:
    """How an audience is brought in line; in [defaults] for those that do not say so themselves.

    Attributes:
        mode: What is made of the source.
        type: What the ids are; the API version's own type by default.
        trim: Whether whitespace around ids is taken away.
        create: Whether an audience that does not exist is made.
        guard: What the guard allows.
        apps: Names of the [apps] that it goes to; the source is read once for all of them.
        projects: Names of the [projects] that it goes to.
        timeout: Seconds that a run may take, from the first chunk sent to the last one applied.
        grace: Seconds that chunks under way get when the run is asked to stop.
        wait: Whether to wait until all is APPLIED; otherwise a later run, or `aiobatch wait --state`, waits.
        drift: Ids by which Batch's own count may differ from ours.
        drift_patience: Seconds in which that count may catch up.
        strict: Whether a count that differs fails the run.
        max_refused: Ids that Batch may refuse one by one before the run stops.
    """

    mode: Literal["mirror", "add", "remove", "replace"] | None = None
    type: IdType | None = None
    trim: bool | None = None
    create: bool | None = None
    guard: GuardTable | None = None
    apps: list[str] | None = None
    projects: list[str] | None = None
    timeout: float | None = _field(exclusiveMinimum=0)
    grace: float | None = _field(minimum=0)
    wait: bool | None = None
    drift: int | None = _field(minimum=0)
    drift_patience: float | None = _field(minimum=0)
    strict: bool | None = None
    max_refused: int | None = _field(minimum=0)


@attrs.frozen(kw_only=True)
class DefaultsTable(Settings):
    """What holds for every audience that does not say otherwise, and for the run as a whole.

    Attributes:
        state: The state file; paths are relative to the directory of this file.
        memory_limit: What DuckDB may take, such as "512MB"; the rest spills to disk.
        jobs: Audiences that are brought in line at the same time.
    """

    state: str | None = None
    memory_limit: str | None = _field(pattern=SIZE.schema["pattern"])
    jobs: int | None = _field(minimum=1)


@attrs.frozen(kw_only=True)
class AudienceTable(Settings):
    """An audience.

    Attributes:
        source: Where its members come from: a path, or a table.
        name: Its name at Batch; the table's own name by default.
        description: Its description, where it is made.
        rejects: File for the rejected rows.
    """

    source: str | SourceTable
    name: str | None = None
    description: str | None = None
    rejects: str | None = None


@attrs.frozen(kw_only=True)
class AppTable:
    """An app of the Custom Audience API 1.x: iOS and Android are one each.

    Attributes:
        rest_api_key: The company's REST API key, as `${NAME}`.
        api_key: The app's API key, as `${NAME}`.
        version: "1.0" for custom and advertising ids, "1.1" for install ids with attributes and tags.
        rate: Requests per second at most.
    """

    rest_api_key: EnvVariable
    api_key: EnvVariable
    version: Literal["1.0", "1.1"] | None = None
    rate: float | None = _field(exclusiveMinimum=0)


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
    version: str | None = _field(pattern=r"^2\.[1-9][0-9]{0,2}$")
    rate: float | None = _field(exclusiveMinimum=0)


@attrs.frozen(kw_only=True)
class ConfigTable:
    """Audiences, their sources, and the apps and projects they go to: see `aiobatch run`.

    Attributes:
        defaults: What holds for every audience that does not say otherwise.
        apps: Apps of the Custom Audience API 1.x, by a name of your choice.
        projects: Projects of the Audience API 2.x, by a name of your choice; with neither apps nor projects,
            the environment's BATCH_* keys say where all audiences go.
        audiences: Audiences by name.
    """

    audiences: dict[str, AudienceTable]
    defaults: DefaultsTable = attrs.field(factory=DefaultsTable)
    apps: dict[str, AppTable] = attrs.field(factory=dict)
    projects: dict[str, ProjectTable] = attrs.field(factory=dict)
