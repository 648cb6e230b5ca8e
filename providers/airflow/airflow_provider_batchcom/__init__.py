"""Airflow provider of Batch.com: bring audiences in line with their sources, and wait without a worker."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

_DISTRIBUTION: Final = "airflow-provider-batchcom"
_PACKAGE: Final = "airflow_provider_batchcom"
_KINDS: Final = ("hooks", "operators", "sensors", "triggers")


def get_provider_info() -> dict[str, Any]:
    """Return the description of the provider that Airflow reads from the entry point."""
    parts = {
        kind: [{"integration-name": "Batch.com", "python-modules": [f"{_PACKAGE}.{kind}.batchcom"]}]
        for kind in _KINDS
    }
    return {
        "package-name": _DISTRIBUTION,
        "name": "Batch.com",
        "description": "Sync audiences of `Batch.com <https://batch.com/>`__ with any source.",
        "versions": [version(_DISTRIBUTION)],
        "integrations": [{"integration-name": "Batch.com", "external-doc-url": "https://doc.batch.com/"}],
        **parts,
        "connection-types": [_CONNECTION],
    }


_CONNECTION: Final[dict[str, Any]] = {
    "connection-type": "batchcom",
    "hook-class-name": f"{_PACKAGE}.hooks.batchcom.BatchcomHook",
    "hook-name": "Batch.com",
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port", "extra"],
        "relabeling": {
            "host": "Base URL",
            "login": "Project key, or an app's API key",
            "password": "REST API key",
        },
        "placeholders": {"host": "Batch's own"},
    },
    "conn-fields": {
        "api": {
            "label": "API version",
            "description": "2.x with a project key. 1.0 or 1.1 with an app's API key.",
            "schema": {"type": "string", "default": "2.x"},
        },
        "rate": {
            "label": "Requests per second",
            "description": "All tasks on one machine share this limit. Empty: no limit.",
            "schema": {"type": ["number", "null"]},
        },
    },
}
