"""The sensor that waits for indexing tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from .._failures import as_airflow
from .._sync import MAX_TOKENS
from .._update import check_outcomes, settle_here
from ..hooks.batchcom import BatchcomHook
from ..operators.batchcom import default_deferrable
from ..triggers.batchcom import BatchcomTokensTrigger

# Seconds for the polls of one poke. They end earlier if all tokens are APPLIED.
_POKE = 5.0


class BatchcomTokensSensor(BaseSensorOperator):
    """Succeeds when all tokens are APPLIED, and fails if one was REPLACED.

    Args:
        tokens: Texts of indexing tokens, `str(token)`, such as another task's result.
        deferrable: Whether the triggerer waits. Default: Airflow's own.
        batchcom_conn_id: The ID of the connection.
        **kwargs: Arguments of `BaseSensorOperator`, such as `timeout` in seconds.
    """

    template_fields: Sequence[str] = ("tokens",)
    ui_color = "#e6edfa"

    def __init__(
        self,
        *,
        tokens: Iterable[str],
        deferrable: bool | None = None,
        batchcom_conn_id: str = BatchcomHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tokens = tokens
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.batchcom_conn_id = batchcom_conn_id

    def poke(self, context: Context) -> bool:
        """Return whether all tokens are APPLIED."""
        del context
        with as_airflow():
            event = settle_here(BatchcomHook(self.batchcom_conn_id), self._texts(), _POKE)
        check_outcomes(event, tolerate=("TIMED_OUT",))
        return "TIMED_OUT" not in event["outcomes"]

    def execute(self, context: Context) -> None:
        """Poke until all is APPLIED, or defer the wait."""
        if not self.deferrable:
            super().execute(context)
        elif self._texts():
            self._defer(0, time.time() + self.timeout)

    def complete(self, context: Context, event: Mapping[str, Any]) -> None:
        """Defer the wait for the next tokens, or end."""
        del context
        if "TIMED_OUT" in event["outcomes"]:
            msg = f"Not all tokens are APPLIED in time. {event['error'] or ''}".rstrip()
            raise AirflowSensorTimeout(msg)
        check_outcomes(event)
        if event["carry"]["done"] < len(self._texts()):
            self._defer(event["carry"]["done"], event["deadline"])

    def _defer(self, start: int, deadline: float) -> None:
        tokens = self._texts()[start : start + MAX_TOKENS]
        trigger = BatchcomTokensTrigger(
            tokens,
            deadline,
            batchcom_conn_id=self.batchcom_conn_id,
            carry={"done": start + len(tokens)},
        )
        self.defer(trigger=trigger, method_name="complete")

    def _texts(self) -> list[str]:
        """Return the tokens, each once, in their order."""
        if isinstance(self.tokens, str | bytes | Mapping) or not isinstance(self.tokens, Iterable):
            msg = f"tokens must be a list of texts, not {type(self.tokens).__name__}."
            raise AirflowFailException(msg)
        return list(dict.fromkeys(str(token) for token in self.tokens))
