"""Reader of `aiobatch.toml`: audiences, their sources, and the apps and projects they go to."""

from __future__ import annotations

import fnmatch
import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import cattrs

from ..._secret import Secret
from ...dialects import dialect_for
from ...errors import InvalidInputError
from ...models import IdType, check_name
from ...options import App, Limits, Project
from .._options import DEFAULTS, SyncOptions
from .._strict_converter import KeyPath, errors_of, suggest
from ..sources._dsn import expand, has_literal_password, variables_of
from ..sources._location import Files, parse_location
from ..sources._source import Source
from ..state.ledger._ledger import StateLocation
from ._config import AudienceConfig, Config, ConfigError, Problem, TargetConfig
from ._notify import notify_config
from ._paths import expanded, locate_state
from ._shared_rate import shared_limits
from ._tables import (
    AppTable,
    AudienceTable,
    ConfigTable,
    DefaultsTable,
    ProjectTable,
    TargetsTable,
    config_converter,
    given,
)

_KEYS = ("rest_api_key", "api_key", "project_key")
# The part of a path that is left out of a broken config, so that the rest is checked as well: first the key
# alone, `audiences.vip.mode`, and then the table, if it needs the key.
_KEY_DEPTH, _TABLE_DEPTH = 3, 2
_converter = config_converter()


def load_config(
    path: Path | str,
    *,
    env: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    targets: Collection[str] = (),
    require_keys: bool = True,
) -> Config:
    """Return a config after checking all of it, without any network.

    Args:
        path: The file. Paths in it are relative to its folder.
        env: The variables of keys and paths. None for the environment of the process.
        only: Names of audiences to take, or patterns such as `vip*`. Empty for all. The keys of the others
            are not needed.
        targets: Names of apps and projects to take, or patterns. Empty for all.
        require_keys: Whether the variables of keys and sources must be set. If not, targets whose keys are
            missing are left out of `Config.targets`, and no source can be read.

    Raises:
        ConfigError: The config is invalid. The text names file and key of everything that is wrong.
        InvalidInputError: *only* or *targets* match nothing in the config.
        OSError: The file cannot be read.
    """
    place = Path(path)
    document = read_document(place)
    order = {key: n for n, key in enumerate(_keys(document))}
    table, problems = structure(document)
    builder = _ConfigBuilder(place, table, os.environ if env is None else env, problems, require_keys)
    if not problems:
        _checkmatches(place, "audience", only, table.audiences)
        _checkmatches(place, "app or project", targets, {**table.apps, **table.projects})
    config = builder.config(only, targets)
    if problems:
        raise ConfigError(
            str(place), sorted(problems, key=lambda one: order.get(one.path[:_TABLE_DEPTH], -1))
        )
    return config


def matches(label: str, patterns: Collection[str]) -> bool:
    """Return whether a name is one of *patterns* or matches one. Without patterns, every name does.

    Args:
        label: The name of an audience, an app or a project in a config.
        patterns: Names, or patterns such as `vip*`.
    """
    return not patterns or any(label == one or fnmatch.fnmatchcase(label, one) for one in patterns)


def _checkmatches(path: Path, what: str, patterns: Collection[str], known: Collection[str]) -> None:
    """Raise InvalidInputError if a pattern matches none of the *known* names."""
    for pattern in patterns:
        if not any(matches(label, [pattern]) for label in known):
            msg = f"{path} has no {what} {pattern!r}{suggest(pattern, known) or '.'}"
            raise InvalidInputError(msg)


