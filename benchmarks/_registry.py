"""Every scenario by name, in the order of the table; a module of further ones adds its own line."""

from __future__ import annotations

from collections.abc import Mapping

from ._scenario import Scenario
from ._scenarios_client import Import, Upload, ViewMany
from ._scenarios_sync import sync_scenarios
from ._scenarios_tokens import many_tokens, one_token, outage

SCENARIOS: Mapping[str, Scenario] = {
    "view_many": ViewMany(),
    "upload": Upload(),
    "tokens_2x": many_tokens("2.11", requests=1.5, lag=0.6),
    "tokens_1x": many_tokens("1.0", requests=3, lag=0.8),
    "one_token": one_token(),
    "outage": outage(),
    "import": Import(),
    **sync_scenarios(),
}
