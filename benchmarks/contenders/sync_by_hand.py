"""The others' side of the sync scenarios: the loop that users have, with `requests`, `csv` and `json`."""

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
    """Bring the audience in line with a CSV file: replace it by the first chunk, add the others."""
    begin(url, SyncOrder(**order))
    watch = Stopwatch()
    with requests.Session() as session:
        session.headers.update(HEADERS_2X)
        mirror(session, url, Path(source))
    return {"inside": watch.read()["seconds"], **read_calls(url, "replace", "update"), **read_process()}


def mirror(session: requests.Session, url: str, source: Path) -> None:
    """Send a whole file, whatever of it is there already; for tokens it does not wait.

    Args:
        session: Has the keys.
        url: The server's.
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
