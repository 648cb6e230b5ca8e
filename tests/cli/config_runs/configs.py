"""A config of two apps and a project, and audiences to add to it."""

from __future__ import annotations

from pathlib import Path

TARGETS = """
[defaults]
create = true
state = "state.duckdb"

[apps.ios]
rest_api_key = "${BATCH_REST_API_KEY}"
api_key = "${IOS_KEY}"

[apps.android]
rest_api_key = "${BATCH_REST_API_KEY}"
api_key = "${ANDROID_KEY}"
rate = 1000

[projects.main]
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"
"""
VIP = """
[audiences.vip]
source = "users.csv"
apps = ["ios", "android"]
"""
TRIAL = """
[audiences.trial]
source = "trial.csv"
projects = ["main"]
"""


def configure(text: str, name: str = "aiobatch.toml") -> str:
    """Write a config and return its path."""
    Path(name).write_text(TARGETS + text, encoding="utf-8")
    return name
