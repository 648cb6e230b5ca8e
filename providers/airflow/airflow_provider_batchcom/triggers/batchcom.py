"""The trigger that waits for indexing tokens in the triggerer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from .._update import outcomes_of
from ..hooks.batchcom import BatchcomHook

# The time for the last polls, in seconds, if the triggerer starts after the deadline.
_LAST_POLLS: Final = 1.0


class BatchcomTokensTrigger(BaseTrigger):
    """Waits until tokens are settled, and yields one event with the number of tokens by outcome.

    It needs nothing but its arguments, so another triggerer can start it again at any time. Killing the task
    does not take back what Batch has accepted, so there is nothing to do `on_kill`.

    Attributes:
        tokens: Texts of indexing tokens, `str(token)`.
        deadline: When the wait ends, in seconds since the epoch.
        batchcom_conn_id: The ID of the connection.
        carry: JSON values that the event repeats. They survive where Airflow drops the arguments of `defer`.
    """

    tokens: list[str]
    deadline: float
    batchcom_conn_id: str
    carry: dict[str, Any]

    def __init__(
        self,
        tokens: Sequence[str],
        deadline: float,
        batchcom_conn_id: str = BatchcomHook.default_conn_name,
        carry: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.tokens = [str(token) for token in tokens]
        self.deadline = deadline
        self.batchcom_conn_id = batchcom_conn_id
        self.carry = dict(carry or {})

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the arguments, for the metadata database."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        names = ("tokens", "deadline", "batchcom_conn_id", "carry")
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield an event of `outcomes`, the first `error`, `deadline` and `carry`."""
        # The deadline is a time of day: a triggerer that starts again must not wait longer for it.
        left = max(self.deadline - time.time(), _LAST_POLLS)
        async with await BatchcomHook(self.batchcom_conn_id).aget_client() as client:
            ended = await outcomes_of(client, self.tokens, left)
        payload = {**ended, "deadline": self.deadline, "carry": self.carry}
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # as above
