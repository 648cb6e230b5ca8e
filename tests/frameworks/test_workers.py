"""The recipes for Django and Celery, run as they are printed."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiobatch import AudienceClient, Project

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "workers.md"


def block(marker: str) -> dict[str, Any]:
    """Run the block of the page that has *marker*, and return its names."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (code,) = (one for one in blocks if marker in one)
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - a page of this repository
    return names


async def create_vip() -> None:
    """Create an audience in the sandbox of the environment."""
    async with AudienceClient(Project.from_env()) as client:
        token = await client.create("vip")
        assert token is not None
        await client.await_applied(token)


async def test_a_django_view_shares_the_client_of_the_process(
    batch_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lifespan opens the client, a view adds a member, and the end of the lifespan closes the client."""
    pytest.importorskip("django")
    from django.conf import settings
    from django.urls import path

    urls: Any = types.ModuleType("recipe_urls")
    monkeypatch.setitem(sys.modules, "recipe_urls", urls)
    settings.configure(ROOT_URLCONF="recipe_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="test")
    await create_vip()
    application = block("get_asgi_application")["application"]
    urls.urlpatterns = [path("<name>/<user_id>", block("async def add_member")["add_member"])]
    received: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    sent: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    state: dict[str, AudienceClient] = {}
    lifespan = {"type": "lifespan", "state": state}
    server = asyncio.create_task(application(lifespan, received.get, sent.put))
    received.put_nowait({"type": "lifespan.startup"})
    assert (await sent.get())["type"] == "lifespan.startup.complete"

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await application(scope | {"state": state}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(serve), base_url="http://app") as browser:
        answers = await asyncio.gather(*(browser.get(f"/vip/u{number}") for number in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert max(answer.json()["members"] for answer in answers) == 5
    received.put_nowait({"type": "lifespan.shutdown"})
    await server
    assert (await sent.get())["type"] == "lifespan.shutdown.complete"
    batch_sandbox.assert_members("vip", {f"u{number}" for number in range(5)})


def test_a_celery_task_sends_and_another_waits(batch_sandbox: Any) -> None:
    """The token goes from one task to the other as text, and the wait ends with APPLIED."""
    pytest.importorskip("celery")
    asyncio.run(create_vip())
    names = block("from celery import Celery")
    names["app"].conf.update(task_always_eager=True, task_eager_propagates=True)
    chain = names["add_members"].s("vip", ["u1", "u2"]) | names["wait_for_members"].s()
    assert chain.delay().get(timeout=60) is None
    batch_sandbox.assert_members("vip", {"u1", "u2"})
