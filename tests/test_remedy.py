"""A remedy as text is the library's call."""

from __future__ import annotations

import pickle

import pytest

from aiobatch._remedy import Remedy
from aiobatch.errors import SyncError


@pytest.mark.parametrize(
    ("remedy", "call"),
    [
        (Remedy("resync", "vip"), "Call `await engine.resync(client, 'vip', source)`."),
        (Remedy("adopt", "vip"), "Call `await engine.adopt(client, 'vip', members)`."),
        (Remedy("forget", "vip"), "Call `await engine.forget(client, 'vip')`."),
        (Remedy("runs", "vip"), "Call `await engine.runs('vip')`."),
        (Remedy("runs"), "Call `await engine.runs()`."),
        (
            Remedy("sync", "vip", {"create": True}),
            "Call `await engine.sync(client, 'vip', source, options=SyncOptions(create=True))`.",
        ),
        (
            Remedy(options={"allow_removals": 3001}),
            "To allow it once, pass overrides=Overrides(allow_removals=3001).",
        ),
    ],
    ids=repr,
)
def test_remedy_renders_as_a_library_call(remedy: Remedy, call: str) -> None:
    """The text of a remedy is the call to make, or the override to pass."""
    assert str(remedy) == call


def test_error_text_ends_with_its_remedy() -> None:
    """`str(error)` ends with the remedy, `error.text` leaves it out, and both survive pickling."""
    error = SyncError("Audience 'vip': the members differ.")
    assert str(error) == error.text == "Audience 'vip': the members differ."
    error.remedy = Remedy("resync", "vip")
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own pickle
    assert str(twin) == f"{error.text} Call `await engine.resync(client, 'vip', source)`."
