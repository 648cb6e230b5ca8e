"""Plans of all places of a config, in one file: made by `plan`, carried out by `apply`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from ..errors import InvalidInputError
from ..sync import (
    AudienceConfig,
    Config,
    PlannedPlace,
    PlanSet,
    default_state_path,
    load_config,
    to_location,
)
from ..sync.config import matches
from ._config_run import Applied, ConfigRun, Planned, print_report
from ._context import Context
from ._exit_codes import ExitCode
from ._run_report import RunReport
from ._signals import in_thread
from .inputs._config import FoundConfig, find_config
from .inputs._credentials import variables
from .inputs._plan_file import check_savable, save_plan
from .inputs._selection import check_one_audience, with_options
from .options._common import ManyOptions
from .options._sync import ApplyCommand, PlanCommand
from .output._command_hints import command as command_line
from .output._command_hints import command_context
from .output._sync_report import pluralize

__all__ = ["apply_config", "plan_config"]


async def plan_config(
    command: PlanCommand, many: ManyOptions, context: Context, *, out: Path | None, detailed: bool
) -> ExitCode:
    """Plan all audiences of a config, print the plans as `run --dry-run` does, and save them.

    Args:
        command: The options of the command.
        many: The audiences.
        context: Prints the report.
        out: The file of the plans. None: they are not saved.
        detailed: Whether changes have an exit code of their own.
    """
    report = RunReport(context=context, command="plan", detailed=detailed, dry_run=True)

    async def work() -> ExitCode:
        command.refuse_options_of_one()
        found = await in_thread(lambda: find_config(command.place, context.info))
        if found is None:
            msg = "There is no config. Pass NAME and SOURCE, or --config FILE to plan all of its audiences."
            raise InvalidInputError(msg)
        with command_context(config=found.path):
            config, env = await in_thread(lambda: _load(found, command, many))
            if out is not None:
                await in_thread(lambda: check_savable(out, *(one.source for one in config.audiences)))
            state = command.state.state or config.state or default_state_path()
            report.begin(config, state, sends=False)
            jobs = many.jobs or config.jobs
            run = ConfigRun(config=config, state=state, env=env, jobs=jobs, report=report)
            made = Planned()
            await run.do(made)
            if out is not None:  # first: a reader of the printed plans may close its pipe
                count = await in_thread(lambda: _save(made, config, out))
                context.info(f"Saved {count} to {out}. Run {command_line('apply', str(out))}.")
            return report.write()

    return await print_report(report, work)


def _load(found: FoundConfig, command: PlanCommand, many: ManyOptions) -> tuple[Config, Mapping[str, str]]:
    """Read a config and apply the options of the command."""
    env = variables(command.target.env_file)
    targets = [] if command.place.target is None else [command.place.target]
    config = load_config(found.path, env=env, only=many.only, targets=targets)
    if command.allowed.is_given:
        check_one_audience(many, config.audiences)
    return with_options(config, lambda options: command.options(base=options)), env


def _save(made: Planned, config: Config, out: Path) -> str:
    """Save plans in the order of the config, and return how many there are."""
    order = [(one.label, target) for one in config.audiences for target in one.targets or (None,)]
    places = sorted(made.places, key=lambda one: order.index((one.label, one.target)))
    save_plan(PlanSet(config=config.path.absolute(), places=tuple(places)), out)
    count = pluralize(len(order), "plan")
    return count if len(places) == len(order) else f"{len(places):,} of {count}"


async def apply_config(
    command: ApplyCommand, many: ManyOptions, saved: PlanSet, context: Context
) -> ExitCode:
    """Carry out the plans of a config. Those that are stale or fail do not stop the others.

    Args:
        command: The options of the command.
        many: The audiences.
        saved: The plans.
        context: Prints the report.
    """
    report = RunReport(context=context, command="apply", detailed=command.running.detailed_exitcode)

    async def work() -> ExitCode:
        path = command.place.config or saved.config
        with command_context(config=path):
            places = _selected(saved, many, command.place.target)
            config, env = await in_thread(lambda: _load_places(path, places, command, many))
            planned = places[0].plan.state
            state = command.state.state or (default_state_path() if planned is None else to_location(planned))
            await in_thread(lambda: report.begin(config, state, sends=True))
            run = ConfigRun(config=config, state=state, env=env, jobs=many.jobs or config.jobs, report=report)
            plans = {label: [one.plan for one in group] for label, group in _by_audience(places)}
            await run.do(Applied(plans))
            return report.write()

    return await print_report(report, work)


def _by_audience(places: Sequence[PlannedPlace]) -> list[tuple[str, list[PlannedPlace]]]:
    """Return the places of each audience."""
    return [(label, list(group)) for label, group in itertools.groupby(places, lambda one: one.label)]


def _selected(saved: PlanSet, many: ManyOptions, target: str | None) -> list[PlannedPlace]:
    """Return the places that the options take."""
    targets = [] if target is None else [target]
    places = [
        one
        for one in saved.places
        if matches(one.label, many.only) and (target is None or matches(one.target or "", targets))
    ]
    if not places:
        msg = "The file has no plan of such an audience, app or project. Nothing was sent."
        raise InvalidInputError(msg if saved.places else "The file has no plan. Plan again.")
    return places


def _load_places(
    path: Path, places: Sequence[PlannedPlace], command: ApplyCommand, many: ManyOptions
) -> tuple[Config, Mapping[str, str]]:
    """Return the config with the audiences, sources and options of the plans."""
    env = variables(command.target.env_file)
    labels, targets = {one.label for one in places}, {one.target for one in places if one.target is not None}
    config = load_config(path, env=env, only=labels, targets=targets)
    for one in places:
        if one.target is not None and one.target not in config.targets:
            msg = f"{path}: Audience {one.label!r} no longer goes to {one.target!r}. Plan again."
            raise InvalidInputError(msg)
    audiences = [_audience(group, command) for _, group in _by_audience(places)]
    if command.allowed.is_given:
        check_one_audience(many, audiences)
    return attrs.evolve(config, audiences=tuple(audiences)), env


def _audience(places: Sequence[PlannedPlace], command: ApplyCommand) -> AudienceConfig:
    """Return the audience of plans."""
    plan = places[0].plan
    if plan.source is None:
        msg = f"The plan of audience {places[0].label!r} keeps no source. Plan again."
        raise InvalidInputError(msg)
    return AudienceConfig(
        label=places[0].label,
        name=plan.audience,
        source=plan.source,
        options=command.options(base=plan.options),
        targets=tuple(one.target for one in places if one.target is not None),
    )
