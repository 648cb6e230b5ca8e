"""The alerts of a config: where they go, and which are sent."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

import attrs

from ..._secret import Secret
from .._strict_converter import KeyPath
from ._tables import NotifyTable


class AlertKind(enum.StrEnum):
    """The change of state that an alert reports."""

    FAILURE = "failure"
    REFUSAL = "refusal"
    STALENESS = "staleness"
    RECOVERY = "recovery"


@attrs.frozen(kw_only=True)
class NotifyConfig:
    """Where alerts go, and which are sent.

    Attributes:
        urls: Environment variable -> its Apprise URL, which contains secrets.
        missing: Environment variables that are not set, or are empty.
        kinds: The changes of state that are reported.
    """

    urls: Mapping[str, Secret]
    missing: tuple[str, ...] = ()
    kinds: frozenset[AlertKind] = frozenset(AlertKind)


def notify_config(
    table: NotifyTable | None, env: Mapping[str, str], report: Callable[[KeyPath, str], None]
) -> NotifyConfig | None:
    """Return the alerts that a config declares. None if it declares none.

    A variable that is not set is no problem of the config: alerts must not stop a run.

    Args:
        table: The table `[notify]`. None if there is none.
        env: The variables.
        report: Called with the key and the text of each problem.
    """
    if table is None:
        return None
    if not table.urls:
        report(("notify", "urls"), 'is empty. Name a variable that holds an Apprise URL: "${ALERT_URL}".')
    names = [one.name for one in table.urls or ()]
    return NotifyConfig(
        urls={name: Secret(env[name]) for name in names if env.get(name)},
        missing=tuple(name for name in names if not env.get(name)),
        kinds=frozenset(AlertKind if table.on is None else map(AlertKind, table.on)),
    )
