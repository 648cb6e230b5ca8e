"""Stubs of the peers' own services, with just enough of each.

A token of the order, `t5` of the audience `a5`, is a peer's operation, task, file or function of that number.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Service:
    """The responses of one peer's service. `%b` is the operation's number."""

    pending: bytes
    done: bytes

    def status_body(self, number: str, *, is_done: bool) -> bytes:
        """Return the body with the status of an operation."""
        return (self.done if is_done else self.pending).replace(b"%b", number.encode())


# By the first segment of the path. The shapes and field names are those of the services.
_SERVICES: Mapping[str, Service] = {
    # https://github.com/microsoft/api-guidelines/blob/vNext/azure/Guidelines.md#long-running-operations
    "azure": Service(b'{"id":"%b","status":"Running"}', b'{"id":"%b","status":"Succeeded"}'),
    # google/longrunning/operations.proto, GetOperation
    "v1": Service(
        b'{"name":"projects/p/operations/%b","done":false}',
        b'{"name":"projects/p/operations/%b","done":true,"response":{"@type":"type.googleapis.com/google.protobuf.Empty"}}',
    ),
    # https://www.algolia.com/doc/rest-api/search/get-task
    "1": Service(
        b'{"status":"notPublished","pendingTask":false}', b'{"status":"published","pendingTask":false}'
    ),
    # https://www.meilisearch.com/docs/reference/api/tasks
    "tasks": Service(
        b'{"uid":%b,"indexUid":"i","status":"processing","type":"documentAdditionOrUpdate",'
        b'"enqueuedAt":"2018-06-29T13:12:09Z"}',
        b'{"uid":%b,"indexUid":"i","status":"succeeded","type":"documentAdditionOrUpdate",'
        b'"enqueuedAt":"2018-06-29T13:12:09Z"}',
    ),
    # https://platform.openai.com/docs/api-reference/vector-stores-files/getFile
    "openai": Service(
        b'{"id":"t%b","object":"vector_store.file","created_at":1530277929,"vector_store_id":"v",'
        b'"usage_bytes":1,"status":"in_progress"}',
        b'{"id":"t%b","object":"vector_store.file","created_at":1530277929,"vector_store_id":"v",'
        b'"usage_bytes":1,"status":"completed"}',
    ),
    # https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html
    "2015-03-31": Service(
        b'{"Configuration":{"FunctionName":"a%b","State":"Pending"}}',
        b'{"Configuration":{"FunctionName":"a%b","State":"Active"}}',
    ),
}


def find_service(path: str) -> Service | None:
    """Return the service of a peer for *path*. None if the path is Batch's."""
    return _SERVICES.get(path[1 : path.find("/", 1)])


def read_number(path: str) -> str:
    """Return the number of the operation at the end of *path*."""
    return path.rpartition("/")[2].lstrip("at")


def locate_operation(path: str) -> str:
    """Return the header with the operation's location of an accepted Azure request, else nothing."""
    return (
        f"Operation-Location: /azure/operations/{read_number(path)}\r\n" if path.startswith("/azure") else ""
    )
