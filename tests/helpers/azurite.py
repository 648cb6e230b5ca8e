"""Azurite, Microsoft's local Azure Blob Storage, if it is installed: `npm install --global azurite`."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from .ports import reserved_port

_ACCOUNT: Final = "devstoreaccount1"
# The key of every Azurite, from its documentation.
_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
# Seconds until it listens, at most.
_PATIENCE: Final = 60.0


@contextlib.contextmanager
def running_azurite(container: str, directory: Path) -> Iterator[Mapping[str, str]]:
    """Run Azurite with an empty container. Yield the environment of a client."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("Azurite is not installed: npm install --global azurite")
    with reserved_port() as port:
        options = [
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--blobPort",
            str(port),
        ]
        with subprocess.Popen([program, *options], cwd=directory) as server:
            try:
                _create_container(port, container)
                yield {
                    "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
                    "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
                    "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{_ACCOUNT}",
                }
            finally:
                server.terminate()


def _create_container(port: int, name: str) -> None:
    """Create a container when the server listens. The request is signed with the account's key."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    canonical = "".join(f"{key}:{value}\n" for key, value in headers.items())
    resource = f"/{_ACCOUNT}/{_ACCOUNT}/{name}\nrestype:container"
    text = "PUT" + "\n" * 12 + canonical + resource
    digest = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    deadline = time.monotonic() + _PATIENCE
    while True:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            try:
                connection.request("PUT", f"/{_ACCOUNT}/{name}?restype=container", headers=headers)
                answer = connection.getresponse()
            except ConnectionError:
                assert time.monotonic() < deadline, "Azurite does not listen"
                time.sleep(0.1)
            else:
                assert answer.status == 201, answer.read()
                return
