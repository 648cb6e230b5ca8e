"""The object_state scenario: a first load with its state as objects in a directory, and with a state file."""

from __future__ import annotations

import shutil
from typing import Final

import attrs

from ..contenders import aiobatch_sync
from ..measure.job import run_as_job
from ..measure.processes import Measures
from ..results.rows import Baseline, Row, Target, column, make_row
from ..servers.sync_stub import running_sync_stub
from ..workload.id_files import ids_file
from .sync import new_state

_LOCAL: Final = "with a state file"
_MOST: Final = 1.3
_TEN_MILLION: Final = 10_000_000


@attrs.frozen(kw_only=True)
class ObjectState:
    """A first load, of which the state is objects in a directory.

    Attributes:
        ids: The number of IDs.
    """

    rounds: int = 1
    ids: int = _TEN_MILLION

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds and CPU seconds of both states."""
        objects: list[Measures] = []
        local: list[Measures] = []
        for _ in range(rounds):  # in turns, so that other load on the machine meets both
            objects.append(self._measure(name, is_local=False))
            local.append(self._measure(name, is_local=True))
        # With fewer IDs, the time to start decides.
        target = Target(sign="<=", bound=_MOST, of="ratio") if self.ids >= _TEN_MILLION else None
        what = f"{self.ids:,} IDs for the first time, state at file://"
        rows = []
        for key, unit, bound in (("seconds", "seconds", target), ("cpu", "the client's CPU, seconds", None)):
            baseline = Baseline(name=_LOCAL, values=column(local, key))
            rows.append(make_row(name, f"{what}, {unit}", column(objects, key), baseline, bound))
        return rows

    def _measure(self, name: str, *, is_local: bool) -> Measures:
        state = new_state(name)
        place = str(state) if is_local else f"file://{state.parent}/objects"
        with running_sync_stub() as url:
            arguments = {"source": str(ids_file(0, self.ids)), "state": place, "data": str(state.parent)}
            measures = run_as_job(aiobatch_sync.sync, url=url, order={}, **arguments)
        shutil.rmtree(state.parent)
        return measures
