"""A real nginx in front of a sandbox."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from ...helpers.ports import reserved_port

_PROGRAM = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
# Its own log leaves paths out, because they hold a key in 1.x.
_CONFIG = """
daemon off; worker_processes 1; pid "{directory}/pid"; error_log "{directory}/error.log"; {user}
events {{ worker_connections 512; }}
http {{
    log_format short '$status $connection'; access_log "{directory}/access.log" short;
    client_body_temp_path "{directory}/a"; proxy_temp_path "{directory}/b"; fastcgi_temp_path "{directory}/c";
    uwsgi_temp_path "{directory}/d"; scgi_temp_path "{directory}/e";
    client_max_body_size 64m; limit_req_zone $server_port zone=all:1m rate=20r/s;
    server {{
        listen {address} {tls}; {directives}
        location / {{
            proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection ""; {location}
        }}
    }}
}}
"""
needs_nginx = pytest.mark.skipif(_PROGRAM is None, reason="nginx is not installed: apt-get install nginx")


@attrs.frozen(kw_only=True)
class Certificate:
    """A server certificate and its authority.

    Attributes:
        chain: The file of the certificate and its key.
        authority: The file of the authority's certificate.
    """

    chain: Path
    authority: Path


@attrs.define(kw_only=True)
class Nginx:
    """A running nginx.

    Attributes:
        url: Its URL.
        directory: The directory of its files.
    """

    url: str
    directory: Path

    def statuses(self) -> Counter[int]:
        """Count the responses by status."""
        return Counter(int(line.split()[0]) for line in self._log())

    def connections(self) -> int:
        """Count the connections with a request."""
        return len({line.split()[1] for line in self._log()})

    def _log(self) -> list[str]:
        return (self.directory / "access.log").read_text(encoding="ascii").splitlines()


@contextlib.contextmanager
def running_nginx(
    directory: Path,
    upstream: int,
    *,
    directives: str = "",
    location: str = "",
    certificate: Certificate | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Nginx]:
    """Run nginx in front of a port of this machine.

    Args:
        directory: The directory of its files.
        upstream: The port.
        directives: Directives of `server`.
        location: Directives of `location`.
        certificate: Its certificate. None for plain http.
        host: The address to listen on.
    """
    if certificate is not None:
        directives += f' ssl_certificate "{certificate.chain}"; ssl_certificate_key "{certificate.chain}";'
    with reserved_port(host) as port:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        config = _CONFIG.format(
            directory=directory,
            user="user root;" if os.geteuid() == 0 else "",
            address=address,
            tls="ssl" if certificate else "",
            directives=directives,
            location=location,
            upstream=f"127.0.0.1:{upstream}",
        )
        with _started(directory, config) as process:
            _wait_until_it_listens(process, host, port)
            yield Nginx(url=f"{'https' if certificate else 'http'}://{address}", directory=directory)


@contextlib.contextmanager
def _started(directory: Path, config: str) -> Iterator[subprocess.Popen[str]]:
    """Start nginx, and stop it at the end."""
    path = directory / "nginx.conf"
    path.write_text(config, encoding="utf-8")
    command = [str(_PROGRAM), "-c", str(path), "-e", str(directory / "error.log"), "-p", str(directory)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_it_listens(process: subprocess.Popen[str], host: str, port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.01)
        else:
            return
