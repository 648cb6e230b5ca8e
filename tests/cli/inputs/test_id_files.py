from __future__ import annotations

import asyncio
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch import InvalidInputError
from aiobatch.cli._arguments import STDIN, decode_stdin_dash, encode_stdin_dash
from aiobatch.cli._signals import in_thread
from aiobatch.cli.inputs._id_files import IdFile, read_words


@given(
    ids=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9))
)
def test_any_ids_survive_a_csv(ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any ids that a CSV holds are read as they were written, in order, and counted alike."""
    path = tmp_path_factory.mktemp("ids") / "ids"
    rows = ('"{}",x\n'.format(value.replace('"', '""')) for value in ids)
    path.write_text("id,other\n" + "".join(rows), encoding="utf-8")

    async def read() -> tuple[list[str], int | None]:
        source = IdFile(str(path), "id")
        return [value async for value in source.ids()], await source.check()

    assert asyncio.run(read()) == (ids, len(ids))


async def test_a_large_file_takes_constant_memory(tmp_path: Path) -> None:
    """Reading holds a block of ids and no more, whatever the file's size."""
    path = tmp_path / "ids"
    with path.open("w") as file:
        file.writelines(f"user-{number:0200d}\n" for number in range(60_000))
    tracemalloc.start()
    count = 0
    async for _ in IdFile(str(path)).ids():
        count += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 9_000_000


async def test_a_header_without_end_names_no_column(tmp_path: Path) -> None:
    """A first line whose cell is longer than any is no header, and an error as such."""
    path = tmp_path / "ids"
    path.write_text("x" * 200_000 + "\n1\n")
    with pytest.raises(InvalidInputError, match="names no column 'id'"):
        await IdFile(str(path), "id").check()


@pytest.mark.parametrize("word", ["-", "x", "--", "-x"])
def test_dashes_come_back(word: str) -> None:
    """What stands for a dash while the arguments are parsed is a dash again where it was text."""
    assert [decode_stdin_dash(hidden) for hidden in encode_stdin_dash([word])] == [word]


async def test_words_are_parsed_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Words of the command line and of standard input are parsed in their order."""
    path = tmp_path / "words"
    path.write_text("2 3\n\n4\n")
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert await read_words(["1", STDIN, "5"], int) == [1, 2, 3, 4, 5]


async def test_a_closed_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard input says so."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InvalidInputError, match="standard input is closed"):
        await read_words([STDIN], str)


def _readers() -> set[threading.Thread]:
    """Return the threads that read for somebody."""
    return {thread for thread in threading.enumerate() if thread.name == "aiobatch-reader"}


async def test_nobody_waits_for_a_thread_that_is_left() -> None:
    """A thread whose caller was cancelled ends by itself, and what it brings is dropped."""
    gate, before = threading.Event(), _readers()
    task = asyncio.create_task(in_thread(gate.wait))
    await asyncio.sleep(0)
    (thread,) = _readers() - before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)


def test_a_thread_outlives_its_loop() -> None:
    """A thread that ends after its event loop was closed ends quietly."""
    gate, before = threading.Event(), _readers()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(gate.wait), 0.01)

    asyncio.run(leave())
    (thread,) = _readers() - before
    gate.set()
    thread.join()


async def test_a_threads_error_is_raised(tmp_path: Path) -> None:
    """What a thread raises is raised where it is awaited."""
    with pytest.raises(FileNotFoundError):
        await in_thread((tmp_path / "missing").stat)
