"""The programs of docs/howto/web-app.md, as modules and as running servers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import uvicorn
from aiohttp import web

from aiobatch import AudienceClient
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY

# Seconds after which a test fails that would otherwise hang.
TIMEOUT = 60.0
PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "web-app.md"


def read_programs(page: Path = PAGE) -> dict[str, str]:
    """Return the Python of a page by section. Later blocks of a section continue its program."""
    sections = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    blocks = {
        title: re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for title, text in zip(sections[1::2], sections[2::2], strict=True)
    }
    return {title: "\n\n".join(found) for title, found in blocks.items() if found}


def read_commands() -> list[tuple[str, str]]:
    """Return the page's commands that start a server, each with the framework of its program."""
    found = re.findall(
        r"^(\S.*?) +# (FastAPI|aiohttp\.web)\b", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [(command, framework) for command, framework in found]


def load(framework: str) -> types.ModuleType:
    """Run the program of a framework, and return its module."""
    module = types.ModuleType("main")
    exec(compile(read_programs()[framework], PAGE, "exec"), module.__dict__)  # noqa: S102 - the project's own documentation
    return module


def environment(base_url: str) -> dict[str, str]:
    """Return the variables from which the programs read their keys."""
    return {
        "BATCH_BASE_URL": base_url,
        "BATCH_REST_API_KEY": REST_API_KEY,
        "BATCH_PROJECT_KEY": PROJECT_KEY,
    }


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """Listen on a free port. Connections queue until a server accepts them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def url_of(listener: socket.socket) -> str:
    """Return the origin of a listening socket."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@attrs.frozen
class Answer:
    """A response that has been read.

    Attributes:
        status: Its status.
        headers: `Location` and `Retry-After`, as far as it has them.
        content: Its decoded body.
    """

    status: int
    headers: dict[str, str]
    content: dict[str, Any]


async def send(browser: aiohttp.ClientSession, method: str, path: str) -> Answer:
    """Send a request, and read its response."""
    async with browser.request(method, path) as answer:
        names = [name for name in ("Location", "Retry-After") if name in answer.headers]
        return Answer(answer.status, {name: answer.headers[name] for name in names}, await answer.json())


@attrs.frozen
class RunningApp:
    """A running program of the page, and a browser.

    Attributes:
        module: The program.
        client: Its client.
        browser: A session that sends to it.
    """

    module: types.ModuleType
    client: AudienceClient
    browser: aiohttp.ClientSession

    async def send(self, method: str, path: str) -> Answer:
        """Send a request, and read its response."""
        return await send(self.browser, method, path)

    def start(self, method: str, path: str) -> asyncio.Task[Answer]:
        """Start to send a request."""
        return asyncio.create_task(self.send(method, path))

    @property
    def open_waits(self) -> int:
        """Number of audiences with a token that has a waiter."""
        return len(self.client._poller._subscriptions.audiences)

    async def until_waiting(self, waits: int, tokens: int) -> None:
        """Wait until *tokens* tokens have had a waiter, in *waits* audiences."""
        async with asyncio.timeout(TIMEOUT):
            while self.client.stats.tokens < tokens or self.open_waits != waits:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def serve(framework: str, **constants: Any) -> AsyncIterator[RunningApp]:
    """Serve the program of a framework by its real server, on the running loop.

    Args:
        framework: The heading of its section.
        constants: New values of the program's global names.
    """
    module = load(framework)
    module.__dict__.update(constants)
    with listening() as listener:
        async with (
            SERVERS[framework](module, listener) as client,
            aiohttp.ClientSession(url_of(listener)) as browser,
        ):
            yield RunningApp(module, client, browser)


@contextlib.asynccontextmanager
async def _by_uvicorn(module: types.ModuleType, listener: socket.socket) -> AsyncIterator[AudienceClient]:
    server = uvicorn.Server(uvicorn.Config(module.app, log_config=None, ws="none", lifespan="on"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.001)
    try:
        yield module.app.state.batch
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def _by_aiohttp(module: types.ModuleType, listener: socket.socket) -> AsyncIterator[AudienceClient]:
    runner: web.AppRunner = await module.runner()
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield runner.app[module.BATCH]
    finally:
        await runner.cleanup()


Server = Callable[[types.ModuleType, socket.socket], contextlib.AbstractAsyncContextManager[AudienceClient]]
SERVERS: dict[str, Server] = {"FastAPI": _by_uvicorn, "aiohttp.web": _by_aiohttp}
