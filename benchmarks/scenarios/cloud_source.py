"""The cloud_source scenario: one Parquet file, from an object store and from the disk, in turns."""

from __future__ import annotations

import contextlib
import http.client
import os
from pathlib import Path
from typing import Final
from unittest import mock
from urllib.parse import urlsplit

import attrs

from ..measure.processes import Measures, run_in_subprocess, running_server
from ..measure.resources import check
from ..measure.source_read import read_source
from ..results.rows import Baseline, Row, Target, column, make_row
from ..workload.id_files import ids_file

_LOCAL: Final = "the same file on the disk"
_MOST: Final = 1.5
_TWO_MILLION: Final = 2_000_000
_BUCKET: Final = "benchmark"
_KEY: Final = "ids.parquet"


@attrs.frozen(kw_only=True)
class CloudSource:
    """A source in an object store.

    Attributes:
        ids: The number of IDs.
    """

    rounds: int = 3
    ids: int = _TWO_MILLION

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds and CPU seconds of reading."""
        path = ids_file(0, self.ids)
        cloud: list[Measures] = []
        local: list[Measures] = []
        with running_server("benchmarks.servers.s3") as url, mock.patch.dict(os.environ, _environ(url)):
            _upload(url, path)
            for _ in range(rounds):  # in turns, so that other load on the machine meets both
                cloud.append(self._read(f"s3://{_BUCKET}/{_KEY}"))
                local.append(self._read(str(path)))
        # With fewer IDs, the requests before the first byte decide.
        target = Target(sign="<=", bound=_MOST, of="ratio") if self.ids >= _TWO_MILLION else None
        what = f"{self.ids:,} IDs from an S3 server on this machine"
        rows = []
        for key, unit, bound in (("seconds", "seconds", target), ("cpu", "the client's CPU, seconds", None)):
            baseline = Baseline(name=_LOCAL, values=column(local, key))
            rows.append(make_row(name, f"{what}, {unit}", column(cloud, key), baseline, bound))
        return rows

    def _read(self, source: str) -> Measures:
        return run_in_subprocess(read_source, source=source, ids=self.ids)


def _environ(url: str) -> dict[str, str]:
    """Return the environment of a client. The server checks no signature."""
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "any")
    return {**keys, "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}


def _upload(url: str, path: Path) -> None:
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
        with path.open("rb") as file:
            connection.request("PUT", f"/{_BUCKET}/{_KEY}", file)
        check("status of the upload", connection.getresponse().status, http.HTTPStatus.OK)
