"""A hand-written baseline of the sync scenarios with `requests`, `csv` and `json`."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import requests

from ..measure.job import read_calls, read_process
from ..measure.processes import Measures
from ..measure.resources import Stopwatch
from ..measure.server_control import begin
from ..servers.sync_stub import NAME, SyncOrder
from ..workload.ids import HEADERS_2X

_CHUNK = 10_000


async def replace_then_patch(url: str, order: dict[str, Any], source: str) -> Measures:
    """Replace the audience with the first chunk of a CSV file, and add the others."""
    begin(url, SyncOrder(**order))
    watch = Stopwatch()
    with requests.Session() as session:
        session.headers.update(HEADERS_2X)
        mirror(session, url, Path(source))
    return {"inside": watch.read()["seconds"], **read_calls(url, "replace", "update"), **read_process()}


def mirror(session: requests.Session, url: str, source: Path) -> None:
    """Send a whole file, without waiting for tokens.

    Args:
        session: A session with the keys.
        url: The server's URL.
        source: The CSV file.
    """
    with source.open(newline="") as file:
        rows = csv.DictReader(file)
        for number in itertools.count():
            chunk = [row["id"] for row in itertools.islice(rows, _CHUNK)]
            if not chunk:
                return
            operation, entry = ("update", {"action": "add"}) if number else ("replace", {})
            body = {"name": NAME, "ids": [{**entry, "id": id_} for id_ in chunk]}
            response = session.post(f"{url}/2.11/audiences/{operation}", json=body, timeout=60)
            response.raise_for_status()
