from __future__ import annotations

import pytest

from aiobatch.cli.commands._sandbox import _exports

ALLOW = "export BATCH_ALLOW_HTTP=1"


@pytest.mark.parametrize(
    ("url", "host", "allows"),
    [
        ("http://127.0.0.1:80", "127.0.0.1", None),
        ("http://[::1]:80", "::1", None),
        ("http://172.17.0.2:80", "172.17.0.2", ALLOW),
        ("http://127.0.0.1:80", "sandbox", f"# {ALLOW}"),
    ],
)
def test_printed_lines_allow_http_where_it_is_needed(url: str, host: str, allows: str | None) -> None:
    """A client needs permission for an address of another machine, and for a loopback address none."""
    lines = _exports(url, host)
    assert f"export BATCH_BASE_URL={url}" in lines
    assert [line for line in lines if "ALLOW_HTTP" in line] == ([] if allows is None else [allows])
