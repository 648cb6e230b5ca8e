"""Every scenario by name, in the order of the table; a module of further ones adds its own line."""

from __future__ import annotations

from collections.abc import Mapping

from ..contenders import OURS_1X, OURS_2X
from ..results.scenario import Scenario
from .client import Import, Upload, ViewMany
from .profile import Profile
from .rate import rate_scenarios
from .simulated import simulated_scenarios
from .sync import sync_scenarios
from .tokens import one_token, ours_alone, outage, tokens

_TOKENS = tokens(
    {"requests_a_token": 1.25, "lag_mean": 0.4, "late_p99": 5, "cpu": 1.5},
    {"requests_a_token": 2.5, "lag_mean": 0.6},
)

SCENARIOS: Mapping[str, Scenario] = {
    "tokens": _TOKENS,
    "one_token": one_token(requests=10),
    "outage": outage(),
    **simulated_scenarios(),
    **rate_scenarios(),
    "view_many": ViewMany(),
    "upload": Upload(),
    "import": Import(),
    "profile": Profile(),
    **sync_scenarios(),
}

# What is a part of another scenario: run when it is asked for by name.
PARTS: Mapping[str, Scenario] = {
    "tokens_2x": ours_alone(_TOKENS, OURS_2X),
    "tokens_1x": ours_alone(_TOKENS, OURS_1X),
}


def sized_scenarios(ids: int) -> dict[str, Scenario]:
    """Return those that are of ids, by name, with other numbers than their targets speak of.

    Args:
        ids: How many each has.
    """
    return {**rate_scenarios(ids), **sync_scenarios(ids)}
