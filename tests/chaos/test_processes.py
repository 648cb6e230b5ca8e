from __future__ import annotations

import contextlib
import itertools
import random
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from aiobatch.cli._exit_codes import ExitCode

from .chaos_env import ChaosEnv, Output, ids, quick_sandbox, served

PART = "Processes"
EXACT = "at the end, the audience has exactly the source's members"


def _sync(chaos_env: ChaosEnv, source: Path, *more: str) -> list[str]:
    """Return the arguments of a sync."""
    return ["sync", "vip", str(source), "--create", "--state", str(chaos_env.state), *more]


@pytest.mark.chaos(
    part=PART,
    done="`aiobatch sync` is killed (-9) repeatedly, with 10 % each of 503, reset and lost requests",
    holds=f"{EXACT}. The state records exactly these members",
    short=False,
)
def test_repeatedly_killed_sync_ends_exact(chaos_env: ChaosEnv) -> None:
    """Whenever a run is killed, the next one settles it, with another source."""
    kills, draw = chaos_env.case.size(3, 100), random.Random(1)
    members = ids(chaos_env.case.size(60_000, 120_000))
    halves = members[: len(members) // 2], members[len(members) // 2 :]
    sources = [chaos_env.write(half, f"half-{n}.csv") for n, half in enumerate(halves)]
    faults = {"503": 0.1, "reset": 0.1, "lost": 0.1}
    killed = 0
    with served(quick_sandbox(indexing_delay=(0.05, 0.5), faults=faults)) as sandbox:
        for run in itertools.count():
            argv = _sync(chaos_env, sources[run % 2], "--allow-removals", str(len(members)))
            process = chaos_env.start(sandbox.url, *argv)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0.3, 3))
            process.kill()
            killed += chaos_env.finish(process).code == -signal.SIGKILL
            if killed == kills:
                break
        sandbox.clear_faults()
        for source, half in zip(sources, halves, strict=True):
            argv = _sync(chaos_env, source, "--allow-removals", str(len(members)))
            assert chaos_env.run(sandbox.url, *argv).code == ExitCode.DONE
            assert set(sandbox.members("vip")) == set(half)
        calls = sandbox.operation_counts["update"]
        assert chaos_env.run(sandbox.url, *argv).code == ExitCode.DONE
        assert sandbox.operation_counts["update"] == calls
        assert (
            chaos_env.run(sandbox.url, "verify", "vip", "--state", str(chaos_env.state)).code == ExitCode.DONE
        )
    chaos_env.case.add_fact(
        f"{killed} runs killed, {run + 1 - killed} succeeded between them, {calls:,} write calls, "
        "0 IDs lost or left over"
    )


@pytest.mark.chaos(
    part=PART,
    done="several processes sync one audience at once, each with another source",
    holds="one runs. The others end at once with exit code 12 and name the process that holds the lock",
    short=False,
)
def test_concurrent_syncs_of_one_audience_are_refused(chaos_env: ChaosEnv) -> None:
    """The second process is refused, and the state records the real members."""
    rounds, racers = chaos_env.case.size(1, 25), 4
    members = ids(12_000)
    sources = [chaos_env.write(members[n * 500 :], f"racer-{n}.csv") for n in range(racers)]
    codes = []
    with served(quick_sandbox(indexing_delay=(0.1, 0.3))) as sandbox:
        for _ in range(rounds):
            racing = [chaos_env.start(sandbox.url, *_sync(chaos_env, source)) for source in sources]
            outputs = [chaos_env.finish(process) for process in racing]
            codes += [output.code for output in outputs]
            assert {output.code for output in outputs} <= {ExitCode.DONE, ExitCode.LOCKED}
            assert ExitCode.DONE in {output.code for output in outputs}
            for output in outputs:
                if output.code == ExitCode.LOCKED:
                    assert re.search(r"locked by process \d+ of .*\(sync vip\)", output.err)
        assert chaos_env.run(sandbox.url, *_sync(chaos_env, sources[0])).code == ExitCode.DONE
        assert set(sandbox.members("vip")) == set(members)
    assert ExitCode.LOCKED in codes
    chaos_env.case.add_fact(
        f"{codes.count(ExitCode.DONE)} succeeded, {codes.count(ExitCode.LOCKED)} were refused"
    )


