from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.sandbox import API_KEY, REST_API_KEY
from aiobatch.sandbox._routes import find_route, mask_key

from .conftest import Caller


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/favicon.ico"),
        ("GET", f"/1.2/{API_KEY}/custom-audience/vip"),
        ("POST", f"/1.0/{API_KEY}/custom-audience"),
        ("OPTIONS", f"/1.0/{API_KEY}/custom-audience/vip"),
        ("GET", "/%0A"),
        ("GET", f"/1.0/{API_KEY}/custom-audience/vip/more"),
        ("GET", f"/1.0/{API_KEY}/custom-audience/"),
    ],
)
async def test_unknown_route_of_1_x_is_404(caller: Caller, method: str, path: str) -> None:
    """An unknown path or method is ROUTE_NOT_FOUND, in the form of 1.x."""
    answered = await caller.raw(method, path, headers={"X-Authorization": REST_API_KEY})
    assert answered.status == 404
    assert answered.body == {"code": 20, "message": "There is no such route"}
    assert caller.sandbox.requests[-1].operation == "unknown"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2.01/audiences/list"),
        ("GET", "/2.x/audiences/list"),
        ("PUT", "/2.11/audiences/replace"),
        ("GET", "/2.11/audiences/create"),
        ("GET", "/2.11/audiences/members"),
        ("GET", "/2.11/audiences"),
    ],
)
async def test_unknown_route_of_2_x_is_404(caller: Caller, method: str, path: str) -> None:
    """An unknown path or method is ROUTE_NOT_FOUND, in the form of 2.x."""
    answered = await caller.raw(method, path)
    assert answered.status == 404
    assert answered.body == {"error_code": "ROUTE_NOT_FOUND", "error_message": "There is no such route"}


@pytest.mark.parametrize("minor", [*range(14), 99, 1234])
async def test_versions_of_2_x_have_the_same_routes(caller: Caller, minor: int) -> None:
    """Any 2.x has the same routes."""
    answered = await caller.cep("GET", "list", version=f"2.{minor}")
    assert answered.body == {"audiences": [], "has_more": False, "count": 0}


@given(st.sampled_from(["GET", "POST", "PUT"]), st.text())
def test_any_path_can_be_routed(method: str, path: str) -> None:
    """`find_route` never raises."""
    assert find_route(method, f"/{path}").operation


@given(st.from_regex(r"[A-Za-z0-9%._-]{8,40}", fullmatch=True))
def test_key_in_the_path_is_masked(key: str) -> None:
    """The key of a logged path is masked in any version."""
    for version in ("1.0", "1.1", "1.7"):
        assert mask_key(f"/{version}/{key}/custom-audience/x") == f"/{version}/***/custom-audience/x"
        assert mask_key(f"/{version}/{key}") == f"/{version}/***"
