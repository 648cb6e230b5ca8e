"""Every remedy that a message prints, run verbatim: it does what was intended, or changes nothing."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Callable

import attrs
import pytest

from aiobatch import AudienceClient, Project
from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox
from aiobatch.sync import default_state_path
from aiobatch.sync.run._drift_check import removal_of_unknown

from ..helpers.sweep import examples
from .conftest import Result, Run
from .reports import users, write

pytestmark = pytest.mark.usefixtures("workdir")

BASE, FULL = users(range(150)), users(range(10, 160))
# What each mode does with its source: the members that it may add and remove.
SOURCES = {"mirror": FULL, "replace": FULL, "add": users(range(145, 155)), "remove": users(range(5))}


def _recreate(sandbox: Sandbox, *, create: bool = True) -> None:
    """Delete the audience and create it again, as a program on another machine would."""

    async def run() -> None:
        async with AudienceClient(Project.from_env()) as client:
            token = await client.delete("vip")
            assert token is not None
            await client.await_applied(token)
            if create:
                await asyncio.sleep(1.1)  # a creation time is in whole seconds
                token = await client.create("vip")
                assert token is not None
                await client.await_applied(token)

    asyncio.run(run())


SITUATIONS: dict[str, Callable[[Sandbox], None]] = {
    "extra": lambda sandbox: sandbox.write_behind_back("vip", add=["stranger"]),
    "fewer": lambda sandbox: sandbox.write_behind_back("vip", remove=users(range(3))),
    "emptied": lambda sandbox: sandbox.replace_behind_back("vip", []),
    "unknown": lambda _: default_state_path().unlink(),
    "swapped": lambda sandbox: sandbox.write_behind_back("vip", add=["stranger"], remove=["u3"]),
    "recreated": _recreate,
    "deleted": lambda sandbox: _recreate(sandbox, create=False),
    "as recorded": lambda _: None,
}


def _commands(result: Result, words: list[str]) -> list[list[str]]:
    """Return the commands that a message names, and the same command with the options that it names."""
    text = result.out + result.err
    found = [shlex.split(one) for one in re.findall(r"`aiobatch ([^`]+)`", text)]
    options = re.findall(r"To allow it once, pass ([^.]+)\.", text)
    return found + [[*words, *shlex.split(one)] for one in options]


@attrs.frozen
class _Audience:
    """The audience, and what may happen to it."""

    run: Run
    sandbox: Sandbox
    mode: str

    def members(self) -> set[str]:
        """Return the members. None exist if it was deleted."""
        names = {audience.name for audience in self.sandbox.audiences()}
        return set(self.sandbox.members("vip")) if "vip" in names else set()

    def check(self, before: set[str], words: list[str]) -> Result:
        """Run a command. Nothing happens that the user did not intend."""
        result, after = self.run(*words), self.members()
        source = set(SOURCES[self.mode])
        added, removed = after - before, before - after
        if self.mode in {"mirror", "replace"}:
            assert added <= source, words
            assert not removed & source, words
        else:
            assert added <= (source if self.mode == "add" else set()), words
            assert removed <= (source if self.mode == "remove" else set()), words
        return result

    def follow(self, words: list[str]) -> Result:
        """Run a command, the commands that its messages name, and those of their messages."""
        seen: set[str] = set()
        result = self.check(self.members(), words)
        first, left = result, _commands(result, words)
        while left:
            command = left.pop(0)
            if (text := shlex.join(command)) not in seen:
                seen.add(text)
                assert len(seen) < 6, seen
                result = self.check(self.members(), command)
                suggested = _commands(result, command)
                assert command not in suggested, f"{text} suggests itself"
                left += suggested
        return first


@pytest.mark.sample(4)
@pytest.mark.parametrize("mode", SOURCES)
@pytest.mark.parametrize("situation", list(SITUATIONS)[: examples(4, len(SITUATIONS))])
def test_remedies_do_what_was_intended(situation: str, mode: str, run: Run, sandbox: Sandbox) -> None:
    """Whatever happened to an audience, no printed command makes it worse, and following them ends."""
    assert run("sync", "vip", write(BASE, "base.csv"), "--create").code == ExitCode.DONE
    SITUATIONS[situation](sandbox)
    audience = _Audience(run, sandbox, mode)
    sync = ["sync", "vip", write(SOURCES[mode], f"{mode}.csv"), "--mode", mode]
    audience.follow(["verify", "vip"])
    audience.follow([*sync, "--strict"])
    audience.follow(["plan", *sync[1:]])
    audience.follow(sync)


def test_circle_of_advice_ends(run: Run, sandbox: Sandbox) -> None:
    """From a mismatch, sync leads to resync, that to replace, and then all is well."""
    run("sync", "vip", write(BASE, "users.csv"), "--create")
    sandbox.write_behind_back("vip", add=["stranger"])
    words = ["sync", "vip", "users.csv"]
    for expected in ("resync vip users.csv", "sync vip users.csv --mode replace"):
        (words,) = _commands(run(*words), words)
        assert shlex.join(words) == expected
    assert run(*words).code == ExitCode.DONE
    assert set(sandbox.members("vip")) == set(BASE)
    assert _commands(run("sync", "vip", "users.csv", "--strict"), words) == []


def test_sync_after_a_resync_does_not_suggest_it_again(run: Run, sandbox: Sandbox) -> None:
    """A resync that could not remove members is no remedy for them."""
    run("sync", "vip", write(BASE, "users.csv"), "--create")
    sandbox.write_behind_back("vip", add=["stranger"])
    run("resync", "vip", "users.csv")
    words = ["sync", "vip", "users.csv"]
    assert _commands(run(*words), words) == [["sync", "vip", "users.csv", "--mode", "replace"]]


def test_unknown_members_of_a_large_audience_have_no_single_remedy() -> None:
    """More members than one call takes cannot be replaced, so the text explains what to do instead."""
    text, remedy = removal_of_unknown("vip", 10_001)
    assert remedy is None
    assert "delete the audience" in text
    assert removal_of_unknown("vip", 0)[1] is None
