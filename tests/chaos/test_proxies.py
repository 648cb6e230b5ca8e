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
from .chaos_env import KEYS, PRIVATE, ChaosEnv, ids, quick_sandbox, served, wait_until
from .servers.http_proxy import Proxy, needs_proxy, running_proxy
from .servers.nginx import Certificate, needs_nginx, running_nginx

PART = "Behind an HTTP proxy (proxy.py)"


def _check_log(proxy: Proxy) -> None:
    """Check that the proxy saw hosts and ports only."""
    text = proxy.log.read_text(encoding="utf-8")
    assert not find([*KEYS, PRIVATE], [text])
    assert not [line for line in proxy.lines("access_log") if "CONNECT" not in line]


@needs_nginx
@needs_proxy
@pytest.mark.chaos(
    part=PART,
    done="`aiobatch sync` with HTTPS_PROXY and TLS, first with a wrong password of the proxy",
    holds="requests use tunnels, the proxy sees no key. A wrong password fails at once and is not shown",
)
def test_https_proxy_is_used_by_connect(
    chaos_env: ChaosEnv, nginx_directory: Path, certificate: Certificate, tmp_path: Path
) -> None:
    """HTTPS_PROXY is used, and only with CONNECT."""
    members = ids(chaos_env.case.size(11_000, 100_000))
    source = str(chaos_env.write(members))
    trust = {"SSL_CERT_FILE": str(certificate.authority)}
    with (
        served(quick_sandbox()) as sandbox,
        running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx,
        running_proxy(tmp_path / "proxy", "--basic-auth", "user:Zw8sPass") as proxy,
    ):
        wrong = proxy.url.replace("//", "//user:Gk5wrong@")
        refused = chaos_env.run(nginx.url, "sync", "vip", source, "--create", HTTPS_PROXY=wrong, **trust)
        assert refused.code == ExitCode.FAILED
        assert "ClientHttpProxyError, 407" in refused.err
        right = proxy.url.replace("//", "//user:Zw8sPass@")
        output = chaos_env.run(nginx.url, "sync", "vip", source, "--create", HTTPS_PROXY=right, **trust)
        assert output.code == 0
        assert set(sandbox.members("vip")) == set(members)
        assert not find(["Gk5wrong", "Zw8sPass"], [refused.out, refused.err, output.out, output.err])
        _check_log(proxy)
        chaos_env.case.add_fact(
            f"{len(members):,} IDs through {len(proxy.lines('CONNECT'))} connections, 0 lost"
        )
        chaos_env.case.add_fact(refused.err.splitlines()[-1])


@needs_nginx
@needs_proxy
@pytest.mark.chaos(
    part=PART,
    done="SIGTERM to `aiobatch sync` behind the proxy, then the same command again",
    holds="exit code 143 within the grace period. After the second run, exactly the source's members",
    short=False,
)
def test_sigterm_behind_the_proxy_finishes_requests(
    chaos_env: ChaosEnv, nginx_directory: Path, certificate: Certificate, tmp_path: Path
) -> None:
    """Requests in flight through the proxy are finished and journaled."""
    members = ids(chaos_env.case.size(25_000, 100_000))
    source = str(chaos_env.write(members))
    env = {"SSL_CERT_FILE": str(certificate.authority)}
    with (
        served(quick_sandbox(faults={"slow": 0.5}, slow_answer=0.5, indexing_delay=1.0)) as sandbox,
        running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx,
        running_proxy(tmp_path / "proxy") as proxy,
    ):
        command = ("sync", "vip", source, "--create", "--grace", "10")
        process = chaos_env.start(nginx.url, *command, HTTPS_PROXY=proxy.url, **env)
        deadline = time.monotonic() + 60
        while sandbox.operation_counts["update"] < 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        output = chaos_env.finish(process)
        assert output.code == ExitCode.TERMINATED
        again = chaos_env.run(nginx.url, *command, HTTPS_PROXY=proxy.url, **env)
        assert again.code == 0
        assert set(sandbox.members("vip")) == set(members)
        _check_log(proxy)
        chaos_env.case.add_fact(f"exit codes {output.code} and {again.code}; {len(members):,} IDs, 0 lost")


@needs_nginx
@needs_proxy
@pytest.mark.chaos(
    part=PART,
    done="a session of the caller with its own proxy",
    holds="the session's proxy is used, not HTTPS_PROXY. Exactly the source's members",
)
async def test_session_proxy_takes_precedence(
    chaos_env: ChaosEnv,
    nginx_directory: Path,
    certificate: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session's proxy takes precedence over HTTPS_PROXY."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    members = ids(chaos_env.case.size(5_000, 100_000))
    context = ssl.create_default_context(cafile=certificate.authority)
    with running_proxy(tmp_path / "proxy") as proxy:
        async with (
            quick_sandbox() as sandbox,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), proxy=proxy.url) as session,
        ):
            with running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx:
                async with chaos_env.client(nginx.url, session=session) as client:
                    await chaos_env.upload(client, members)
                    chaos_env.case.add_requests(client)
            assert set(sandbox.members("vip")) == set(members)
            await session.close()
            await wait_until(lambda: bool(proxy.lines("CONNECT")))
        _check_log(proxy)


@pytest.mark.chaos(
    part=PART,
    done="HTTP_PROXY, HTTPS_PROXY and ALL_PROXY are set, and the base_url is plain http on this machine",
    holds="the proxy is not used, so no key leaves the machine in plain text",
)
async def test_plain_http_uses_no_proxy(chaos_env: ChaosEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http is for this machine only and uses no proxy."""
    asked = 0

    def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server, quick_sandbox() as sandbox:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with chaos_env.client(sandbox.url) as client:
            await chaos_env.upload(client, ids(100))
            chaos_env.case.add_requests(client)
        assert len(sandbox.members("vip")) == 100
        assert asked == 0
        chaos_env.case.add_fact("connections to the proxy: 0")


@pytest.mark.chaos(
    part=PART,
    done="HTTPS_PROXY names a closed port, then a SOCKS proxy",
    holds="ConnectError after the tries, then InvalidInputError at once. Both name HTTPS_PROXY",
)
async def test_unreachable_proxy_is_named(
    chaos_env: ChaosEnv, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the proxy variable."""
    base_url = f"https://127.0.0.1:{silent_port}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:Zw8sPass@127.0.0.1:{silent_port}")
    async with chaos_env.client(base_url, retry=RetryPolicy(attempts=3, initial=0.01)) as client:
        with chaos_env.expect(ConnectError, "HTTPS_PROXY") as caught:
            await client.view("vip")
        assert client.stats.requests == 3
    assert "Zw8sPass" not in str(caught.value)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    async with chaos_env.client(base_url) as client:
        with chaos_env.expect(InvalidInputError, "HTTPS_PROXY"):
            await client.view("vip")
