"""All scenarios by name, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping

from ..contenders import AIOBATCH_1X, AIOBATCH_2X
from ..results.scenario import Scenario
from .client import Import, Upload, ViewMany
from .cloud_source import CloudSource
from .commands import Commands
from .huge import huge_scenarios
from .idle import IdleWaits
from .many_audiences import ManyAudiences
from .object_state import ObjectState
from .profile import Profile
from .rate import rate_scenarios
from .sandboxed_tests import SandboxedTests
from .shared_limit import SharedLimit
from .simulated import simulated_scenarios
from .sync import sync_scenarios
from .telemetry import Telemetry
from .tokens import aiobatch_alone, one_token, outage, tokens

_TOKENS = tokens(
    {"requests_a_token": 1.12, "lag_mean": 0.3, "late_above": 1.5},
    {},
)

SCENARIOS: Mapping[str, Scenario] = {
    "tokens": _TOKENS,
    "one_token": one_token(requests=10),
    "outage": outage(),
    "idle_waits": IdleWaits(),
    **simulated_scenarios(),
    **rate_scenarios(),
    "shared_limit": SharedLimit(),
    "view_many": ViewMany(),
    "telemetry": Telemetry(),
    "upload": Upload(),
    "import": Import(),
    "commands": Commands(),
    "sandboxed_tests": SandboxedTests(),
    "profile": Profile(),
    **sync_scenarios(),
    "sync_many": ManyAudiences(),
    "object_state": ObjectState(),
    "cloud_source": CloudSource(),
}

# Scenarios that run only by name: parts of others, and those that take many minutes or gigabytes.
PARTS: Mapping[str, Scenario] = {
    "tokens_2x": aiobatch_alone(_TOKENS, AIOBATCH_2X),
    "tokens_1x": aiobatch_alone(_TOKENS, AIOBATCH_1X),
    **huge_scenarios(),
}


def sized_scenarios(ids: int) -> dict[str, Scenario]:
    """Return the sync scenarios by name, with another number of IDs than the targets are for.

    Args:
        ids: The number of IDs.
    """
    return {
        **rate_scenarios(ids),
        **sync_scenarios(ids),
        "object_state": ObjectState(ids=ids),
        "cloud_source": CloudSource(ids=ids),
        **huge_scenarios(ids),
    }
