"""The rate that all apps and projects of a company share, as a config declares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..._secret import Secret
from ...errors import InvalidInputError
from ...options import Limits
from .._strict_converter import KeyPath
from ._tables import DefaultsTable

_RATE, _REDIS = ("defaults", "shared_rate"), ("defaults", "shared_redis")


def shared_limits(
    defaults: DefaultsTable, env: Mapping[str, str], report: Callable[[KeyPath, str], None]
) -> Limits | None:
    """Return the limits of every app and project, or None if they share no rate.

    Args:
        defaults: The table.
        env: The variables.
        report: Called with the key and the text of each problem.
    """
    if defaults.shared_rate is None:
        if defaults.shared_redis is not None:
            report(_REDIS, "needs shared_rate, the rate to share.")
        return None
    shared: bool | Secret = True
    if defaults.shared_redis is not None:
        variable = defaults.shared_redis.name
        shared = Secret(env.get(variable, ""))
        if not shared.reveal():
            report(_REDIS, f"the environment variable {variable} is not set, or it is empty.")
            return None
    try:
        return Limits(rate=float(defaults.shared_rate.removesuffix("/s")), shared=shared, company_wide=True)
    except InvalidInputError as error:
        report(_REDIS, str(error))
        return None
