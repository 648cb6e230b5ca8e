"""The user's event hooks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

import attrs

from ..errors import InvalidInputError
from ..events import Event, EventHook
from ..options import check_callback

_logger = logging.getLogger("aiobatch.client")


def to_emit(on_event: EventHook | Iterable[EventHook] | None) -> EventHook | None:
    """Return a function that passes an event to each hook, or None if there is no hook.

    Args:
        on_event: One hook or several.

    Raises:
        InvalidInputError: An item is not a plain function.
    """
    if on_event is None:
        return None
    if callable(on_event):
        check_callback(on_event, "on_event")
        return _Hooks((_for_client(on_event),))
    if isinstance(on_event, str | bytes | Mapping) or not isinstance(on_event, Iterable):
        msg = f"on_event must be a function or a list of functions, not {type(on_event).__name__}."
        raise InvalidInputError(msg)
    hooks = tuple(on_event)
    for index, hook in enumerate(hooks):
        check_callback(hook, f"on_event[{index}]")
    return _Hooks(tuple(map(_for_client, hooks))) if hooks else None


def _for_client(hook: EventHook) -> EventHook:
    """Return the hook of one client, if the class of *hook* distinguishes clients."""
    create: Callable[[EventHook], EventHook] | None = getattr(type(hook), "for_client", None)
    return hook if create is None else create(hook)


@attrs.frozen
class _Hooks:
    """Passes each event to each hook. What a hook raises is logged, and affects nothing else."""

    hooks: tuple[EventHook, ...]

    def __call__(self, event: Event) -> None:
        for hook in self.hooks:
            try:
                hook(event)
            # A hook that reads the result of a cancelled future raises CancelledError. It is no cancellation
            # of the request.
            except (Exception, asyncio.CancelledError):
                name = type(event).__name__
                _logger.exception("on_event raised: event=%s", name, extra={"event": name})
