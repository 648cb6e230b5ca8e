"""A server of one page, for browsers of this machine."""

from __future__ import annotations

import asyncio
import http.server
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn

from ...._logs import log
from ....errors import AiobatchError, InvalidInputError
from ..._context import Context
from ..._signals import in_thread

__all__ = ["serve"]

_logger = logging.getLogger("aiobatch.cli")
# Seconds after which the server sees that it has to end.
_PAUSE: Final = 0.05
_ADDRESS: Final = "127.0.0.1"
# Names of this machine. Another one belongs to a website that points its name here to read the page.
_NAMES: Final = frozenset({"127.0.0.1", "localhost"})
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


async def serve(make: Callable[[], str], *, port: int, context: Context) -> NoReturn:
    """Serve a page until a signal cancels the command.

    Args:
        make: Returns the page. It may block.
        port: The port. 0 takes a free one.
        context: Prints the address.

    Raises:
        InvalidInputError: The port cannot be used.
    """

    class Handler(_Handler):
        page = staticmethod(make)

    try:
        server = _Server((_ADDRESS, port), Handler)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        msg = f"Cannot listen on port {port} ({reason}). Pass --port 0 to use a free port."
        raise InvalidInputError(msg) from None
    threading.Thread(target=server.serve_forever, args=[_PAUSE], name="aiobatch-report", daemon=True).start()
    url = f"http://{_ADDRESS}:{server.server_port}/"
    try:
        context.output.lines([url], {"url": url})
        context.info(f"The report is at {url}. Press Ctrl-C to stop.")
        while True:
            await asyncio.Event().wait()
    finally:
        await in_thread(server.shutdown)
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    """Serves each browser in a thread of its own."""

    def handle_error(self, *_: object) -> None:
        """Log that a browser closed the connection, and write nothing to stderr."""
        log(_logger, logging.DEBUG, "report not served", error=type(sys.exception()).__name__)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET / with the page."""

    page: Callable[[], str]
    # A client that sends nothing is cut off.
    timeout = 30.0

    def do_GET(self) -> None:
        """Answer with the page as it is now."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in _NAMES:
            self._answer(403, "Open the report by the address that `aiobatch report` printed.")
        elif self.path != "/":
            self._answer(404, "The report is at /.")
        else:
            try:
                self._answer(200, type(self).page(), kind="text/html")
            except (AiobatchError, OSError) as error:
                self._answer(500, f"{error}")

    def _answer(self, status: int, text: str, *, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Log a request at DEBUG, and write nothing to stderr."""
        log(_logger, logging.DEBUG, "report served", request=format % args)
