"""The mask of `doctor`: its output can be pasted into a bug report, and its commands still work."""

from __future__ import annotations

import getpass
import socket

import pytest

from aiobatch.cli.commands.doctor._mask import Mask


def test_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, hosts, users, homes and addresses are masked. A masked path still works in a shell."""
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(socket, "gethostname", lambda: "host-7")
    env = {"HOME": "/home/alice", "MY_KEY": "k3y-value", "PGPASSWORD": "pw", "BATCH_BASE_URL": "https://x.y"}
    mask = Mask.of([env], ["proxy.corp", "api.batch.com"])
    for text, shown in {
        "key k3y-value": "key ***",
        "/home/alice/state.duckdb": "~/state.duckdb",
        "'/home/alice/my state'": "~/'my state'",
        "/home/alice": "~",
        "/data/alice/s.duckdb": "/data/${USER}/s.duckdb",
        "malice": "malice",
        "proxy.corp:80 and host-7": "HOST:80 and HOST",
        "s3://bucket/x of https://api.batch.com": "s3://… of https://api.batch.com",
        "postgresql://u:p@h/x": "postgresql://…",
        "http://[x": "http://…",
        'role "alice" does not exist': 'role "${USER}" does not exist',
        "alice@h": "${USER}@h",
    }.items():
        assert mask(text) == shown


@pytest.mark.parametrize("user", ["sync", "settle", "state", "disk", "free", "aiobatch"])
def test_a_user_named_like_a_word_breaks_no_command(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is printed stays the same, and a path still has the user's name masked."""
    monkeypatch.setattr(getpass, "getuser", lambda: user)
    mask = Mask.of([{"HOME": "/root"}], [])
    for text in (
        "Run `aiobatch sync vip` or `aiobatch settle vip --state x.duckdb`.",
        "1.0 GB are free for the state, which has 0.1 GB of the disk.",
    ):
        assert mask(text) == text
    assert mask(f"/data/{user}/s.duckdb of {user}@host") == "/data/${USER}/s.duckdb of ${USER}@host"
