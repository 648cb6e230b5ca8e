"""The commands and the program of docs/howto/proxies.md, behind a real proxy and a private authority."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from aiobatch import AudienceClient, Project
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY
from aiobatch.testing import running_sandbox

from ..chaos.servers.http_proxy import Proxy, needs_proxy, running_proxy
from .guide_apps import TIMEOUT, environment, read_programs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "proxies.md"

_PROJECT = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)

pytestmark = [pytest.mark.sweep, needs_proxy]


@contextlib.asynccontextmanager
async def _tls_sandbox(authority: trustme.CA) -> AsyncIterator[str]:
    """Serve a sandbox with an audience by TLS, and yield its origin."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async with running_sandbox(indexing_delay=0) as sandbox:
        async with AudienceClient(_PROJECT, base_url=sandbox.url) as client:
            await client.create("vip")

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner = await asyncio.open_connection("127.0.0.1", sandbox.port)
            await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))

        async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context) as server:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _run(script: str, proxy: Proxy, env: dict[str, str]) -> str:
    """Run a block of the page in its directory, with the proxy's address, and return the output."""
    local = script.replace("proxy.example:3128", f"127.0.0.1:{proxy.port}")
    local = local.replace("/etc/ssl/certs/ca-certificates.crt", "system.pem")
    assert local != script
    home = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": os.fspath(Path.cwd())}
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", local, env=home | env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert not re.search("p(@|%40)ssword", output.decode())
    return output.decode()


async def test_the_guide_behind_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a password 407, without the authority no trust, and with both doctor and a view succeed."""
    monkeypatch.chdir(tmp_path)
    authority = trustme.CA()
    authority.cert_pem.write_to_path("company.pem")
    trustme.CA().cert_pem.write_to_path("system.pem")
    unnamed, named, trusted = re.findall(
        r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    async with _tls_sandbox(authority) as url:
        with running_proxy(tmp_path / "proxy", "--basic-auth", "user:p@ssword") as proxy:
            env = environment(url)
            assert "ClientHttpProxyError, 407" in await _run(unnamed, proxy, env)
            assert "not trusted" in await _run(named, proxy, env)
            output = await _run(named.replace("aiobatch doctor\n", "") + trusted, proxy, env)
            assert "A proxy of the environment is used, with credentials." in output
            assert "problem" not in output
            for name, value in env.items():
                monkeypatch.setenv(name, value)
            program: dict[str, object] = {}
            exec(compile(read_programs(PAGE)["In Python"], PAGE, "exec"), program)  # noqa: S102 - the project's own documentation
            view = program["view_through"]
            assert callable(view)
            own = proxy.url.replace("//", "//user:p%40ssword@")
            assert (await view(own, "company.pem", "vip")).name == "vip"
        assert f"CONNECT {url.removeprefix('https://')}" in proxy.log.read_text(encoding="utf-8")
