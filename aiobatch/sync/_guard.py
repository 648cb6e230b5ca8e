"""The guard: stops a plan that would empty an audience because its source is broken."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ._errors import GuardError
from ._option_fields import FLAG, PERCENT, SHARE, documented, option, optional, whole_number


@documented
@attrs.frozen(kw_only=True)
class GuardPolicy:
    """Limits on the changes of every run."""

    max_removals_percent: float | None = option(
        "Refuse a run that removes a larger share of the members.",
        default=30.0,
        check=optional(PERCENT),
        unit="percent",
        group="guard",
    )
    max_removals: int | None = option(
        "Refuse a run that removes more members than this.",
        default=None,
        check=optional(whole_number(0)),
        unit="members",
        group="guard",
    )
    max_additions_percent: float | None = option(
        "Refuse a run that adds more than this share of the members.",
        default=None,
        check=optional(SHARE),
        unit="percent",
        group="guard",
    )
    small_audience: int = option(
        "Exempt audiences of fewer members from the percentages.",
        default=100,
        check=whole_number(0),
        unit="members",
        group="guard",
    )


@documented
@attrs.frozen(kw_only=True)
class Overrides:
    """Exceptions from the guard for one run."""

    allow_removals: int | None = option(
        "Allow this run to remove up to this many members.",
        default=None,
        check=optional(whole_number(0)),
        unit="members",
        group="overrides",
        tables=(),
    )
    allow_additions: int | None = option(
        "Allow this run to add up to this many members.",
        default=None,
        check=optional(whole_number(0)),
        unit="members",
        group="overrides",
        tables=(),
    )
    allow_empty: bool = option(
        "Allow this run to read an empty source.", default=False, check=FLAG, group="overrides", tables=()
    )


@attrs.frozen(kw_only=True)
class GuardDecision:
    """The guard's decision on a plan.

    Attributes:
        reasons: Why it refuses the plan, one sentence each. Empty if it allows the plan.
        options: Fields of `Overrides` that allow exactly this plan, with their values.
        removals: Members that the plan removes.
        additions: IDs that the plan adds.
        members: Members before. For a replace, also those that Batch counts and the state does not record.
    """

    reasons: tuple[str, ...] = ()
    options: Mapping[str, bool | int | str] = attrs.field(factory=dict)
    removals: int = 0
    additions: int = 0
    members: int = 0

    @property
    def allowed(self) -> bool:
        """Whether the plan may be applied."""
        return not self.reasons

    def __str__(self) -> str:
        return "allowed" if self.allowed else f"refused: {'; '.join(self.reasons)}"


def evaluate(  # noqa: PLR0913 - the numbers of a plan, by keyword
    policy: GuardPolicy,
    overrides: Overrides,
    *,
    staged: int | None,
    removals: int,
    additions: int = 0,
    members: int,
    is_counted: bool = True,
) -> GuardDecision:
    """Return the decision on a plan by its numbers.

    Args:
        policy: The limits of every run.
        overrides: The exceptions of this run.
        staged: IDs of the source. None if there is no source, as for a rollback.
        removals: Members that the plan removes.
        additions: IDs that the plan adds.
        members: Members before.
        is_counted: Whether *removals* includes all members that the plan may remove.
    """
    reasons: list[str] = []
    options: dict[str, bool | int | str] = {}
    if staged == 0 and not overrides.allow_empty:
        reasons.append("the source is empty")
        options["allow_empty"] = True
    if (reason := _too_many(policy, overrides.allow_removals, removals, members)) is not None:
        reasons.append(reason)
        options["allow_removals"] = removals
    elif not is_counted and overrides.allow_removals is None:
        reasons.append("Batch returns no count of the members, so it is unknown how many would be removed")
        options["allow_removals"] = max(removals, members)
    if (reason := _too_many_additions(policy, overrides.allow_additions, additions, members)) is not None:
        reasons.append(reason)
        options["allow_additions"] = additions
    return GuardDecision(
        reasons=tuple(reasons), options=options, removals=removals, additions=additions, members=members
    )


def enforce(decision: GuardDecision, *, audience: str, lint: str = "") -> None:
    """Raise GuardError if the guard refused a plan.

    Args:
        decision: The guard's decision.
        audience: The audience's name.
        lint: How many IDs of the source match no user, in words.

    Raises:
        GuardError: The guard refused it.
    """
    if not decision.allowed:
        raise GuardError(
            audience=audience,
            reasons=decision.reasons,
            options=decision.options,
            removals=decision.removals,
            additions=decision.additions,
            members=decision.members,
            lint=lint,
        )


def _too_many_additions(policy: GuardPolicy, allowed: int | None, additions: int, members: int) -> str | None:
    percent = policy.max_additions_percent
    if allowed is not None:
        if additions <= allowed:
            return None
        return f"{additions:,} additions are more than the {allowed:,} that this run allows"
    if percent is None or members < max(policy.small_audience, 1) or additions * 100 <= percent * members:
        return None
    share = additions * 100 / members
    return (
        f"{additions:,} additions are {share:.1f} % of {members:,} members, above the limit of {percent:g} %"
    )


def _too_many(policy: GuardPolicy, allowed: int | None, removals: int, members: int) -> str | None:
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
