"""One bucket, as S3 serves it, in a process of its own: prints its port, and ends with its standard input.

The kernel sends the files, so the server takes next to no CPU from the client. S3 itself takes none.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from aiohttp import web

_EMPTY = "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"


def application(directory: Path) -> web.Application:
    """Return the application.

    Args:
        directory: An empty directory for its objects.
    """
    app = web.Application()

    async def put(request: web.Request) -> web.Response:
        with (directory / request.match_info["key"]).open("wb") as file:
            async for block in request.content.iter_chunked(1 << 20):
                file.write(block)
        return web.Response()

    async def get(request: web.Request) -> web.FileResponse:
        return web.FileResponse(directory / request.match_info["key"])

    async def list_nothing(_: web.Request) -> web.Response:
        # A reader of one object asks only whether it belongs to a table.
        return web.Response(text=_EMPTY, content_type="application/xml")

    app.router.add_put("/{bucket}/{key}", put)
    app.router.add_get("/{bucket}/{key}", get)
    app.router.add_get("/{bucket}", list_nothing)
    return app


async def _main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        runner = web.AppRunner(application(Path(directory)), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_main())
