"""The guard: stops a plan that would empty an audience because its source is broken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ..errors import InvalidInputError
from ._errors import GuardError


def _check_percent(_self: object, _field: object, value: float | None) -> None:
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 100:  # noqa: PLR2004  # per cent; refuses NaN too
        msg = f"max_removals_percent must be 0 to 100, or None for no such limit; not {value!r}"
        raise InvalidInputError(msg)


def _check_count(_self: object, field: attrs.Attribute[Any], value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        msg = f"{field.name} must be a whole number of at least 0, not {value!r}"
        raise InvalidInputError(msg)


def check_flag(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    """Check a flag: a text such as "false", out of an environment variable, would count as True."""
    if not isinstance(value, bool):
        msg = f"{field.name} must be True or False, not {type(value).__name__}"
        raise InvalidInputError(msg)


@attrs.frozen(kw_only=True)
class GuardPolicy:
    """What a plan may do without being asked twice.

    Attributes:
        max_removals_percent: Removals at most, per cent of the members before; None for no such limit.
        max_removals: Removals at most; None for no such limit.
        small_audience: Audiences with fewer members than this are exempt from the percentage.
    """

    max_removals_percent: float | None = attrs.field(default=30.0, validator=_check_percent)
    max_removals: int | None = attrs.field(default=None, validator=_check_count)
    small_audience: int = attrs.field(default=100, validator=_check_count)


@attrs.frozen(kw_only=True)
class Overrides:
    """What one run may do in spite of the guard.

    Attributes:
        allow_removals: Removals that this run may make; more are refused whatever the policy says.
        allow_empty: Whether an empty source is meant.
    """

    allow_removals: int | None = attrs.field(default=None, validator=_check_count)
    allow_empty: bool = attrs.field(default=False, validator=check_flag)


@attrs.frozen(kw_only=True)
class Verdict:
    """What the guard says of a plan.

    Attributes:
        reasons: Why it refuses, one sentence each; empty if it does not.
        options: Fields of `Overrides` that allow exactly this plan, with their values.
        removals: Members that the plan removes.
        members: Members before; of a replace, those that Batch counts and we do not know as well.
    """

    reasons: tuple[str, ...] = ()
    options: Mapping[str, bool | int | str] = attrs.field(factory=dict)
    removals: int = 0
    members: int = 0

    @property
    def allowed(self) -> bool:
        """Whether the plan may be carried out."""
        return not self.reasons

    def __str__(self) -> str:
        return "allowed" if self.allowed else f"refused: {'; '.join(self.reasons)}"


def judge(
    policy: GuardPolicy, overrides: Overrides, *, staged: int | None, removals: int, members: int
) -> Verdict:
    """Judge a plan by its numbers.

    Args:
        policy: What is allowed always.
        overrides: What is allowed this once.
        staged: Ids that the source gave; None where there is no source, as in a rollback.
        removals: Members that the plan removes.
        members: Members before.
    """
    reasons: list[str] = []
    options: dict[str, bool | int | str] = {}
    if staged == 0 and not overrides.allow_empty:
        reasons.append("the source is empty")
        options["allow_empty"] = True
    if (reason := _too_many(policy, overrides.allow_removals, removals, members)) is not None:
        reasons.append(reason)
        options["allow_removals"] = removals
    return Verdict(reasons=tuple(reasons), options=options, removals=removals, members=members)


def enforce(verdict: Verdict, *, audience: str) -> None:
    """Raise what a refusal means.

    Args:
        verdict: The guard's.
        audience: The audience's name.

    Raises:
        GuardError: The plan is refused.
    """
    if not verdict.allowed:
        raise GuardError(
            audience=audience,
            reasons=verdict.reasons,
            options=verdict.options,
            removals=verdict.removals,
            members=verdict.members,
        )


def _too_many(policy: GuardPolicy, allowed: int | None, removals: int, members: int) -> str | None:
    """Say why that many removals are too many; None if they are not."""
    if allowed is not None:
        if removals <= allowed:
            return None
        return f"{removals:,} removals are more than the {allowed:,} that this run allows"
    if policy.max_removals is not None and removals > policy.max_removals:
        return f"{removals:,} removals are more than the limit of {policy.max_removals:,}"
    percent = policy.max_removals_percent
    if percent is None or members < policy.small_audience or removals * 100 <= percent * members:
        return None
    share = removals * 100 / members
    return f"{removals:,} removals are {share:.1f} % of {members:,} members, above the limit of {percent:g} %"
