"""Alerts by mail, chat or webhook: one for each change of state of a place.

Apprise sends them. An alert contains names, outcomes and error texts, and no ID and no key. It never changes
an exit code, and takes a few seconds at most.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from .._logs import log
from .._secret import Secret
from ..sync import AlertKind, Attempt, NotifyConfig, RunOutcome, StateLocation
from ..sync.state.upkeep import read_open_alerts, write_open_alerts
from ._exit_codes import ExitCode

__all__ = ["EXTRA", "News", "fresh", "invalid_urls", "news_of", "send_alerts", "stale"]

_logger = logging.getLogger("aiobatch.cli")
EXTRA: Final = "pip install 'aiobatch-client[notify]'"
# Seconds for all services together.
_PATIENCE: Final = 10.0
# The loggers of Apprise and of what it uses. Their lines contain URLs, and so passwords.
_SILENCED: Final = ("apprise", "urllib3", "requests", "requests_oauthlib")
# Ends that are no failure: a person or another run decided, and the next run continues.
_NEUTRAL: Final = frozenset(
    {ExitCode.LOCKED, ExitCode.BUSY, ExitCode.INTERRUPTED, ExitCode.TERMINATED, ExitCode.BROKEN_PIPE}
)
_TITLES: Final[Mapping[AlertKind, str]] = {
    AlertKind.FAILURE: "failed",
    AlertKind.REFUSAL: "refused by the guard",
    AlertKind.STALENESS: "without a recent success",
    AlertKind.RECOVERY: "recovered",
}


@attrs.frozen(kw_only=True)
class News:
    """What became known of a place.

    Attributes:
        place: The audience and its target, or the config.
        kind: What became known. `RECOVERY` if all is well.
        text: What happened, and what to do.
        closes: The open alerts that it ends.
    """

    place: str
    kind: AlertKind
    text: str = ""
    closes: frozenset[AlertKind] = frozenset(AlertKind)

    def after(self, before: Collection[str], kinds: Collection[AlertKind]) -> frozenset[str]:
        """Return the open alerts of the place afterwards.

        Args:
            before: Its open alerts.
            kinds: The kinds that are sent.
        """
        opened = {self.kind} & set(kinds) - {AlertKind.RECOVERY}
        return frozenset(before) - self.closes | opened

    def is_change(self, before: Collection[str], kinds: Collection[AlertKind]) -> bool:
        """Return whether an alert is due. The arguments are those of `after`."""
        if self.kind not in kinds:
            return False
        if self.kind is AlertKind.RECOVERY:
            return bool(before) and not self.after(before, kinds)
        return self.kind not in before


def stale(place: str, text: str) -> News:
    """Return the news that a place has no recent success."""
    return News(place=place, kind=AlertKind.STALENESS, text=text, closes=frozenset())


def fresh(place: str) -> News:
    """Return the news that a place has a recent success. It may have failed since."""
    return News(place=place, kind=AlertKind.RECOVERY, closes=frozenset({AlertKind.STALENESS}))


def news_of(attempts: Iterable[Attempt]) -> list[News]:
    """Return the news of attempts that ended.

    A config that could be read is news too, and so is a success in any target for an audience whose target
    was unknown when it failed.
    """
    attempts = list(attempts)
    found = {news.place: news for one in attempts if (news := _news_of(one)) is not None}
    well = [one.config for one in attempts if one.config]
    well += [
        one.audience
        for one in attempts
        if one.audience and one.target and one.exit_code in {ExitCode.DONE, ExitCode.CHANGED}
    ]
    others = {place: News(place=place, kind=AlertKind.RECOVERY) for place in well}
    return list({**others, **found}.values())


def _news_of(attempt: Attempt) -> News | None:
    """Return the news of an attempt. None if it decides nothing."""
    place = attempt.audience or attempt.config or ""
    if attempt.audience is not None and attempt.target is not None:
        place = f"{attempt.audience} → {attempt.target}"
    code = attempt.exit_code
    if code in _NEUTRAL or attempt.outcome is RunOutcome.SENT:
        return None
    if code in {ExitCode.DONE, ExitCode.CHANGED}:
        return News(place=place, kind=AlertKind.RECOVERY)
    kind = AlertKind.REFUSAL if code == ExitCode.GUARDED else AlertKind.FAILURE
    text = attempt.error or f"It ended as {attempt.outcome}."
    return News(place=place, kind=kind, text=text, closes=frozenset({AlertKind.FAILURE, AlertKind.REFUSAL}))


def send_alerts(notify: NotifyConfig, state: StateLocation, news: Sequence[News]) -> None:
    """Send one alert for the changes of state among *news*. If that fails, log it.

    Args:
        notify: Where alerts go.
        state: The state, beside which the open alerts are.
        news: What became known of places.
    """
    before = read_open_alerts(state)
    due = [one for one in news if one.is_change(before.get(one.place, ()), notify.kinds)]
    if due and not _send(notify, due):
        news = [one for one in news if one not in due]  # the next run tries again
    after = {one.place: one.after(before.get(one.place, ()), notify.kinds) for one in news}
    changed = {place: kinds for place, kinds in after.items() if kinds != before.get(place, frozenset())}
    if changed:
        write_open_alerts(state, changed)


def invalid_urls(notify: NotifyConfig) -> list[str] | None:
    """Return the variables that hold no URL that Apprise knows. Nothing is sent.

    Args:
        notify: Where alerts go.

    Returns:
        Their names. None if the extra is not installed.
    """
    if importlib.util.find_spec("apprise") is None:
        return None
    return [name for name, url in notify.urls.items() if not _sender().add(url.reveal())]


def _send(notify: NotifyConfig, due: Sequence[News]) -> bool:
    """Send an alert to each URL, within a few seconds. Return whether one of them accepted it."""
    for name in notify.missing:
        _warn(name, "the variable is not set")
    try:
        import apprise  # noqa: F401, PLC0415 - an extra
    except ImportError:
        _warn(None, f"it needs an extra. Run {EXTRA}")
        return False
    title, body, level = _message(due)
    sent: dict[str, bool] = {}

    def send(name: str, url: Secret) -> None:
        sent[name] = _deliver(name, url, title=title, body=body, level=level)

    threads = {
        name: threading.Thread(target=send, args=(name, url), name="aiobatch-alert", daemon=True)
        for name, url in notify.urls.items()
    }
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + _PATIENCE
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            _warn(name, "the service did not answer in time")
    return any(sent.values())


def _deliver(name: str, url: Secret, *, title: str, body: str, level: str) -> bool:
    """Send an alert to one URL and return whether the service accepted it."""
    try:
        sender = _sender()
        if not sender.add(url.reveal()):
            _warn(name, "the variable holds no Apprise URL")
            return False
        accepted = bool(sender.notify(title=title, body=body, notify_type=level, body_format="text"))
    except Exception as error:  # noqa: BLE001 - an alert must not stop the command
        # The text of an exception may have the URL.
        _warn(name, type(error).__name__)
        return False
    if not accepted:
        _warn(name, "the service refused it or was unreachable")
    return accepted


def _sender() -> Any:
    """Return an Apprise that logs nothing, stores nothing and loads no picture."""
    import apprise  # noqa: PLC0415 - an extra

    for logger in _SILENCED:
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(
        app_id="aiobatch",
        app_desc="aiobatch",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        pgp_autogen=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    return apprise.Apprise(asset=asset)


def _message(due: Sequence[News]) -> tuple[str, str, str]:
    """Return the title, the text and the level of an alert."""
    groups: dict[tuple[AlertKind, str], list[str]] = {}
    for one in due:
        groups.setdefault((one.kind, one.text), []).append(one.place)
    lines = [
        f"{', '.join(places)}: {_TITLES[kind]}.{f' {text}' if text else ''}"
        for (kind, text), places in groups.items()
    ]
    first = due[0]
    title = f"aiobatch: {first.place} {_TITLES[first.kind]}"
    if len(due) > 1:
        title = f"aiobatch: {len(due)} places changed"
    is_well = all(one.kind is AlertKind.RECOVERY for one in due)
    return title, "\n".join(lines), "success" if is_well else "failure"


def _warn(name: str | None, reason: str) -> None:
    log(_logger, logging.WARNING, "alert not sent", variable=name, reason=reason)
