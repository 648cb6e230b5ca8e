"""Operators that sync, plan and update audiences."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from airflow.sdk import Asset, BaseOperator, Context, conf
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from aiobatch import InvalidInputError
from aiobatch.sync import Source

from .._failures import as_airflow
from .._options import parse_options
from .._sql import read_members
from .._sync import Report, TaskSync, Wait
from .._update import check_outcomes, send_update, settle_here
from ..hooks.batchcom import BatchcomHook
from ..triggers.batchcom import BatchcomTokensTrigger

_TIMEOUT: Final = 3600.0
_CHANGES: Final = ("adds", "removes", "attribute_changes", "resends", "untracked_removals")


def default_deferrable() -> bool:
    """Return whether Airflow's configuration makes operators defer."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


class _AudienceOperator(BaseOperator):
    """An operator that reads a source for one audience, with the arguments of a plan and a sync."""

    template_fields: Sequence[str] = ("audience", "source", "sql", "mode", "state", "overrides")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "overrides": "json"}  # noqa: RUF012 - Airflow's own convention
    ui_color = "#e6edfa"

    def __init__(  # noqa: PLR0913 - the options of a task, by keyword
        self,
        *,
        audience: str,
        state: str | os.PathLike[str],
        source: str | os.PathLike[str] | None = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        mode: str = "mirror",
        create: bool = False,
        options: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        timeout: float = _TIMEOUT,
        batchcom_conn_id: str = BatchcomHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audience = audience
        self.state = state
        self.source = source
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.mode = mode
        self.create = create
        self.options = options
        self.overrides = overrides
        self.timeout = timeout
        self.batchcom_conn_id = batchcom_conn_id
        self._task: TaskSync | None = None

    def on_kill(self) -> None:
        """End the run early. The next one continues from the journal."""
        if self._task is not None:
            self._task.stop()

    def _open(self) -> TaskSync:
        """Return the sync, after a check of the rendered arguments.

        Raises:
            InvalidInputError: An argument is invalid.
        """
        if not isinstance(self.state, str | os.PathLike) or not str(self.state).strip():
            msg = "state must be the path of a file or a URL."
            raise InvalidInputError(msg)
        chosen = parse_options(
            self.options, self.overrides, mode=self.mode, create=self.create, timeout=self.timeout
        )
        self._check_source()
        self._task = TaskSync(
            hook=BatchcomHook(self.batchcom_conn_id),
            audience=self.audience,
            state=os.fspath(self.state),
            source=lambda: self._source(chosen.reading),
            options=chosen.run,
        )
        return self._task

    def _check_source(self) -> None:
        if self.sql_conn_id is not None:
            if self.source is not None or not self.sql:
                msg = "sql_conn_id needs sql, and no source."
                raise InvalidInputError(msg)
        elif not isinstance(self.source, str | os.PathLike):
            # Airflow stores what it renders, so a list of IDs would be in its database.
            kind = "nothing" if self.source is None else type(self.source).__name__
            msg = f"source must be a path or a URL, not {kind}. For a database pass sql and sql_conn_id."
            raise InvalidInputError(msg)

    def _source(self, reading: Mapping[str, Any]) -> Source:
        """Return the source. Rows of a query are read once, so each reading runs the query."""
        if self.sql_conn_id is not None:
            return Source.of(read_members(self.sql_conn_id, self.sql or "", reading))
        source = Source.parse(os.fspath(self.source or ""), query=self.sql, **reading)
        if source.path is None:
            msg = "source contains a password, which Airflow would store and show. Pass sql and sql_conn_id."
            raise InvalidInputError(msg)
        return source


class BatchcomPlanAudienceOperator(_AudienceOperator):
    """Works out what a sync with the same arguments would do. Nothing is sent.

    The XCom is the report of the plan, with the guard's decision as `guard`: `allowed`, `reasons`, and the
    `overrides` that allow exactly this plan.
    """

    def execute(self, context: Context) -> Report:
        """Plan."""
        del context
        with as_airflow():
            task = self._open()
            report = task.run(task.plan)
        self.log.info("planned audience=%s %s", self.audience, _numbers(report))
        return report


class BatchcomSyncAudienceOperator(_AudienceOperator):
    """Brings an audience in line with a source, by sending only what differs.

    The task succeeds when, and only when, all changes are APPLIED. If it is killed or fails, its next try
    continues from the journal in the state. The XCom is the report of the run.

    Args:
        audience: The audience's name.
        state: The state: a URL that all workers reach, or the path of a file.
        source: A path or a URL, or the address of a database together with *sql*.
        sql: The query that selects the members.
        sql_conn_id: A connection of any type that has a DB-API hook. The query runs there.
        mode: `mirror`, `add`, `remove` or `replace`, and `resync` or `adopt` for repairs.
        create: Whether to create the audience if it does not exist.
        options: Options by their names in `aiobatch.toml`, such as `{"max_removals_percent": 10}`.
        overrides: Exceptions from the guard for one run, such as `{"allow_removals": 5000}`.
        deferrable: Whether the triggerer waits, so that no worker slot is held. Default: Airflow's own.
        timeout: Seconds until all must be APPLIED.
        skip_on_no_change: Whether a task that had nothing to send is skipped, with all that follows it.
        allow_local_state: Whether a deferrable task may use a state on a local disk. It may resume on another
            worker, so all workers must see that disk.
        batchcom_conn_id: The ID of the connection.
        **kwargs: Arguments of `BaseOperator`.
    """

    def __init__(
        self,
        *,
        deferrable: bool | None = None,
        skip_on_no_change: bool = False,
        allow_local_state: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.skip_on_no_change = skip_on_no_change
        self.allow_local_state = allow_local_state

    def execute(self, context: Context) -> Report:
        """Sync, or begin to, and defer the wait."""
        deadline = time.time() + self.timeout
        with as_airflow():
            task = self._open()
            if self.deferrable:
                self._check_state()
            step = task.run(task.begin if self.deferrable else task.sync)
        return self._continue(context, step, deadline)

    def resume(self, context: Context, event: Mapping[str, Any]) -> Report:
        """Send, after the wait for the create or for an earlier task."""
        check_outcomes(event, tolerate=("REPLACED", "FAILED"))  # the engine decides about these
        with as_airflow():
            task = self._open()
            step = task.run(task.send)
        return self._continue(context, step, event["deadline"])

    def complete(self, context: Context, event: Mapping[str, Any]) -> Report:
        """Settle the run, after the wait for its tokens."""
        check_outcomes(event, tolerate=("REPLACED", "FAILED"))  # as in resume
        report, deadline = event["carry"]["report"], event["deadline"]
        with as_airflow():
            task = self._open()
            ended = task.run(lambda client: task.finish(client, report, deadline))
        return self._finish(context, ended)

    def _check_state(self) -> None:
        if "://" not in os.fspath(self.state) and not self.allow_local_state:
            msg = (
                "A deferred task may resume on another worker, which does not see a local state. Pass a URL "
                "as state, or deferrable=False, or allow_local_state=True if all workers share the disk."
            )
            raise InvalidInputError(msg)

    def _continue(self, context: Context, step: Wait | Report, deadline: float) -> Report:
        if not isinstance(step, Wait):
            return self._finish(context, step)
        self.log.info("deferring audience=%s tokens=%s", self.audience, len(step.tokens))
        # All that matters is in the trigger: `dag.test` of Airflow 3.3 drops the arguments of a defer.
        trigger = BatchcomTokensTrigger(
            step.tokens,
            deadline,
            batchcom_conn_id=self.batchcom_conn_id,
            carry={} if step.report is None else {"report": step.report},
        )
        raise TaskDeferred(trigger=trigger, method_name="resume" if step.report is None else "complete")

    def _finish(self, context: Context, report: Report) -> Report:
        """Return the report of a run that is APPLIED, and add it to the events of the task's assets."""
        self.log.info("synced audience=%s %s", self.audience, _numbers(report))
        # What an earlier try or run has sent may be APPLIED only now, without changes of this run.
        is_first = context["ti"].try_number == 1 and report["settled_run"] is None
        if self.skip_on_no_change and is_first and not _changes(report):
            raise AirflowSkipException(f"Audience {self.audience!r} had nothing to change.")  # noqa: EM102, TRY003
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update(_asset_extra(report))
        return report


class BatchcomUpdateAudienceOperator(BaseOperator):
    """Adds and removes a few IDs, without a state and without a difference.

    Airflow stores the IDs that you pass in its database. For many IDs use `BatchcomSyncAudienceOperator` with
    the mode `add` or `remove`. The XCom has the number of tokens by outcome.

    Args:
        audience: The audience's name.
        add: IDs to add.
        remove: IDs to remove.
        deferrable: Whether the triggerer waits until all is APPLIED. Default: Airflow's own.
        timeout: Seconds until all must be APPLIED.
        batchcom_conn_id: The ID of the connection.
        **kwargs: Arguments of `BaseOperator`.
    """

    template_fields: Sequence[str] = ("audience", "add", "remove")
    ui_color = "#e6edfa"

    def __init__(
        self,
        *,
        audience: str,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        deferrable: bool | None = None,
        timeout: float = _TIMEOUT,
        batchcom_conn_id: str = BatchcomHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audience = audience
        self.add = add
        self.remove = remove
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.timeout = timeout
        self.batchcom_conn_id = batchcom_conn_id

    def execute(self, context: Context) -> Report:
        """Send the IDs, and wait or defer the wait."""
        deadline = time.time() + self.timeout
        hook = BatchcomHook(self.batchcom_conn_id)
        with as_airflow():
            tokens = send_update(hook, self.audience, add=self.add, remove=self.remove)
        if self.deferrable:
            self.defer(
                trigger=BatchcomTokensTrigger(tokens, deadline, batchcom_conn_id=self.batchcom_conn_id),
                method_name="complete",
            )
        with as_airflow():
            event = settle_here(hook, tokens, self.timeout)
        return self.complete(context, event)

    def complete(self, context: Context, event: Mapping[str, Any]) -> Report:
        """Return the outcomes, or fail unless all is APPLIED."""
        del context
        check_outcomes(event)
        return {"audience": self.audience, "outcomes": event["outcomes"]}


def _changes(report: Report) -> int:
    return sum(report[name] for name in _CHANGES)


def _numbers(report: Report) -> str:
    names = ("run", "outcome", "adds", "removes", "unchanged", "members_after")
    return " ".join(f"{name}={report[name]}" for name in names)


def _asset_extra(report: Report) -> dict[str, Any]:
    return {
        "audience": report["audience"],
        "run": report["run"],
        "members": report["members_after"],
        "adds": report["adds"],
        "removes": report["removes"],
    }


__all__ = [
    "BatchcomPlanAudienceOperator",
    "BatchcomSyncAudienceOperator",
    "BatchcomUpdateAudienceOperator",
]
