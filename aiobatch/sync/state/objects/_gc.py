"""Deletion of objects that nothing names: those of killed processes, and members that were replaced."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Iterable
from typing import Final

import attrs

from ...._clock import BootClock
from ....errors import InvalidInputError
from ....interfaces import Clock
from ..._errors import LockedError, StateError
from ._head import Head, HeadFile
from ._layout import Place
from ._lease import InThread, Lease
from ._open import is_store_url, open_store
from ._root import read_root
from ._run_log import RunLog
from ._store import ListedObject, ObjectStore

_logger = logging.getLogger("aiobatch.sync")

# What may be deleted. Other objects are not aiobatch's, or always kept.
_OURS: Final = re.compile(
    r"(?P<scope>[0-9a-f]{16})/(?P<key>[0-9a-f]{16})/(members/g\d{8}-\w+-[0-9a-f]{32}\.parquet"
    r"|runs/\d+/(plan\.json|changes/[0-9a-f]{32}\.parquet|transitions/\d{8}-\d{8}\.json))"
)
# Seconds of one call of the store at most, for the margin of the lease.
_MARGIN: Final = 15.0
# Seconds after which an object without a head counts as one of a killed process.
_ABANDONED: Final = 86_400.0
_DRAFTS: Final = ".drafts/"
# Objects that are deleted between two looks at the lease.
_GROUP: Final = 1000


@attrs.frozen(kw_only=True)
class Garbage:
    """What `collect_garbage` deleted.

    Attributes:
        objects: Number of deleted objects.
        size: Their bytes.
        busy: Audiences that were left out because a run holds them.
    """

    objects: int
    size: int
    busy: int


async def collect_garbage(state: str) -> Garbage:
    """Delete objects of a state that nothing needs: those of killed runs, and members that were replaced.

    Takes the lease of each audience meanwhile, and leaves out those that a run holds. Keeps the history.

    Args:
        state: The URL of the state: `s3://bucket/prefix`, `gs://…`, `az://…` or `file:///directory`.

    Raises:
        InvalidInputError: The state is a file, or its URL is invalid.
        StateError: The store cannot be used, there is no state, or an object is not aiobatch's.
    """
    if not is_store_url(state):
        msg = f"State {state!r} is a file, and has no garbage. Name the URL of a state on object storage."
        raise InvalidInputError(msg)
    return await collect_from(await asyncio.to_thread(open_store, state))


async def collect_from(
    store: ObjectStore, *, clock: Clock | None = None, in_thread: InThread = asyncio.to_thread
) -> Garbage:
    """Delete what neither the head of an audience nor the plan of its open run names.

    Args:
        store: The store.
        clock: A clock that counts the time in which the machine is suspended. None: the machine's.
        in_thread: Calls the store, which blocks.

    Raises:
        StateError: As for `collect_garbage`.
    """
    if await in_thread(lambda: read_root(store)) is None:
        msg = "there is no state here, so nothing was deleted. Check the bucket and the prefix."
        raise StateError(msg, path=store.url, reason="missing")
    clock, deleted, busy = clock or BootClock(), list[ListedObject](), 0
    listed: list[ListedObject] = await in_thread(lambda: list(store.list("")))
    found = {match.group("scope", "key") for one in listed if (match := _OURS.fullmatch(one.path))}
    for place in (Place(*parts) for parts in sorted(found)):
        lease = Lease(store, place, "state gc", margin=_MARGIN, clock=clock, in_thread=in_thread)
        try:
            await lease.acquire()
        except LockedError as error:
            _logger.info("skipped a busy audience: %s", error)
            busy += 1
            continue
        try:
            deleted += await in_thread(functools.partial(_collect, store, lease))
        finally:
            await lease.release()
    drafts = await in_thread(lambda: _delete_drafts(store, listed))
    return Garbage(
        objects=len(deleted) + len(drafts), size=sum(one.size for one in (*deleted, *drafts)), busy=busy
    )


def _collect(store: ObjectStore, lease: Lease) -> list[ListedObject]:
    """Delete the garbage of an audience whose lease this process has. Return it."""
    place, file = lease.place, HeadFile(store, lease.place)
    head = file.read()
    if head is not None:
        # A fence: a head that an earlier holder is still writing would name what is deleted here.
        lease.check()
        file.commit(attrs.evolve(head, epoch=lease.epoch))
    listed = list(store.list(place.prefix))
    ours = [one for one in listed if _OURS.fullmatch(one.path)]
    if head is None:
        # Without a head there is no fence. Ages are compared by the store's clock, which wrote the lease.
        now = max((one.modified for one in listed), default=0.0)
        garbage = [one for one in ours if now - one.modified > _ABANDONED]
    else:
        named = _named(store, place, head)
        garbage = [one for one in ours if one.path not in named]
    for start in range(0, len(garbage), _GROUP):
        lease.check()
        store.delete(one.path for one in garbage[start : start + _GROUP])
    return garbage


def _named(store: ObjectStore, place: Place, head: Head) -> set[str]:
    """Return the paths that a head and the plan of its open run name."""
    named = set(head.named)
    if head.open_run is not None:
        run = place.run(head.open_run)
        plan = RunLog(store, place, head.open_run).read_plan()
        transitions = {one.path for one in store.list(run.transitions)}
        named |= {run.plan, *plan["changes"], *transitions}
    return named


def _delete_drafts(store: ObjectStore, listed: Iterable[ListedObject]) -> list[ListedObject]:
    """Delete files that killed processes began to write into a directory. Return them."""
    objects = list(listed)
    now = max((one.modified for one in objects), default=0.0)
    drafts = [one for one in objects if one.path.startswith(_DRAFTS) and now - one.modified > _ABANDONED]
    store.delete(one.path for one in drafts)
    return drafts
