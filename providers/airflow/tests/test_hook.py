"""Connections of type `batchcom`."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiobatch import App, InvalidInputError, Limits, Project
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from airflow_provider_batchcom import get_provider_info
from airflow_provider_batchcom.hooks.batchcom import BatchcomHook

from .conftest import BIN, connection

REST, KEY = "rest-key-of-a-test", "key-of-a-test"


@pytest.fixture
def hook_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., BatchcomHook]:
    """Return a function that returns the hook of a connection with these fields."""

    def make(**fields: Any) -> BatchcomHook:
        whole = {"conn_type": "batchcom", "login": KEY, "password": REST, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_BATCHCOM_TEST", json.dumps(whole))
        return BatchcomHook("batchcom_test")

    return make


@pytest.mark.parametrize(
    ("api", "kind", "version"),
    [
        (None, Project, "2.11"),
        ("2.x", Project, "2.11"),
        ("2.5", Project, "2.5"),
        ("1.0", App, "1.0"),
        ("1.1", App, "1.1"),
    ],
)
def test_api_decides_the_target(
    hook_of: Callable[..., BatchcomHook], api: str | None, kind: type, version: str
) -> None:
    """The extra `api` decides whether the login is a project's key or an app's."""
    target = hook_of(extra={} if api is None else {"api": api}).get_conn()
    assert isinstance(target, kind)
    assert target.version == version
    assert KEY not in repr(target)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"login": None}, "login"),
        ({"password": ""}, "password"),
        ({"extra": {"api": "3.0"}}, "version"),
        ({"extra": {"rtae": 3}}, "rtae"),
        ({"extra": {"rate": "fast"}}, "rate"),
        ({"extra": {"rate": -1}}, "rate"),
    ],
)
def test_bad_connection_is_refused(
    hook_of: Callable[..., BatchcomHook], fields: dict[str, Any], text: str
) -> None:
    """An incomplete or invalid connection is an error that names the field, and shows no key."""
    with pytest.raises(InvalidInputError, match=text) as caught:
        hook_of(**fields).get_client()
    assert KEY not in str(caught.value)
    assert REST not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "http://127.0.0.1:5"}, "http://127.0.0.1:5"),
        ({"host": "127.0.0.1", "port": 5}, "https://127.0.0.1:5"),
        ({"host": "http://127.0.0.1/", "port": 5}, "http://127.0.0.1:5"),
    ],
)
def test_host_is_the_base_url(hook_of: Callable[..., BatchcomHook], fields: dict[str, Any], url: str) -> None:
    """The host may be a URL, or a name with a port."""
    assert hook_of(**fields).get_client().base_url == url


def test_rate_is_shared_on_the_machine(hook_of: Callable[..., BatchcomHook]) -> None:
    """Tasks and the triggerer on one machine share the rate of the connection."""
    assert hook_of(extra={"rate": 5}).get_client().limits == Limits(rate=5, shared=True)
    assert hook_of(extra={"rate": ""}).get_client().limits == Limits()


@pytest.mark.usefixtures("airflow_home")
def test_connection_is_tested(run_sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test lists an audience, and reports keys that Batch refuses."""
    sandbox = run_sandbox()
    assert BatchcomHook().test_connection() == (True, "Batch accepts the keys.")
    wrong = json.loads(connection(sandbox.url)) | {"password": REST}
    monkeypatch.setenv("AIRFLOW_CONN_BATCHCOM_DEFAULT", json.dumps(wrong))
    works, message = BatchcomHook().test_connection()
    assert not works
    assert "401" in message
    assert not any(key in message for key in (REST, PROJECT_KEY, REST_API_KEY))


def test_client_in_an_event_loop(run_sandbox: Callable[..., Sandbox]) -> None:
    """The triggerer opens a client without blocking its event loop."""
    run_sandbox()

    async def count() -> int:
        async with await BatchcomHook().aget_client() as client:
            return len([each async for each in client.list_audiences()])

    assert asyncio.run(count()) == 0


def test_provider_is_listed(airflow_home: Path) -> None:
    """Airflow lists the provider, and its connection type with the form."""
    assert airflow_home.exists()
    listed = subprocess.run(
        [BIN / "airflow", "providers", "list", "-o", "json"], capture_output=True, check=True, timeout=120
    ).stdout
    assert "airflow-provider-batchcom" in {one["package_name"] for one in json.loads(listed)}
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
    assert manager.hooks["batchcom"] is not None
    assert manager.field_behaviours["batchcom"]["relabeling"]["password"] == "REST API key"
    fields = {name for name in manager.connection_form_widgets if name.startswith("extra__batchcom__")}
    assert fields == {"extra__batchcom__api", "extra__batchcom__rate"}


def test_modules_of_the_provider_info_exist() -> None:
    """Each module that the provider names can be imported."""
    import importlib

    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for part in info[kind]:
            for name in part["python-modules"]:
                importlib.import_module(name)
