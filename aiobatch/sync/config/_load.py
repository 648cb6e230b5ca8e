"""`aiobatch.toml`: many audiences, their sources, and the apps and projects they go to."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..._secret import Secret
from ...dialects import dialect_for
from ...errors import InvalidInputError
from ...models import IdType, check_name
from ...options import App, Project
from .._guard import GuardPolicy
from .._options import DEFAULTS, SyncOptions
from ..sources._dsn import expand, has_literal_password
from ..sources._source import Source
from ._line_numbers import Path as KeyPath
from ._line_numbers import find_lines
from ._reader import Problem, Reader, suggest
from ._tables import AppTable, AudienceTable, ConfigTable, DefaultsTable, ProjectTable, Settings

_AT_LINE = re.compile(r"(?P<text>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)
# Settings that the engine's options have under the same name.
_SAME = (
    "mode",
    "trim",
    "create",
    "timeout",
    "grace",
    "wait",
    "drift",
    "drift_patience",
    "strict",
    "max_refused",
)
_KEYS = ("rest_api_key", "api_key", "project_key")


class ConfigError(InvalidInputError):
    """A config cannot be meant; nothing was sent.

    Attributes:
        path: The file.
        problems: Everything that is wrong with it, from its top to its bottom.
    """

    path: str
    problems: tuple[Problem, ...]

    def __init__(self, path: str, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> list[str]:
        """Each problem in a line: file, line, key, and what is wrong."""
        return [
            ": ".join(filter(None, (self._place(problem), problem.key, problem.text)))
            for problem in self.problems
        ]

    def _place(self, problem: Problem) -> str:
        return self.path if problem.line is None else f"{self.path}:{problem.line}"


@attrs.frozen(kw_only=True)
class TargetConfig:
    """An app or a project of a config.

    Attributes:
        label: The config's name for it.
        target: Its keys and version.
        rate: Requests per second at most; None for no limit of ours.
    """

    label: str
    target: App | Project
    rate: float | None


@attrs.frozen(kw_only=True)
class AudienceConfig:
    """An audience of a config.

    Attributes:
        label: The config's name for it.
        name: Its name at Batch.
        source: Where its members come from.
        options: How it is brought in line.
        targets: Labels of where it goes; empty for whatever the environment names.
    """

    label: str
    name: str
    source: Source
    options: SyncOptions
    targets: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Config:
    """A config that can be meant.

    Attributes:
        path: Its file.
        state: The state file; None for the user's own.
        jobs: Audiences at the same time.
        memory_limit: What DuckDB may take.
        targets: Label -> where audiences go.
        audiences: What to bring in line.
    """

    path: Path
    state: Path | None
    jobs: int
    memory_limit: str
    targets: Mapping[str, TargetConfig]
    audiences: tuple[AudienceConfig, ...]


def load_config(
    path: Path | str, *, env: Mapping[str, str] | None = None, only: Collection[str] = ()
) -> Config:
    """Read a config and check all of it, without any network.

    Args:
        path: The file; paths in it are relative to its directory.
        env: Where keys are; None for the process's environment.
        only: Labels of audiences to take; empty for all. The others are checked but for their keys.

    Raises:
        ConfigError: It cannot be meant; the text names file, line and key of everything that is wrong.
        InvalidInputError: *only* names an audience that there is not.
        OSError: It cannot be read.
    """
    place = Path(path)
    reader, table = _read(place)
    if table is None:
        raise ConfigError(str(place), reader.problems)
    for label in only:
        if label not in table.audiences:
            msg = f"{place} has no audience {label!r}{suggest(label, table.audiences)}"
            raise InvalidInputError(msg)
    config = _Meaning(place, table, reader, os.environ if env is None else env).config(only)
    if reader.problems:
        raise ConfigError(str(place), reader.problems)
    return config


def _read(path: Path) -> tuple[Reader, ConfigTable | None]:
    """Read a file into tables."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        document, lines = tomllib.loads(text), find_lines(text)
    except UnicodeDecodeError:
        raise ConfigError(str(path), [Problem((), "is not UTF-8; convert it first")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), [_not_toml(str(error), text)]) from None
    except ValueError:  # tomllib lets int()'s own error through
        raise ConfigError(str(path), [Problem((), "holds a number of thousands of digits")]) from None
    except RecursionError:
        raise ConfigError(str(path), [Problem((), "nests arrays or tables too deeply")]) from None
    reader = Reader(lines)
    return reader, reader.table(ConfigTable, document, ())


