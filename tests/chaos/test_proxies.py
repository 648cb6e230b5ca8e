from __future__ import annotations

import asyncio
import signal
import ssl
import time
from pathlib import Path

import aiohttp
import pytest

from aiobatch import ConnectError, InvalidInputError, RetryPolicy
from aiobatch.cli import ExitCode

from ..helpers.leak_search import find
from .chaos_env import KEYS, PRIVATE, Ground, ids, quick_sandbox, served, until
from .servers.http_proxy import Proxy, needs_proxy, running_proxy
from .servers.nginx import Certificate, needs_nginx, running_nginx

PART = "An HTTP proxy in between (proxy.py)"


def _check_log(proxy: Proxy) -> None:
    """See that the proxy saw hosts and ports alone."""
    text = proxy.log.read_text(encoding="utf-8")
    assert not find([*KEYS, PRIVATE], [text])
    assert not [line for line in proxy.lines("access_log") if "CONNECT" not in line]


@needs_nginx
@needs_proxy
@pytest.mark.fire(
    part=PART,
    done="`aiobatch sync` with HTTPS_PROXY and TLS; before, without the proxy's password",
    holds="it goes through tunnels, the proxy sees no key; a wrong password ends it at once, not shown",
)
def test_a_tunnel(ground: Ground, nginx_directory: Path, certificate: Certificate, tmp_path: Path) -> None:
    """HTTPS_PROXY is heeded, by CONNECT alone."""
    members = ids(ground.case.size(11_000, 100_000))
    source = str(ground.write(members))
    trust = {"SSL_CERT_FILE": str(certificate.authority)}
    with (
        served(quick_sandbox()) as sandbox,
        running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx,
        running_proxy(tmp_path / "proxy", "--basic-auth", "user:Zw8sPass") as proxy,
    ):
        wrong = proxy.url.replace("//", "//user:Gk5wrong@")
        refused = ground.run(nginx.url, "sync", "vip", source, "--create", HTTPS_PROXY=wrong, **trust)
        assert refused.code == ExitCode.FAILED
        assert "ClientHttpProxyError, 407" in refused.err
        right = proxy.url.replace("//", "//user:Zw8sPass@")
        output = ground.run(nginx.url, "sync", "vip", source, "--create", HTTPS_PROXY=right, **trust)
        assert output.code == 0
        assert set(sandbox.members("vip")) == set(members)
        assert not find(["Gk5wrong", "Zw8sPass"], [refused.out, refused.err, output.out, output.err])
        _check_log(proxy)
        ground.case.tell(f"{len(members):,} ids through {len(proxy.lines('CONNECT'))} connections, 0 lost")
        ground.case.tell(refused.err.splitlines()[-1])


@needs_nginx
@needs_proxy
@pytest.mark.fire(
    part=PART,
    done="SIGTERM to `aiobatch sync` behind the proxy, and the same command again",
    holds="exit code 143 within the grace; the second run ends with exactly the source's members",
    short=False,
)
def test_sigterm_behind_the_proxy(
    ground: Ground, nginx_directory: Path, certificate: Certificate, tmp_path: Path
) -> None:
    """What is under way is finished and journaled, wherever it goes through."""
    members = ids(ground.case.size(25_000, 100_000))
    source = str(ground.write(members))
    env = {"SSL_CERT_FILE": str(certificate.authority)}
    with (
        served(quick_sandbox(faults={"slow": 0.5}, slow_answer=0.5, indexing_delay=1.0)) as sandbox,
        running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx,
        running_proxy(tmp_path / "proxy") as proxy,
    ):
        command = ("sync", "vip", source, "--create", "--grace", "10")
        process = ground.start(nginx.url, *command, HTTPS_PROXY=proxy.url, **env)
        deadline = time.monotonic() + 60
        while sandbox.operation_counts["update"] < 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        output = ground.finish(process)
        assert output.code == ExitCode.TERMINATED
        again = ground.run(nginx.url, *command, HTTPS_PROXY=proxy.url, **env)
        assert again.code == 0
        assert set(sandbox.members("vip")) == set(members)
        _check_log(proxy)
        ground.case.tell(f"exit codes {output.code} and {again.code}; {len(members):,} ids, 0 lost")


@needs_nginx
@needs_proxy
@pytest.mark.fire(
    part=PART,
    done="a session of the caller's with a proxy of its own",
    holds="its proxy is used, HTTPS_PROXY is not; exactly the source's members",
)
async def test_a_session_with_a_proxy(
    ground: Ground,
    nginx_directory: Path,
    certificate: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever brings a session decides."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    members = ids(ground.case.size(5_000, 100_000))
    context = ssl.create_default_context(cafile=certificate.authority)
    with running_proxy(tmp_path / "proxy") as proxy:
        async with (
            quick_sandbox() as sandbox,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), proxy=proxy.url) as session,
        ):
            with running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx:
                async with ground.client(nginx.url, session=session) as client:
                    await ground.upload(client, members)
                    ground.case.count(client)
            assert set(sandbox.members("vip")) == set(members)
            await session.close()
            await until(lambda: bool(proxy.lines("CONNECT")))
        _check_log(proxy)


@pytest.mark.fire(
    part=PART,
    done="HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name a proxy; the base_url is plain http on this machine",
    holds="the proxy is not asked: no key goes anywhere in plain text",
)
async def test_plain_http_goes_through_no_proxy(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http goes to this machine alone, and by no detour."""
    asked = 0

    def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server, quick_sandbox() as sandbox:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with ground.client(sandbox.url) as client:
            await ground.upload(client, ids(100))
            ground.case.count(client)
        assert len(sandbox.members("vip")) == 100
        assert asked == 0
        ground.case.tell("connections to the proxy: 0")


@pytest.mark.fire(
    part=PART,
    done="HTTPS_PROXY names a port where nobody listens; then a SOCKS proxy",
    holds="ConnectError after the tries, and InvalidInputError at once: both name HTTPS_PROXY",
)
async def test_a_proxy_that_is_not_there(
    ground: Ground, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text says that it is the proxy that is missing."""
    base_url = f"https://127.0.0.1:{silent_port}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:Zw8sPass@127.0.0.1:{silent_port}")
    async with ground.client(base_url, retry=RetryPolicy(attempts=3, initial=0.01)) as client:
        with ground.expect(ConnectError, "HTTPS_PROXY") as caught:
            await client.view("vip")
        assert client.stats.requests == 3
    assert "Zw8sPass" not in str(caught.value)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    async with ground.client(base_url) as client:
        with ground.expect(InvalidInputError, "HTTPS_PROXY"):
            await client.view("vip")
