"""The connection to Batch.com."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Final

from airflow.sdk import BaseHook, Connection
from airflow.sdk.log import mask_secret

from aiobatch import AiobatchError, App, AudienceClient, InvalidInputError, Limits, Project, RetryPolicy

_DEFAULT: Final = "batchcom_default"
_APP_VERSIONS: Final = ("1.0", "1.1")
_ANY_PROJECT_VERSION: Final = "2.x"
_EXTRA: Final = ("api", "rate")
# A person waits for the answer, so one failure is enough.
_ONCE: Final = RetryPolicy(attempts=1)


class BatchcomHook(BaseHook):
    """Reads a connection of type `batchcom`, and opens clients for it.

    The connection's login is the project's key, or an app's API key. Its password is the REST API key, and
    its host is the base URL, if it is not Batch's own. The extra `api` is the API version, and `rate` limits
    the requests per second of all tasks on one machine.

    Attributes:
        batchcom_conn_id: The connection's ID.
    """

    conn_name_attr = "batchcom_conn_id"
    default_conn_name = _DEFAULT
    conn_type = "batchcom"
    hook_name = "Batch.com"

    batchcom_conn_id: str

    def __init__(self, batchcom_conn_id: str = _DEFAULT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batchcom_conn_id = batchcom_conn_id

    def get_conn(self) -> App | Project:
        """Return the app or project of the connection.

        Raises:
            InvalidInputError: The connection is incomplete or invalid.
        """
        return _read_target(self.get_connection(self.batchcom_conn_id))

    def get_client(self, **kwargs: Any) -> AudienceClient:
        """Return a client, for use as `async with hook.get_client() as client`.

        Args:
            **kwargs: Arguments of `AudienceClient`, which win over the connection's.

        Raises:
            InvalidInputError: The connection or an argument is invalid.
        """
        return _make_client(self.get_connection(self.batchcom_conn_id), kwargs)

    async def aget_client(self, **kwargs: Any) -> AudienceClient:
        """Return a client, as `get_client` does, without blocking the event loop.

        Args:
            **kwargs: As for `get_client`.

        Raises:
            InvalidInputError: The connection or an argument is invalid.
        """
        return _make_client(await self.aget_connection(self.batchcom_conn_id), kwargs)

    def test_connection(self) -> tuple[bool, str]:
        """List one audience. Return whether Batch accepts the keys, and a sentence about it."""
        try:
            asyncio.run(_list_one(self.get_client(retry=_ONCE)))
        except AiobatchError as error:
            return False, str(error)
        return True, "Batch accepts the keys."


def _read_target(connection: Connection) -> App | Project:
    extra = _read_extra(connection)
    rest_key, key = connection.password, connection.login
    # Airflow masks passwords by itself, but not a login, and a 1.x API key is part of the URL.
    mask_secret([rest_key, key])
    if not rest_key or not key:
        what = "password: the REST API key" if not rest_key else "login: the project's key or API key"
        msg = f"Connection {connection.conn_id!r} has no {what}."
        raise InvalidInputError(msg)
    version = extra.get("api") or _ANY_PROJECT_VERSION
    if version in _APP_VERSIONS:
        return App(rest_api_key=rest_key, api_key=key, version=version)
    if version == _ANY_PROJECT_VERSION:
        return Project(rest_api_key=rest_key, project_key=key)
    return Project(rest_api_key=rest_key, project_key=key, version=version)


def _read_extra(connection: Connection) -> dict[str, Any]:
    """Return the connection's extra fields. Raise InvalidInputError for an unknown one."""
    extra: dict[str, Any] = connection.extra_dejson
    if unknown := sorted(set(extra) - set(_EXTRA)):
        listed = ", ".join(unknown)
        msg = f"Connection {connection.conn_id!r} has unknown extra fields: {listed}. Known are api and rate."
        raise InvalidInputError(msg)
    return extra


def _base_url(connection: Connection) -> str | None:
    if not connection.host:
        return None
    url = connection.host if "://" in connection.host else f"https://{connection.host}"
    return url if connection.port is None else f"{url.rstrip('/')}:{connection.port}"


def _make_client(connection: Connection, kwargs: dict[str, Any]) -> AudienceClient:
    target, rate = _read_target(connection), _read_extra(connection).get("rate")
    defaults: dict[str, Any] = {"base_url": _base_url(connection)}
    if rate not in (None, ""):
        defaults["limits"] = Limits(rate=_to_number(rate), shared=True)
    return AudienceClient(target, **defaults | kwargs)


def _to_number(rate: Any) -> float:
    try:
        return float(rate)
    except (TypeError, ValueError):
        msg = "The connection's extra field rate must be a number of requests per second."
        raise InvalidInputError(msg) from None


async def _list_one(client: AudienceClient) -> None:
    async with client, aclosing(client.list_audiences()) as audiences:
        await anext(audiences, None)
