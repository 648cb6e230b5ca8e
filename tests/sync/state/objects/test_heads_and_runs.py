"""Heads, run numbers and transitions in a store, without DuckDB."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from aiobatch import IndexingToken, InvalidInputError
from aiobatch.sync import Attempt, StateError, StateUrl, read_attempts, record_attempts
from aiobatch.sync.state._chunks import ChunkState, ChunkTransition
from aiobatch.sync.state.objects._head import Head, HeadFile, MemberFile
from aiobatch.sync.state.objects._layout import Place
from aiobatch.sync.state.objects._notes import read_notes, write_note
from aiobatch.sync.state.objects._open_state import to_location
from aiobatch.sync.state.objects._root import create_root, open_root, read_root, take_number
from aiobatch.sync.state.objects._run_log import Entry, RunLog, fold
from aiobatch.sync.state.objects._store import ConflictError, StoredObject, Tag
from aiobatch.sync.state.objects.stores._memory import MemoryStore

PLACE = Place("0" * 16, "1" * 16)
HEAD = Head(epoch=1, state_id="s", scope=PLACE.scope, key=PLACE.key, name="vip", target="app")
TOKEN = IndexingToken(audience="vip", value="t1", operation="update")


def at(state: ChunkState, n: int = 0) -> ChunkTransition:
    """Return a transition of a chunk."""
    return ChunkTransition(n=n, state=state, token=TOKEN if state is ChunkState.SENT else None)


def states(entries: list[Entry]) -> list[ChunkState]:
    """Return the states of the only chunk after these entries."""
    return [one.state for one in fold([(0, 0, 10)], entries)[1]]


def test_head_moves_for_one_of_two_writers() -> None:
    """The second one of two writers that have read the same head stops."""
    store = MemoryStore()
    first, second = HeadFile(store, PLACE), HeadFile(store, PLACE)
    assert (first.read(), second.read()) == (None, None)
    first.commit(HEAD)
    with pytest.raises(StateError, match="another process wrote audience 'vip'") as caught:
        second.commit(HEAD)
    assert caught.value.reason == "moved"
    assert second.read() == first.head
    second.commit(attrs.evolve(HEAD, generation=1))
    with pytest.raises(StateError, match="another process wrote"):
        first.commit(HEAD)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "foreign"),
        (b"[]", "foreign"),
        (b'{"format": 2}', "unknown_version"),
        (b'{"format": 1}', "foreign"),
    ],
)
def test_head_of_another_program_is_refused(text: bytes, reason: str) -> None:
    """What is no head, or one of another format, is an error with its reason."""
    with pytest.raises(StateError) as caught:
        Head.from_json(text, location="memory://test")
    assert caught.value.reason == reason


def test_numbers_of_runs_are_unique() -> None:
    """Each number is taken once, and a copy continues after those of its original."""
    store = MemoryStore()
    assert read_root(store) is None
    with pytest.raises(StateError, match="is gone"):
        take_number(store)
    assert open_root(store) == open_root(store)
    assert [take_number(store), take_number(store), take_number(store, least=7)] == [1, 2, 8]
    with pytest.raises(StateError, match="another process creates it"):
        create_root(store, "s", 3)


class Contended(MemoryStore):
    """A store in which another process writes between each read and the write that follows."""

    def get(self, path: str) -> StoredObject | None:
        """Return the object before the other process writes it."""
        found = super().get(path)
        self._put(path, orjson.dumps({"format": 1, "state_id": "s", "run": 0}))
        return found


def test_contended_numbers_end_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that never gets a number fails, and one that loses the creation uses the other's state."""
    monkeypatch.setattr("aiobatch.sync.state.objects._root._PAUSE", 0.0)
    store = Contended()
    assert open_root(store) == "s"
    with pytest.raises(StateError, match="too many processes"):
        take_number(store)


def test_run_is_written_by_one_process() -> None:
    """A second plan, and a second transition of one epoch and number, are errors."""
    store = MemoryStore()
    log, other = RunLog(store, PLACE, 3), RunLog(store, PLACE, 3)
    with pytest.raises(StateError, match="the plan of run 3 is gone"):
        log.read_plan()
    log.create_plan({"chunks": [], "changes": []})
    log.append(Entry(epoch=1, transitions=[at(ChunkState.SENDING)]))
    with pytest.raises(StateError, match="writes run 3 too"):
        other.create_plan({})
    with pytest.raises(StateError, match="writes run 3 too"):
        other.append(Entry(epoch=1, transitions=[]))
    assert other.read_plan()["run"] == 3
    other.read()
    other.append(Entry(epoch=1, transitions=[at(ChunkState.SENT)], halves=[(1, 0, 5)]))
    assert [one.halves for one in log.read()] == [[], [(1, 0, 5)]]