def _not_toml(said: str, text: str) -> Problem:
    """Say where a text stops being TOML."""
    match = _AT_LINE.fullmatch(said)
    what, line = (said, None) if match is None else (match["text"], match["line"])
    return Problem((), f"is not TOML: {what}", int(line) if line else text.count("\n") + 1)


def _given(table: Any) -> dict[str, Any]:
    """Return the fields of a table that are given."""
    return {name: one for name, one in attrs.asdict(table, recurse=False).items() if one is not None}


@attrs.define
class _Meaning:
    """Makes of tables what the engine takes.

    Attributes:
        path: The file.
        table: What it holds.
        reader: Takes problems.
        env: Where keys are.
    """

    path: Path
    table: ConfigTable
    reader: Reader
    env: Mapping[str, str] = attrs.field(repr=False)

    @property
    def _defaults(self) -> DefaultsTable:
        return self.table.defaults

    def config(self, only: Collection[str]) -> Config:
        """Return the config; where there are problems, parts of it are missing."""
        self._check_labels()
        goals = {label: self._goals(label, one) for label, one in self.table.audiences.items()}
        chosen = [label for label in goals if label in only or not only]
        targets = {
            target.label: target
            for label in dict.fromkeys(goal for name in chosen for goal in goals[name])
            if (target := self._target(label)) is not None
        }
        audiences = [self._audience(label, goals[label], targets) for label in chosen]
        self._check_twice(goals)
        return Config(
            path=self.path,
            state=None if self._defaults.state is None else self._near(self._defaults.state),
            jobs=self._defaults.jobs or 1,
            memory_limit=self._defaults.memory_limit or SyncOptions().memory_limit,
            targets=targets,
            audiences=tuple(audience for audience in audiences if audience is not None),
        )

    def _near(self, path: str) -> Path:
        """Return a path relative to the config's directory."""
        return self.path.parent / path

    # -- where audiences go ---------------------------------------------------------------------------

    def _check_labels(self) -> None:
        """Refuse a name that is an app's and a project's: results would not say which."""
        for label in self.table.apps.keys() & self.table.projects.keys():
            self.reader.complain(("projects", label), "there is an app of this name; give each its own")

    def _goals(self, label: str, audience: AudienceTable) -> tuple[str, ...]:
        """Return the labels of where an audience goes."""
        given: tuple[tuple[KeyPath, Settings], ...] = (
            (("audiences", label), audience),
            (("defaults",), self._defaults),
        )
        for place, settings in given:
            if settings.apps is not None or settings.projects is not None:
                return self._named(settings, place)
        labels = (*self.table.apps, *self.table.projects)
        if len(labels) > 1:
            text = f"does not say where it goes: apps or projects, some of {', '.join(labels)}"
            self.reader.complain(("audiences", label), text)
        return labels

    def _named(self, settings: Settings, place: KeyPath) -> tuple[str, ...]:
        """Return the labels that a table names, without those that there are not."""
        found: list[str] = []
        for key, known in (("apps", self.table.apps), ("projects", self.table.projects)):
            for number, label in enumerate(getattr(settings, key) or ()):
                if label in known:
                    found.append(label)
                elif (key, label) not in self.reader.unread:
                    text = f"there is no [{key}.{label}]{suggest(label, known)}"
                    self.reader.complain((*place, key, number), text)
        if not settings.apps and not settings.projects:
            self.reader.complain((*place, "apps"), "names nothing; the audience would go nowhere")
        return tuple(dict.fromkeys(found))

    def _target(self, label: str) -> TargetConfig | None:
        """Return an app or a project with its keys; None where they cannot be had."""
        app = self.table.apps.get(label)
        table: AppTable | ProjectTable = self.table.projects[label] if app is None else app
        place = ("projects" if app is None else "apps", label)
        keys = {name: getattr(table, name).name for name in _KEYS if hasattr(table, name)}
        missing = {name: variable for name, variable in keys.items() if not self.env.get(variable)}
        for name, variable in missing.items():
            self.reader.complain((*place, name), f"the environment variable {variable} is not set, or empty")
        if missing:
            return None
        values: dict[str, Any] = {name: Secret(self.env[variable]) for name, variable in keys.items()}
        if table.version is not None:
            values["version"] = table.version
        kind: type[App | Project] = Project if app is None else App
        try:
            target = kind(**values)
        except InvalidInputError as error:
            name = next((name for name in keys if f".{name} " in str(error)), "")
            self.reader.complain((*place, name), f"{keys.get(name)}: {error}")
            return None
        return TargetConfig(label=label, target=target, rate=table.rate)

    def _check_twice(self, goals: Mapping[str, tuple[str, ...]]) -> None:
        """Refuse two sources for one audience: each run would undo the other's."""
        seen: dict[tuple[str, str], str] = {}
        for label, audience in self.table.audiences.items():
            for goal in goals[label]:
                first = seen.setdefault((audience.name or label, goal), label)
                if first != label:
                    text = f"is the same audience of {goal} as audiences.{first}; one source for each"
                    self.reader.complain(("audiences", label), text)

    # -- audiences ------------------------------------------------------------------------------------

    def _audience(
        self, label: str, goals: tuple[str, ...], targets: Mapping[str, TargetConfig]
    ) -> AudienceConfig | None:
        """Return an audience; None where it cannot be meant."""
        audience = self.table.audiences[label]
        place: KeyPath = ("audiences", label)
        try:
            name = check_name(audience.name or label)
        except InvalidInputError as error:
            self.reader.complain((*place, "name") if audience.name else place, str(error))
            name = None
        source = self._source(audience, (*place, "source"))
        options = self._options(audience)
        self._check_type(place, options.id_type, [targets[goal] for goal in goals if goal in targets])
        if name is None or source is None:
            return None
        return AudienceConfig(label=label, name=name, source=source, options=options, targets=goals)

    def _source(self, audience: AudienceTable, place: KeyPath) -> Source | None:
        """Return a source; None where it cannot be meant."""
        given = audience.source
        words = {"path": given} if isinstance(given, str) else attrs.asdict(given)
        text = words.pop("path")
        try:
            if has_literal_password(text):
                msg = "a password never stands in a file; write ${NAME} for it, an environment variable"
                raise InvalidInputError(msg)
            address = expand(text, self.env) if "${" in text else text
            if address == "-":
                msg = "a config cannot read standard input; name a file, or use `aiobatch sync`"
                raise InvalidInputError(msg)
            if address and "://" not in address:
                address = str(self._near(address))
            return Source.parse(address, **words)
        except InvalidInputError as error:
            self.reader.complain(place, str(error).removeprefix("source: "))
            return None

    def _options(self, audience: AudienceTable) -> SyncOptions:
        """Return how an audience is brought in line: as it says, or the defaults, or the engine."""
        both = (self._defaults, audience)
        guards = [table.guard for table in both if table.guard is not None]
        guard = {name: one for table in guards for name, one in _given(table).items()}
        values = {name: one for table in both for name, one in _given(table).items() if name in _SAME}
        return attrs.evolve(
            DEFAULTS,
            **values,
            id_type=audience.type or self._defaults.type,
            description=audience.description,
            guard=GuardPolicy(**guard),
            rejects=None if audience.rejects is None else self._near(audience.rejects),
            memory_limit=self._defaults.memory_limit or SyncOptions().memory_limit,
        )

    def _check_type(self, place: KeyPath, wanted: IdType | None, targets: Sequence[TargetConfig]) -> None:
        """Check that all of an audience's targets take its ids, and take them for the same thing."""
        kinds: dict[IdType, str] = {}
        for target in targets:
            try:
                kinds.setdefault(dialect_for(target.target).id_type(wanted), target.label)
            except InvalidInputError as error:
                self.reader.complain((*place, "type"), f"{target.label}: {error}")
        if len(kinds) > 1:
            text = " and ".join(f"{label} takes {kind}" for kind, label in kinds.items())
            self.reader.complain(
                (*place, "apps"), f"{text}: the same ids cannot be both; make an audience for each"
            )
