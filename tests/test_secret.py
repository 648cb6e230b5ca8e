from __future__ import annotations

import copy
import itertools
import pickle
import traceback

import attrs
import pytest

from aiobatch._secret import Secret

KEY = "k3y-0123456789abcdef"


@attrs.frozen
class _Holder:
    """A value that contains a key."""

    key: Secret
    nested: object = None


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(KEY)),
        str(Secret(KEY)),
        format(Secret(KEY)),
        f"{Secret(KEY)} {Secret(KEY)!r} {Secret(KEY)!a}",
        "%s %r" % (Secret(KEY), Secret(KEY)),  # noqa: UP031  # the way of logging
        repr([Secret(KEY)]),
        repr(_Holder(Secret(KEY))),
        repr(attrs.asdict(_Holder(Secret(KEY), _Holder(Secret(KEY))), recurse=True)),
        repr(attrs.astuple(_Holder(Secret(KEY)))),
        repr(copy.copy(Secret(KEY))),
        repr(copy.deepcopy(_Holder(Secret(KEY)))),
    ],
    ids=itertools.count(1),
)
def test_secret_shows_a_mask(shown: str) -> None:
    """Every way to turn a secret into text returns a mask."""
    assert KEY not in shown
    assert "***" in shown


def test_reveal_returns_the_key() -> None:
    """`reveal` returns the key, also of a copy."""
    assert Secret(KEY).reveal() == copy.deepcopy(Secret(KEY)).reveal() == KEY


def test_secrets_compare_by_value() -> None:
    """Equal keys are equal secrets with one hash. A secret is not equal to its text."""
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY


def test_secret_has_no_dict() -> None:
    """`vars` finds nothing to show."""
    with pytest.raises(TypeError):
        vars(Secret(KEY))


@pytest.mark.parametrize("holder", [Secret(KEY), _Holder(Secret(KEY))], ids=["key", "holder"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret_cannot_be_pickled(holder: object, protocol: int) -> None:
    """Pickling a secret, or a value that holds one, fails, and the error shows no key."""
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(holder, protocol)
    assert KEY not in "".join(traceback.TracebackException.from_exception(caught.value).format())
