from __future__ import annotations

import math
from typing import Any

import pytest

from aiobatch import AudienceClient, IndexingToken, InvalidInputError, Operation

from .rejections import collect


@pytest.mark.parametrize("timeout", [0, -1, -0.5, math.nan, math.inf, "5", True, [5]], ids=repr)
async def test_invalid_timeout_starts_no_wait(offline_client: AudienceClient, timeout: Any) -> None:
    """A timeout is None or a finite number above 0."""
    token = IndexingToken("vip", "abc")
    with pytest.raises(InvalidInputError, match=r"^timeout must be"):
        await offline_client.await_applied(token, timeout=timeout)
    with pytest.raises(InvalidInputError, match=r"^timeout must be"):
        await collect(offline_client.settle([token], timeout=timeout))
    assert offline_client.stats.tokens == 0


@pytest.mark.parametrize("tokens", ["vip:update:abc", b"x", IndexingToken("vip", "abc"), None, 5])
async def test_single_token_is_not_a_list_of_tokens(offline_client: AudienceClient, tokens: Any) -> None:
    """`settle` rejects a single token and names the method for it."""
    with pytest.raises(InvalidInputError, match=r"tokens must be an iterable of tokens, not .*await_applied"):
        await collect(offline_client.settle(tokens))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "abc",
        "vip:abc",
        "vip:fly:abc",
        "vip:update:",
        "vip:update:a b",
        "vip:update:a\n",
        "a b:update:x",
        None,
        5,
    ],
)
async def test_invalid_token_starts_no_wait(offline_client: AudienceClient, token: Any) -> None:
    """An invalid token is rejected, alone or among others."""
    text = (
        "audience:operation:value|operation must be one of|value must be printable|audience name 'a b'"
        "|token must not be None"
    )
    with pytest.raises(InvalidInputError, match=text):
        await offline_client.await_applied(token)
    with pytest.raises(InvalidInputError, match=text):
        await collect(offline_client.settle([IndexingToken("vip", "abc"), token]))
    assert offline_client.stats.tokens == 0


@pytest.mark.parametrize("token", ["", "a b", "a\n", 5, None])
async def test_invalid_bare_token_starts_no_wait(offline_client: AudienceClient, token: Any) -> None:
    """A bare token is checked too."""
    with pytest.raises(InvalidInputError, match="token"):
        await offline_client.await_applied(token, audience="vip")


@pytest.mark.parametrize("as_text", [False, True])
async def test_token_of_another_audience_starts_no_wait(
    offline_client: AudienceClient, *, as_text: bool
) -> None:
    """The token, or its text, must match the audience. The text is not used as a bare token."""
    token = IndexingToken("gold", "t1", Operation.REPLACE)
    with pytest.raises(InvalidInputError, match=r"'vip' does not match .* 'gold'"):
        await offline_client.await_applied(str(token) if as_text else token, audience="vip")
