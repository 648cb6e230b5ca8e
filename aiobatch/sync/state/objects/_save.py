"""Saving of an audience of the open state to a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import orjson

from .._chunks import Chunk
from .._run_changes import runs_with_changes
from .._schema import intended_table, members_table, refused_table, run_changes_table
from .._state import AudienceRecord, State
from .._targets import shown_name
from ..partitions._intended import has_intended
from . import _parquet
from ._head import FORMAT, Head, MemberFile
from ._layout import Place
from ._run_log import RunLog
from ._store import ObjectStore
from ._tables import digests_of, history_of, last_seen_of, source_rows_of

# The share of the base from which deltas are no longer worth their files.
_DELTA_SHARE: Final = 0.25
_REFUSED_MARK: Final = "SELECT count(*), max(noted)::VARCHAR FROM {refused}"
# A run that adds some has a higher number than those before.
_INTENDED_MARK: Final = "SELECT count(*), max(run) FROM {intended}"

touched_table: Final = "temp.touched_{}".format


@attrs.frozen
class Saver:
    """Saves audiences.

    Attributes:
        state: The open state.
        store: The store.
        scratch: A private directory.
    """

    state: State
    store: ObjectStore
    scratch: Path

    def save_plan(self, log: RunLog, chunks: Sequence[Chunk], size: int, row: dict[str, Any]) -> None:
        """Upload the changes of a run, then its plan.

        Args:
            log: The objects of the run.
            chunks: Its chunks.
            size: Actions of a chunk at most.
            row: What the plan contains besides.

        Raises:
            StateError: They could not be written.
        """
        ranges = [[one.n, one.first, one.past] for one in chunks]
        changes = self._save_changes(log, chunks, size)
        log.create_plan(row | {"chunk_size": size, "chunks": ranges, "changes": changes})

    def _save_changes(self, log: RunLog, chunks: Sequence[Chunk], size: int) -> list[str]:
        """Upload the changes of a run, each file while the next one is written. Return their paths."""
        uploads = dict[str, Future[None]]()
        with ExitStack() as files, ThreadPoolExecutor(1, "aiobatch-upload") as pool:
            for portion in _parquet.portions(list(chunks)):
                path = log.place.run(log.run).new_changes()
                file = files.enter_context(self._file(path))
                _parquet.write_changes(self.state, log.run, portion, size, file)
                for upload in uploads.values():
                    upload.result()  # no more than one file waits
                uploads[path] = pool.submit(self._upload_once, path, file)
        for upload in uploads.values():
            upload.result()
        return list(uploads)

    def _upload_once(self, path: str, file: Path) -> None:
        """Upload a file, and delete it."""
        self.store.upload(path, file)
        file.unlink()

    def members(self, place: Place, head: Head, record: AudienceRecord, run: int, *, whole: bool) -> Head:
        """Upload what changed of the members, and return the head that names it.

        Args:
            place: The audience.
            head: The last head.
            record: The audience as it is now.
            run: The run that changed it.
            whole: Whether all members may have changed. Otherwise those of the table of touched IDs.

        Raises:
            StateError: It could not be written.
        """
        members, touched = members_table(record.key), touched_table(record.key)
        if head.base is not None and not whole:
            (rows,) = self.state.row("SELECT count(*) FROM {touched}", touched=touched)
            if rows + sum(file.rows for file in head.deltas) <= _DELTA_SHARE * head.base.rows:
                tables = {"members": members, "touched": touched, "run_changes": run_changes_table(run)}
                delta = self._upload(place, record, run, "delta", _parquet.DELTA, **tables)
                deltas, undo = (*head.deltas, *delta), (*head.undo, *delta)
                return attrs.evolve(head, deltas=deltas, undo=undo, count=record.members)
        base = self._upload(place, record, run, "base", _parquet.MEMBERS, members=members)
        return attrs.evolve(head, base=next(iter(base), None), deltas=(), count=record.members)

    def undo(self, place: Place, head: Head, record: AudienceRecord) -> Head:
        """Upload what new runs changed, and return the head that names it.

        Raises:
            StateError: It could not be written.
        """
        retained = runs_with_changes(self.state, record.key)
        files = {file.run: file for file in head.undo if file.run in retained}
        for run in retained:
            if run not in files:
                changes = run_changes_table(run)
                for file in self._upload(place, record, run, "undo", _parquet.UNDO, run_changes=changes):
                    files[run] = file
        return attrs.evolve(head, undo=tuple(file for _, file in sorted(files.items())))

    def refused_mark(self, key: str) -> tuple[Any, ...] | None:
        """Return what changes when the refused IDs change. None if there are none."""
        refused = refused_table(key)
        if not self.state.has_table(refused):
            return None
        mark = self.state.row(_REFUSED_MARK, refused=refused)
        return mark if mark[0] else None

    def refused(self, place: Place, head: Head, record: AudienceRecord, run: int) -> Head:
        """Upload the refused IDs, and return the head that names them.

        Raises:
            StateError: They could not be written.
        """
        if self.refused_mark(record.key) is None:
            return attrs.evolve(head, refused=None)
        refused = refused_table(record.key)
        (file,) = self._upload(place, record, run, "refused", _parquet.REFUSED, refused=refused)
        return attrs.evolve(head, refused=file)

    def intended_mark(self, key: str) -> tuple[Any, ...] | None:
        """Return what changes when the intended changes do. None if there are none."""
        if not has_intended(self.state, key):
            return None
        return self.state.row(_INTENDED_MARK, intended=intended_table(key))

    def intended(self, place: Place, head: Head, record: AudienceRecord, run: int) -> Head:
        """Upload the intended changes, and return the head that names them.

        Raises:
            StateError: They could not be written.
        """
        if self.intended_mark(record.key) is None:
            return attrs.evolve(head, intended=None)
        intended = intended_table(record.key)
        (file,) = self._upload(place, record, run, "intended", _parquet.INTENDED, intended=intended)
        return attrs.evolve(head, intended=file)

    def tables(self, head: Head, record: AudienceRecord, epoch: int) -> Head:
        """Return the head with the rows of the small tables."""
        state, history = self.state, history_of(self.state, record.key)
        return attrs.evolve(
            head,
            epoch=epoch,
            target=shown_name(state, record.target_digest),
            generation=record.generation,
            known=record.known,
            contract=record.id_rules,
            open_run=record.open_run,
            history=history,
            settled_rows=source_rows_of(state, history),
            last_seen=last_seen_of(state, record.key),
            digests=digests_of(state, record.key),
        )

    def report(self, place: Place, head: Head) -> None:
        """Upload the report of the latest run.

        Raises:
            StateError: It could not be written.
        """
        self._report(place, head.history[0], head.settled_rows)

    def reports(self, place: Place) -> None:
        """Upload the reports of all settled runs.

        Raises:
            StateError: One could not be written.
        """
        history = history_of(self.state, place.key, all_runs=True)
        rows = source_rows_of(self.state, history)
        for row in history:
            if row["settled"]:
                self._report(place, row, rows)

    def _report(self, place: Place, row: Mapping[str, Any], source_rows: Sequence[Mapping[str, Any]]) -> None:
        path = place.run(row["run"]).report
        sources = [one for one in source_rows if one["run"] == row["run"]]
        document = {"format": FORMAT, "run": row, "source": next(iter(sources), None)}
        with self._file(path) as file:
            file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
            self.store.upload(path, file)

    def _upload(
        self, place: Place, record: AudienceRecord, run: int, kind: str, query: str, **tables: str
    ) -> list[MemberFile]:
        """Upload the rows of a query. Return the file, or nothing if there are none."""
        path = place.new_members(record.generation, kind)
        with self._file(path) as file:
            rows = _parquet.write(self.state, query, file, **tables)
            if not rows:
                return []
            self.store.upload(path, file)
        return [MemberFile(path=path, rows=rows, run=run)]

    @contextmanager
    def _file(self, path: str) -> Iterator[Path]:
        """Return a private file for an object, and delete it at the end."""
        file = self.scratch / path.rsplit("/", 1)[-1]
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)
