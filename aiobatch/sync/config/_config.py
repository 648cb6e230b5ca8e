"""A config as values: its targets, its audiences, and the error of an invalid one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from ...errors import InvalidInputError
from ...options import App, Limits, Project
from .._options import SyncOptions
from .._strict_converter import KeyPath
from ..sources._source import Source
from ..state._targets import TargetKey
from ..state.ledger._ledger import StateLocation
from ._notify import NotifyConfig


@attrs.frozen
class Problem:
    """One thing that is wrong with a config.

    Attributes:
        path: The keys that lead to it.
        text: What is wrong, and what to do.
    """

    path: KeyPath
    text: str

    @property
    def key(self) -> str:
        """The key as in `audiences.vip.mode`."""
        return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path).lstrip(".")


class ConfigError(InvalidInputError):
    """A config is invalid. Nothing was sent.

    Attributes:
        path: The file.
        problems: Everything that is wrong with it, table by table.
    """

    path: str
    problems: tuple[Problem, ...]

    def __init__(self, path: str, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> list[str]:
        """The file, the key and the fault of each problem, one per line."""
        return [": ".join(filter(None, (self.path, one.key, one.text))) for one in self.problems]


@attrs.frozen(kw_only=True)
class TargetConfig:
    """An app or a project of a config.

    Attributes:
        label: Its name in the config.
        target: Its keys and version.
        limits: The limits of its client.
        variables: The environment variables of its keys.
    """

    label: str
    target: App | Project
    limits: Limits
    variables: tuple[str, ...] = ()

    def audience_key(self, name: str) -> str:
        """Return the key of an audience of this target in a state.

        Args:
            name: The audience's name.
        """
        return TargetKey.of(self.target).audience_key(name)


@attrs.frozen(kw_only=True)
class AudienceConfig:
    """An audience of a config.

    Attributes:
        label: Its name in the config.
        name: Its name at Batch.
        source: The source of its members.
        options: The options of its run.
        targets: Names of its apps and projects in the config. Empty for the target of the environment.
    """

    label: str
    name: str
    source: Source
    options: SyncOptions
    targets: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Config:
    """A valid config.

    Attributes:
        path: Its file.
        state: The state. None for the user's own.
        jobs: Audiences at the same time.
        memory_limit: Memory of DuckDB at most.
        limits: The limits of the client, if the config has no apps and projects.
        targets: Name in the config -> app or project.
        audiences: The audiences to sync.
        notify: Where alerts go. None if the config declares none.
    """

    path: Path
    state: StateLocation | None
    jobs: int
    memory_limit: str
    limits: Limits
    targets: Mapping[str, TargetConfig]
    audiences: tuple[AudienceConfig, ...]
    notify: NotifyConfig | None = None