def read_document(path: Path) -> dict[str, Any]:
    """Return the document of a file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        text = "is not UTF-8. Convert it first."
    except tomllib.TOMLDecodeError as error:
        text = f"is not TOML: {error}"
    except ValueError:  # tomllib lets int()'s own error through
        text = "holds a number with thousands of digits."
    except RecursionError:
        text = "nests arrays or tables too deeply."
    raise ConfigError(str(path), [Problem((), text)])


def _keys(document: Mapping[str, Any]) -> list[KeyPath]:
    """Return the keys of a document and of its tables, from top to bottom."""
    return [
        path
        for key, table in document.items()
        for path in ((key,), *((key, inner) for inner in (table if isinstance(table, dict) else ())))
    ]


def structure(document: dict[str, Any]) -> tuple[ConfigTable, list[Problem]]:
    """Return the sound parts of a document as tables, and what is wrong with the others."""
    problems: list[Problem] = []
    for depth in (_KEY_DEPTH, _TABLE_DEPTH):
        try:
            return _converter.structure(document, ConfigTable), problems
        except cattrs.BaseValidationError as error:
            found = [problem for path, one in errors_of(error) for problem in _problems(path, one)]
        problems = problems or found
        for problem in found:
            # An array is left out as a whole.
            *outer, last = (key for key in problem.path[:depth] if isinstance(key, str))
            table = document
            for key in outer:
                table = table[key]
            table.pop(last, None)
    return _converter.structure({"audiences": {}, **document}, ConfigTable), problems


def _problems(path: KeyPath, error: Exception) -> list[Problem]:
    """Return what is wrong, in words."""
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        return [
            Problem((*path, key), f"there is no such key{suggest(key, known)}")
            for key in sorted(error.extra_fields)
        ]
    return [Problem(path, "is missing" if isinstance(error, KeyError) else str(error))]


@attrs.define
class _ConfigBuilder:
    """Builds the values that the engine takes from the tables of a config.

    Attributes:
        path: The file.
        table: Its tables.
        env: Where keys are.
        problems: What is wrong so far.
        require_keys: Whether the variables of keys and sources must be set.
    """

    path: Path
    table: ConfigTable
    env: Mapping[str, str] = attrs.field(repr=False)
    problems: list[Problem]
    require_keys: bool
    unread: set[KeyPath] = attrs.field(init=False)
    shared: Limits | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Nothing else is reported of a table that is broken.
        self.unread = {problem.path[:_TABLE_DEPTH] for problem in self.problems}
        self.shared = shared_limits(self._defaults, self.env, self._add)

    @property
    def _defaults(self) -> DefaultsTable:
        return self.table.defaults

    def _add(self, path: KeyPath, text: str) -> None:
        self.problems.append(Problem(path, text))

    def config(self, only: Collection[str], wanted: Collection[str]) -> Config:
        """Return the config. Parts of it are missing if there are problems."""
        self._check_labels()
        every = {label: self._targets_of(label, one) for label, one in self.table.audiences.items()}
        targets_of = {
            label: tuple(one for one in ones if matches(one, wanted)) for label, ones in every.items()
        }
        chosen = [
            label for label, ones in targets_of.items() if matches(label, only) and (ones or not wanted)
        ]
        if not chosen and every and not self.problems:
            msg = f"{self.path} has no audience {', '.join(only)} in {', '.join(wanted)}."
            raise InvalidInputError(msg)
        targets = {
            target.label: target
            for label in dict.fromkeys(target for name in chosen for target in targets_of[name])
            if (target := self._target(label)) is not None
        }
        audiences = [self._audience(label, targets_of[label], targets) for label in chosen]
        self._check_twice(every)
        return Config(
            path=self.path,
            state=self._state(),
            jobs=self._defaults.jobs or 1,
            memory_limit=self._options(self._defaults).memory_limit,
            limits=self.shared or Limits(),
            targets=targets,
            audiences=tuple(audience for audience in audiences if audience is not None),
            notify=notify_config(self.table.notify, self.env, self._add),
        )

    def _state(self) -> StateLocation | None:
        """Return the state. None if it is missing or invalid."""
        try:
            return locate_state(self.path, self._defaults.state, self.env)
        except InvalidInputError as error:
            self._add(("defaults", "state"), str(error))
            return None

    def _near(self, path: str | Path) -> Path:
        """Return a path relative to the folder of the config."""
        return self.path.parent / path

    def _path(self, place: KeyPath, path: str | Path | None) -> Path | None:
        """Return a path with its variables replaced. None if it is missing or invalid."""
        try:
            return None if path is None else self._near(expanded(str(path), self.env))
        except InvalidInputError as error:
            self._add(place, str(error))
            return None

    # -- where audiences go ---------------------------------------------------------------------------

    def _check_labels(self) -> None:
        """Report a name that an app and a project share: results would not distinguish them."""
        for label in self.table.apps.keys() & self.table.projects.keys():
            self._add(("projects", label), "an app has this name too. Give each its own.")

    def _targets_of(self, label: str, audience: AudienceTable) -> tuple[str, ...]:
        """Return the names of the apps and projects that an audience goes to."""
        tables: tuple[tuple[KeyPath, TargetsTable], ...] = (
            (("audiences", label), audience),
            (("defaults",), self._defaults),
        )
        for place, settings in tables:
            if settings.apps is not None or settings.projects is not None:
                return self._named(settings, place)
        labels = (*self.table.apps, *self.table.projects)
        if len(labels) > 1:
            text = f"names no apps or projects. Name some of {', '.join(labels)}."
            self._add(("audiences", label), text)
        return labels

    def _named(self, settings: TargetsTable, place: KeyPath) -> tuple[str, ...]:
        """Return the apps and projects that a table names, without unknown ones."""
        found: list[str] = []
        for key, known in (("apps", self.table.apps), ("projects", self.table.projects)):
            for number, label in enumerate(getattr(settings, key) or ()):
                if label in known:
                    found.append(label)
                elif (key, label) not in self.unread:
                    text = f"there is no [{key}.{label}]{suggest(label, known)}"
                    self._add((*place, key, number), text)
        if not settings.apps and not settings.projects:
            self._add((*place, "apps"), "is empty. Name an app or a project.")
        return tuple(dict.fromkeys(found))

    def _target(self, label: str) -> TargetConfig | None:
        """Return an app or a project with its keys, or None if they are missing."""
        app = self.table.apps.get(label)
        table: AppTable | ProjectTable = self.table.projects[label] if app is None else app
        place = ("projects" if app is None else "apps", label)
        keys = {name: getattr(table, name).name for name in _KEYS if hasattr(table, name)}
        missing = {name: variable for name, variable in keys.items() if not self.env.get(variable)}
        if missing and not self.require_keys:
            return None
        for name, variable in missing.items():
            self._add((*place, name), f"the environment variable {variable} is not set, or it is empty.")
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
            self._add((*place, name), f"{keys.get(name)}: {error}")
            return None
        if table.rate is not None and self.shared is not None:
            self._add((*place, "rate"), "cannot be combined with defaults.shared_rate. Remove one of them.")
        limits = self.shared or Limits(rate=table.rate)
        return TargetConfig(label=label, target=target, limits=limits, variables=tuple(keys.values()))

    def _check_twice(self, targets_of: Mapping[str, tuple[str, ...]]) -> None:
        """Report two sources for one audience: each run would undo the other."""
        seen: dict[tuple[str, str], str] = {}
        for label, audience in self.table.audiences.items():
            for target in targets_of[label]:
                first = seen.setdefault((audience.name or label, target), label)
                if first != label:
                    text = f"is the same audience of {target} as audiences.{first}. Keep one of them."
                    self._add(("audiences", label), text)

    # -- audiences ------------------------------------------------------------------------------------

    def _audience(
        self, label: str, targets_of: tuple[str, ...], targets: Mapping[str, TargetConfig]
    ) -> AudienceConfig | None:
        """Return an audience, or None if it is invalid."""
        audience = self.table.audiences[label]
        place: KeyPath = ("audiences", label)
        try:
            name = check_name(audience.name or label)
        except InvalidInputError as error:
            self._add((*place, "name") if audience.name else place, str(error))
            name = None
        source = self._source(audience, (*place, "source"))
        options = self._options(self._defaults, audience)
        if options.rejects is not None:
            options = attrs.evolve(options, rejects=self._path((*place, "rejects"), options.rejects))
        self._check_type(
            place, options.id_type, [targets[target] for target in targets_of if target in targets]
        )
        if name is None or source is None:
            return None
        return AudienceConfig(label=label, name=name, source=source, options=options, targets=targets_of)

    def _source(self, audience: AudienceTable, place: KeyPath) -> Source | None:
        """Return a source, or None if it is invalid."""
        words = (
            {"path": audience.source} if isinstance(audience.source, str) else dict(given(audience.source))
        )
        text = words.pop("path")
        try:
            if has_literal_password(text):
                msg = "a config holds no password. Write ${NAME}, an environment variable, in its place."
                raise InvalidInputError(msg)
            if not self.require_keys and any(name not in self.env for name in variables_of(text)):
                return Source(path=text, location=Files(path=text), **words)  # it is not read
            address = expand(text, self.env) if "${" in text else text
            if address == "-":
                msg = "a config cannot read standard input. Name a file."
                raise InvalidInputError(msg)
            if address and "://" not in address:
                address = text = str(self._near(address))
            location = parse_location(address, words.get("query"), words.get("format"))
            return Source(path=text, location=location, **words)
        except InvalidInputError as error:
            self._add(place, str(error).removeprefix("source: "))
            return None

    def _options(self, *tables: DefaultsTable | AudienceTable) -> SyncOptions:
        """Return the options of the engine, with those that *tables* give, of which the last wins."""
        values: dict[str, Any] = {}
        guard: dict[str, Any] = {}
        for table in tables:
            values |= given(table)
            guard |= given(values.pop("guard", None))
        values["guard"] = attrs.evolve(DEFAULTS.guard, **guard)
        known = attrs.fields_dict(SyncOptions)
        return attrs.evolve(DEFAULTS, **{name: one for name, one in values.items() if name in known})

    def _check_type(self, place: KeyPath, wanted: IdType | None, targets: Sequence[TargetConfig]) -> None:
        """Check that all targets of an audience accept its IDs, and as the same type."""
        kinds: dict[IdType, str] = {}
        for target in targets:
            try:
                kinds.setdefault(dialect_for(target.target).id_type(wanted), target.label)
            except InvalidInputError as error:
                self._add((*place, "id_type"), f"{target.label}: {error}")
        if len(kinds) > 1:
            text = " and ".join(f"{label} accepts {kind}" for kind, label in kinds.items())
            self._add((*place, "apps"), f"{text}. Create an audience for each type.")
