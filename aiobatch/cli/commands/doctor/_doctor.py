"""The `doctor` command: what is wrong with a set-up, and how to fix it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

import attrs
from cyclopts import Group, Parameter

from ....sync.config import DRAFT, object_schema
from ..._context import InjectedContext
from ..._exit_codes import ExitCode
from ..._signals import in_thread
from ...options._common import ConfigOptions
from ...options._sync import StateOption
from ...output._command_hints import command_context
from ...output._tables import Column
from ._finding import Finding, FindingStatus, problem
from ._mask import Mask
from ._route import TIMEOUT, Route
from ._setup import Options, Setup, read_setup
from ._state import check_state
from ._versions import check_versions

__all__ = ["doctor", "doctor_schema"]

_FORMAT: Final = 1
_COLUMNS = (
    Column("status", "status"),
    Column("check", "check"),
    Column("target", "target"),
    Column("text", "finding", plain="text"),
    Column("fix", "fix"),
)
_GROUP = Group("Checks", sort_key=6)
_NO_CONFIG = ConfigOptions()


async def doctor(
    *,
    state: Annotated[StateOption, Parameter(group=_GROUP)] = None,
    env_file: Annotated[str | None, Parameter(metavar="FILE", group=_GROUP)] = None,
    api: Annotated[str | None, Parameter(metavar="VERSION", group=_GROUP)] = None,
    where: ConfigOptions = _NO_CONFIG,
    context: InjectedContext,
) -> ExitCode:
    """Check keys, network, clock, state and config, and print how to fix them.

    Sends only a request without keys and a list of audiences, and changes no audience. The output contains no
    key, no ID, no host of yours and no user's name, so you can paste it into a bug report. Exits with 18 if
    anything needs a fix.

    Example: `aiobatch doctor --config aiobatch.toml`

    Example: `aiobatch doctor --json | jq 'select(.status == "problem")'`

    Args:
        state: Check this state file. Default: as in the config, or your own.
        env_file: Read variables from the KEY=VALUE lines of this file.
        api: Use API 1.x, 2.x or a version such as 1.1, if keys for both are set.
    """
    options = Options(where=where, state=state, env_file=env_file, api=api)
    try:
        async with asyncio.timeout(TIMEOUT):
            setup = await in_thread(lambda: read_setup(options))
    except TimeoutError:
        text = f"The config or the env file did not open within {TIMEOUT:g} s."
        setup = Setup(findings=[problem("config", text, "Check whether its network drive is reachable.")])
    route, has_problem = Route(setup), False
    findings = [one async for one in _findings(setup, route)]
    mask = await in_thread(lambda: Mask.of([os.environ, setup.env], route.hosts))
    with context.output.rows(_COLUMNS) as add:
        for one in findings:
            has_problem |= one.status is FindingStatus.PROBLEM
            shown = attrs.evolve(one, text=mask(one.text), fix=None if one.fix is None else mask(one.fix))
            add({"format": _FORMAT, **attrs.asdict(shown)} if context.options.json else attrs.asdict(shown))
    return ExitCode.UNHEALTHY if has_problem else ExitCode.DONE


async def _findings(setup: Setup, route: Route) -> AsyncGenerator[Finding, None]:
    """Yield all findings, the causes of others first."""
    for one in (*await in_thread(lambda: [*check_versions()]), *setup.findings):
        yield one
    with command_context(config=setup.path):
        for checks in (route.check(), check_state(setup)):
            async with contextlib.aclosing(checks):
                async for one in checks:
                    yield one


def doctor_schema() -> dict[str, Any]:
    """Return the JSON Schema of the `--json` output of doctor."""
    finding = object_schema(Finding, nullable=True)
    version = {"const": _FORMAT, "description": "The version of this schema."}
    finding["properties"] = {"format": version, **finding["properties"]}
    finding["required"] = ["format", *finding["required"]]
    title = "Each line that aiobatch doctor prints with --json"
    return {"$schema": DRAFT, "title": title, **finding}
