"""The cloud_source scenario: one Parquet file, from an object store and from the disk, in turns."""

from __future__ import annotations

import os
from typing import Final
from unittest import mock
from urllib.parse import urlsplit

import attrs

from ..measure.processes import run_in_subprocess, running_server
from ..measure.source_read import read_source
from ..results.rows import Baseline, Row, Target, column, make_row
from ..workload.id_files import ids_file

_LOCAL: Final = "the same file on the disk"
_MOST: Final = 1.5
_BUCKET: Final = "benchmark"


@attrs.frozen(kw_only=True)
class CloudSource:
    """A source in an object store.

    Attributes:
        ids: The number of IDs.
    """

    rounds: int = 3
    ids: int = 2_000_000

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds of reading."""
        path = ids_file(0, self.ids)
        with running_server("benchmarks.servers.s3") as url, mock.patch.dict(os.environ, _environ(url)):
            _upload(url, path.read_bytes())
            # In turns, so that other load on the machine meets both.
            cloud, local = [], []
            for _ in range(rounds):
                cloud.append(
                    run_in_subprocess(read_source, source=f"s3://{_BUCKET}/ids.parquet", ids=self.ids)
                )
                local.append(run_in_subprocess(read_source, source=str(path), ids=self.ids))
        baseline = Baseline(name=_LOCAL, values=column(local, "seconds"))
        target = Target(sign="<=", bound=_MOST, of="ratio")
        what = f"{self.ids:,} IDs from an S3 server on this machine, seconds"
        return [make_row(name, what, column(cloud, "seconds"), baseline, target)]


def _environ(url: str) -> dict[str, str]:
    """Return the environment of a client. The server checks no signature."""
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "any")
    return {**keys, "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}


def _upload(url: str, data: bytes) -> None:
    import http.client  # noqa: PLC0415 - only this scenario

    import obstore  # noqa: PLC0415 - an extra
    from obstore.store import S3Store  # noqa: PLC0415 - as above

    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("PUT", f"/{_BUCKET}")
    connection.getresponse().read()
    connection.close()
    obstore.put(S3Store(_BUCKET, client_options={"allow_http": True}), "ids.parquet", data)
