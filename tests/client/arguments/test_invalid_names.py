from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from aiobatch import AudienceClient, InvalidInputError, ViewManyError

from .rejections import collect, message_of

_RULE = "1 to 255 letters, digits, '_' or '-'"
NAMES: Mapping[str, tuple[Any, str]] = {
    "empty": ("", f"0 characters.*{_RULE}"),
    "too long": ("a" * 256, f"256 characters.*{_RULE}"),
    "slash": ("a/b", _RULE),
    "dot-dot": ("..", _RULE),
    "space": ("a b", _RULE),
    "percent": ("a%2Fb", _RULE),
    "newline": ("vip\n", _RULE),
    "accent": ("é", _RULE),
    "query": ("vip?x=1", _RULE),
    "number": (5, "must be a string, not int"),
    "none": (None, "must be a string, not None"),
    "bytes": (b"vip", "must be a string, not bytes"),
    "list": (["vip"], "must be a string, not list"),
    "thousands of digits": (-(10**5000), "must be a string, not int"),
}
METHODS: Mapping[str, Callable[[AudienceClient, Any], Awaitable[object]]] = {
    "create": lambda client, name: client.create(name),
    "view": lambda client, name: client.view(name),
    "update": lambda client, name: client.update(name, add=["u1"]),
    "replace": lambda client, name: client.replace(name, ["u1"]),
    "upload": lambda client, name: client.upload(name, add=["u1"]),
    "delete": lambda client, name: client.delete(name),
    "await_applied": lambda client, name: client.await_applied("abc", audience=name),
}


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("name", list(NAMES))
async def test_invalid_name_sends_nothing(offline_client: AudienceClient, method: str, name: str) -> None:
    """Every method that takes a name rejects an invalid one with the rule for names."""
    value, text = NAMES[name]
    if (method, name) == ("await_applied", "none"):
        text = "text of an indexing token"  # a bare token without an audience
    with pytest.raises(InvalidInputError, match=text) as caught:
        await METHODS[method](offline_client, value)
    message_of(caught)


@pytest.mark.parametrize("name", list(NAMES))
async def test_view_many_reports_invalid_names_with_other_failures(
    offline_client: AudienceClient, name: str
) -> None:
    """An invalid name is one of the failures of `view_many`."""
    value, text = NAMES[name]
    with pytest.raises(ViewManyError) as caught:
        await collect(offline_client.view_many([value]))
    assert list(caught.value.errors) == [value if isinstance(value, str) else type(value).__name__]
    (error,) = caught.value.exceptions
    with pytest.raises(InvalidInputError, match=text):
        raise error


@pytest.mark.parametrize("names", ["vip", b"vip", None, 5], ids=repr)
async def test_single_name_is_not_a_list_of_names(offline_client: AudienceClient, names: Any) -> None:
    """`view_many` does not take the letters of a string as names."""
    with pytest.raises(InvalidInputError, match="names must be an iterable of names, not"):
        await collect(offline_client.view_many(names))


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, float("nan"), "5", True, -(10**5000)], ids=range(7))
async def test_invalid_concurrency_sends_nothing(offline_client: AudienceClient, concurrency: Any) -> None:
    """The concurrency of `view_many` is an int of at least 1."""
    with pytest.raises(InvalidInputError, match="concurrency must be an int of at least 1"):
        await collect(offline_client.view_many(["vip"], concurrency=concurrency))


@pytest.mark.parametrize("description", [5, b"Our best", ["x"], "\ud800"])
async def test_invalid_description_sends_nothing(offline_client: AudienceClient, description: Any) -> None:
    """A description is a string of valid Unicode."""
    with pytest.raises(InvalidInputError, match=r"^description must be"):
        await offline_client.create("vip", description=description)