def _places_in(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each value of a document."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*above, key)
        if isinstance(one, dict | list):
            yield from _places_in(one, *above, key)


def _read_all(store: MemoryStore) -> None:
    """Read every document as a run does, and write the head again."""
    root, file, log = read_root(store), HeadFile(store, PLACE), RunLog(store, PLACE, 3)
    head, plan, entries = file.read(), log.read_plan(), log.read()
    assert root is not None
    assert head is not None
    fold(plan["chunks"], entries)
    file.commit(head)
    take_number(store)


@pytest.mark.parametrize("name", ["STATE.json", "HEAD.json", "plan.json", "00000001-00000000.json"])
def test_documents_with_other_contents_are_refused(name: str) -> None:
    """Whatever is missing in a document or has another type, there is a StateError and no other error."""
    good, refused = MemoryStore(), 0
    open_root(good)
    file = MemberFile(path="members/g.parquet", rows=3, run=3)
    HeadFile(good, PLACE).commit(attrs.evolve(HEAD, base=file, deltas=(file,), history=({"run": 3},)))
    log = RunLog(good, PLACE, 3)
    log.create_plan({"epoch": 1, "chunk_size": 5, "chunks": [[0, 0, 5]], "changes": ["runs/3/c.parquet"]})
    log.append(Entry(epoch=1, transitions=[at(ChunkState.SENDING), at(ChunkState.SENT)], halves=[(1, 0, 5)]))
    _read_all(MemoryStore(objects=dict(good.objects)))
    (path,) = (path for path in good.objects if path.endswith(name))
    document = orjson.loads(good.objects[path].data)
    for keys, value in itertools.product(_places_in(document), (..., None, "x", [], {}, 10**30)):
        wrong = copy.deepcopy(document)
        *above, last = keys
        parent = functools.reduce(operator.getitem, above, wrong)
        if value is ...:
            del parent[last]
        else:
            parent[last] = value
        store = MemoryStore(objects=dict(good.objects))
        store.objects[path] = StoredObject(json.dumps(wrong).encode(), Tag("wrong"))
        try:
            _read_all(store)
        except StateError:
            refused += 1
    assert refused > 10


def test_transition_that_vanishes_while_it_is_read_is_an_error() -> None:
    """A reader without a lease may meet the end of a run."""

    class Vanishing(MemoryStore):
        def get(self, path: str) -> StoredObject | None:
            return None

    store = Vanishing()
    RunLog(store, PLACE, 3).append(Entry(epoch=1, transitions=[]))
    with pytest.raises(StateError, match="is gone while it is read"):
        RunLog(store, PLACE, 3).read()


def test_late_facts_of_an_earlier_epoch_do_not_break_the_replay() -> None:
    """The last state of the newest epoch counts, by the shortest legal way, with all sends."""
    sending, sent, applied = (
        at(state) for state in (ChunkState.SENDING, ChunkState.SENT, ChunkState.APPLIED)
    )
    old, new = Entry(epoch=1, transitions=[sending, sent, applied]), Entry(epoch=2, transitions=[sending])
    assert states([old]) == [ChunkState.SENDING, ChunkState.SENT, ChunkState.APPLIED]
    assert states([old, new]) == [ChunkState.SENDING, ChunkState.SENDING]
    assert states([new, Entry(epoch=3, transitions=[sent])]) == [ChunkState.SENDING, ChunkState.SENT]


def test_halves_of_two_holders_do_not_mix() -> None:
    """If two holders gave one number to two halves, the later split is undone: its chunk is sent again."""
    split = Entry(
        epoch=1, transitions=[at(ChunkState.SENDING), at(ChunkState.SPLIT)], halves=[(2, 0, 5), (3, 5, 10)]
    )
    late = attrs.evolve(
        split,
        epoch=2,
        transitions=[at(ChunkState.SENDING, 1), at(ChunkState.SPLIT, 1)],
        halves=[(2, 10, 15), (3, 15, 20)],
    )
    ranges, transitions = fold([(0, 0, 10), (1, 10, 20)], [split, late])
    assert ranges == [(0, 0, 10), (1, 10, 20), (2, 0, 5), (3, 5, 10)]
    assert transitions[-1] == at(ChunkState.SENDING, 1)


def test_notes_are_pruned_and_survive_a_race() -> None:
    """A place keeps its latest notes. One that was just written or deleted is left as it is."""
    store = MemoryStore()
    for name in ("1", "2", "3"):
        write_note(store, "vip", name, name.encode(), keep=2)
    write_note(store, "vip", "3", b"three", keep=2)
    assert list(read_notes(store)) == [b"2", b"three"]

    class Racing(MemoryStore):
        def get(self, path: str) -> StoredObject | None:
            return None

        def create(self, path: str, data: bytes) -> Tag:
            raise ConflictError(path)

    racing = Racing(objects=store.objects)
    write_note(racing, "vip", "4", b"4", keep=2)
    assert list(read_notes(racing)) == []


def test_attempt_that_cannot_be_recorded_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A note must not fail a run."""
    (tmp_path / "file").write_bytes(b"")
    record_attempts(StateUrl(f"file://{tmp_path}/file/state"), [Attempt(command="sync", audience="vip")])
    assert "attempt not recorded" in caplog.text
    url = StateUrl(f"file://{tmp_path}/state")
    (tmp_path / "state").mkdir()
    attempt = Attempt(command="sync", audience="vip")
    record_attempts(url, [attempt])
    assert read_attempts(url) == [attempt]


def test_url_is_not_a_path() -> None:
    """Path() makes one slash of two, and other schemes have no store."""
    assert to_location("s3://bucket/state") == StateUrl("s3://bucket/state")
    for wrong, text in (
        (Path("s3://b/x"), "must be a text if it is a URL"),
        ("hdfs://b/x", "hdfs://"),
        (5, "int"),
        ("s3://bucket/x?password=hunter2", "query"),
        (StateUrl("s3://me:hunter2@bucket/x"), "invalid"),
    ):
        with pytest.raises(InvalidInputError, match=text) as caught:
            to_location(wrong)
        assert "hunter2" not in str(caught.value)