@attrs.frozen
class MemoryLimit:
    """A way to limit the memory of a process.

    Attributes:
        resource: The limited resource.
        sizes: Megabytes, in increasing order.
        under: Megabytes -> the command that runs another with this limit.
    """

    resource: str
    sizes: tuple[int, ...]
    under: Callable[[int], Sequence[str]]


@pytest.fixture
def memory_limit(chaos_env: ChaosEnv) -> Iterator[MemoryLimit]:
    """A control group in the full campaign if possible, else a limit of the address space."""
    with contextlib.ExitStack() as stack:

        def under(megabytes: int) -> Sequence[str]:
            group = stack.enter_context(_control_group(megabytes))
            return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]

        if chaos_env.case.full and _has_control_groups():
            yield MemoryLimit("memory", tuple(range(64, 1024, 32)), under)
        else:
            yield MemoryLimit("addresses", tuple(256 << n for n in range(10)), _limit_addresses)


def _limit_addresses(megabytes: int) -> Sequence[str]:
    """Return a command that runs another with a limited address space (RLIMIT_AS)."""
    return ["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(megabytes << 10)]


def _has_control_groups() -> bool:
    try:
        with _control_group(64):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _control_group(megabytes: int) -> Iterator[Path]:
    """Create a control group of version 1, or of version 2 if memory is delegated."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (new, "memory.max")
    group = Path(tempfile.mkdtemp(prefix="aiobatch-", dir=root))
    try:
        with (group / limit).open("r+", encoding="ascii") as file:  # which exists already
            file.write(str(megabytes << 20))
        yield group
    finally:
        group.rmdir()


# Exit codes of a process killed by the kernel, or aborted by a library without memory.
_KILLED = {-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, 127}


@pytest.mark.chaos(
    part=PART,
    done="the process has little memory, as in a small pod, then more and more until it succeeds",
    holds=f"each run succeeds, names the shortage or is killed by the kernel. The next run resumes. {EXACT}",
    short=False,
)
def test_little_memory_ends_exact(chaos_env: ChaosEnv, memory_limit: MemoryLimit) -> None:
    """A process with too little memory is killed, and one with more memory resumes its run."""
    members = ids(chaos_env.case.size(30_000, 3_000_000))
    first, second = (
        chaos_env.write(members[len(members) // 20 :], "first.csv"),
        chaos_env.write(members, "second.csv"),
    )
    codes: list[str] = []
    with served(quick_sandbox()) as sandbox:
        for source in (first, second) if chaos_env.case.full else (second,):
            for megabytes in memory_limit.sizes:
                argv = _sync(chaos_env, source, "--memory-limit", "128MB")
                output = chaos_env.run(sandbox.url, *argv, under=memory_limit.under(megabytes))
                codes.append(f"{megabytes:,} MB: {output.code}")
                if output.code == ExitCode.DONE:
                    break
                _check_lack(output)
        assert set(sandbox.members("vip")) == set(members)
    chaos_env.case.add_fact(
        f"{len(members):,} IDs, exit codes by size of {memory_limit.resource}: {', '.join(codes)}"
    )


def _check_lack(output: Output) -> None:
    """Check that a process was killed, or that its message names the shortage."""
    assert output.code in {ExitCode.FAILED, *_KILLED}, output.err
    assert not re.search(r"defect|internal error|\bbug\b", output.err), output.err
    if output.code == ExitCode.FAILED:
        assert re.search(r"^aiobatch: .*(memory|thread)", output.err, re.MULTILINE), output.err
