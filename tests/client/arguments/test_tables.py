from __future__ import annotations

import array
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import orjson
import pytest

from aiobatch import AudienceClient, InvalidInputError, Member, UploadError
from aiobatch._tables import ArrowColumn
from aiobatch.interfaces import Request, Response
from aiobatch.models import AttributeInput
from aiobatch.testing import FakeTransport, json_response

from .rejections import TARGETS, collect
from .tables import COLUMNS, MISSING, TABLES, Array, Dtype, File, NaTType, Scalar, UncollectedColumn

_LETTERS = array.array("w" if sys.version_info >= (3, 13) else "u", "u1")
CALLS: Mapping[str, Callable[[AudienceClient, Any], Any]] = {
    "update add": lambda client, ids: client.update("vip", add=ids),
    "update remove": lambda client, ids: client.update("vip", remove=ids),
    "replace": lambda client, ids: client.replace("vip", ids),
    "upload add": lambda client, ids: client.upload("vip", add=ids),
    "upload remove": lambda client, ids: client.upload("vip", remove=ids),
}


@pytest.fixture
def version() -> str:
    """The check is the same in every version."""
    return "2.x"


def accept(request: Request) -> Response:
    """Accept a write, or show an audience."""
    state = {"indexing_token": "t", "name": "u1", "type": "CUSTOM_ID", "indexing_state": "APPLIED"}
    return json_response(202 if request.method == "POST" else 200, state)


@pytest.fixture
async def server() -> FakeTransport:
    """A server that accepts everything."""
    return FakeTransport(accept)


@pytest.fixture
async def client(server: FakeTransport) -> AsyncIterator[AudienceClient]:
    """A client of that server."""
    async with AudienceClient(TARGETS["2.x"], transport=server) as client:
        yield client


def _import(name: str) -> Any:
    """Import a real library, or skip the test."""
    return pytest.importorskip(name, reason=f"{name} is not installed: make .venv/.frames")


def sent_ids(server: FakeTransport) -> list[str]:
    """Return the IDs that were sent."""
    return [row["id"] for request in server.requests for row in orjson.loads(request.body)["ids"]]


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("kind", list(TABLES))
async def test_table_is_not_a_list_of_ids(offline_client: AudienceClient, kind: str, call: str) -> None:
    """The names of columns and the values of a record are not IDs, and nothing is sent."""
    with pytest.raises(InvalidInputError, match=r"must be (a list|an iterable) of IDs.*Pass a column"):
        await CALLS[call](offline_client, TABLES[kind])


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("text", ["u1", b"u1", _LETTERS], ids=["str", "bytes", "array"])
async def test_text_is_not_a_list_of_ids(offline_client: AudienceClient, text: Any, call: str) -> None:
    """The letters of a text are not IDs, and nothing is sent."""
    with pytest.raises(InvalidInputError, match=r"must be (a list|an iterable) of IDs.*For one ID write"):
        await CALLS[call](offline_client, text)


@pytest.mark.parametrize("kind", sorted(TABLES.keys() - {"mapping"}))
async def test_table_is_not_a_list_of_names(offline_client: AudienceClient, kind: str) -> None:
    """The same holds for audience names and tags."""
    with pytest.raises(InvalidInputError, match=r"names must be an iterable of names.*Pass a column"):
        await collect(offline_client.view_many(TABLES[kind]))
    with pytest.raises(InvalidInputError, match=r"tags must be a list of strings.*Pass a column"):
        Member("u1", tags=TABLES[kind])


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("kind", list(COLUMNS))
async def test_column_is_a_list_of_ids(
    server: FakeTransport, client: AudienceClient, kind: str, call: str
) -> None:
    """A column, a 1-D array and any collection of strings are accepted."""
    await CALLS[call](client, COLUMNS[kind])
    assert sent_ids(server) == ["u1", "u2"]


@pytest.mark.parametrize("call", list(CALLS))
async def test_wrapped_file_is_not_a_list_of_ids(offline_client: AudienceClient, call: str) -> None:
    """A temporary file is recognized by its methods."""
    with pytest.raises(InvalidInputError, match="not a file"):
        await CALLS[call](offline_client, File())


@pytest.mark.parametrize("call", list(CALLS))
async def test_column_without_values_is_rejected(offline_client: AudienceClient, call: str) -> None:
    """What only seems to be iterable is invalid input, also beside a valid list."""
    with pytest.raises(InvalidInputError, match="cannot be iterated"):
        await CALLS[call](offline_client, UncollectedColumn())
    with pytest.raises(InvalidInputError, match="cannot be iterated"):
        await offline_client.upload("vip", add=["u1"], remove=UncollectedColumn())


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("kind", list(MISSING))
async def test_missing_value_is_rejected_by_position(
    offline_client: AudienceClient, kind: str, call: str
) -> None:
    """A missing value in a column is invalid input, whatever operators it has."""
    items = ("u1", "u0", MISSING[kind])
    name = call.rsplit(maxsplit=1)[-1].replace("replace", "members")
    with pytest.raises(InvalidInputError, match=rf"^{name}\[2\]: an ID must be a string"):
        await CALLS[call](offline_client, Array(items, ndim=1))
    with pytest.raises(InvalidInputError, match=rf"^{name}\[2\]: an ID must be a string"):
        await CALLS[call](offline_client, list(items))


@pytest.mark.parametrize("row", [["u1", "gold"], ("u1",), {"user_id": "u1"}, TABLES["row"]])
async def test_rows_are_rejected_by_position(offline_client: AudienceClient, row: Any) -> None:
    """A row among the IDs is rejected, and the message suggests a column."""
    with pytest.raises(InvalidInputError, match=r"^members\[1\]: .*Pass a column, not rows"):
        await offline_client.replace("vip", ["u0", row])


class Rows:
    """A row of a 2-D array, whose comparison has no truth value."""

    def __lt__(self, other: object) -> bool:
        raise ValueError

    __gt__ = __lt__


async def test_rows_of_a_stream_are_the_cause(client: AudienceClient) -> None:
    """The rows of an iterator end an upload like any other invalid ID."""
    with pytest.raises(UploadError) as caught:
        await client.upload("vip", add=iter([Rows(), Rows()]))  # type: ignore[arg-type]  # the mistake tested
    assert isinstance(caught.value.__cause__, InvalidInputError)


@pytest.mark.parametrize(("kind", "value"), [("i", 5), ("u", 2**40), ("b", True), ("f", 0.5)])
def test_number_of_a_library_is_a_number(kind: str, value: object) -> None:
    """Attributes take a library's scalars as Python's own numbers and booleans, in lists too."""
    scalar = Scalar(value, Dtype(kind))
    member = Member("u1", attributes={"one": scalar, "many": [scalar]})
    assert member.attributes == {"one": value, "many": (value,)}
    assert type(member.attributes["one"]) is type(value)


@pytest.mark.parametrize(
    "scalar",
    [
        Scalar(5, Dtype("M")),
        Scalar(NaTType(), Dtype("f")),
        Scalar(float("nan"), Dtype("f")),
        *MISSING.values(),
    ],
)
@pytest.mark.parametrize("name", ["age", "date(born)", "url(page)"])
def test_other_scalar_is_rejected_by_name(name: str, scalar: object) -> None:
    """A time would become an integer, and a missing value has no meaning as an attribute."""
    with pytest.raises(InvalidInputError, match=r"^attributes\['"):
        Member("u1", attributes={name: cast("AttributeInput", scalar)})


def test_arrow_column_is_a_collection() -> None:
    """It has what a collection has, and converts a portion at a time."""
    column = ArrowColumn(COLUMNS["arrow array"])
    assert len(column) == 2
    assert "u1" in column
    assert "u3" not in column


REAL_TABLES: Mapping[str, Callable[[Any], Any]] = {
    "pandas frame": lambda pandas: pandas.DataFrame({"user_id": ["u1"]}),
    "pandas groups": lambda pandas: pandas.DataFrame({"user_id": ["u1"]}).groupby("user_id"),
    "pandas multi-index": lambda pandas: pandas.MultiIndex.from_tuples([("u1", "u2")]),
    "polars frame": lambda polars: polars.DataFrame({"user_id": ["u1"]}),
    "polars lazy frame": lambda polars: polars.LazyFrame({"user_id": ["u1"]}),
    "polars struct": lambda polars: polars.Series([{"user_id": "u1"}]),
    "pyarrow table": lambda pyarrow: pyarrow.table({"user_id": ["u1"]}),
    "pyarrow batch": lambda pyarrow: pyarrow.record_batch({"user_id": ["u1"]}),
    "pyarrow struct": lambda pyarrow: pyarrow.array([{"user_id": "u1"}]),
    "numpy 2-D": lambda numpy: numpy.array([["u1", "u2"]]),
    "numpy 0-D": lambda numpy: numpy.array("u1"),
    "numpy structured": lambda numpy: numpy.array([("u1", "u2")], dtype=[("a", "U2"), ("b", "U2")]),
    "numpy record": lambda numpy: numpy.array([("u1", "u2")], dtype=[("a", "U2"), ("b", "U2")])[0],
    "numpy masked": lambda numpy: numpy.ma.array(["u1", "u2"], mask=[False, True]),
    "pandas NA": lambda pandas: pandas.Series(["u1", pandas.NA], dtype="string"),
    "pandas NaN": lambda pandas: pandas.Series(["u1", float("nan")], dtype=object),
    "pandas NaT": lambda pandas: [pandas.NaT],
    "polars null": lambda polars: polars.Series(["u1", None]),
    "pyarrow null": lambda pyarrow: pyarrow.array(["u1", None]),
}
REAL_COLUMNS: Mapping[str, Callable[[Any], Any]] = {
    "pandas series": lambda pandas: pandas.Series(["u1", "u2"], index=["columns", "keys"]),
    "pandas string series": lambda pandas: pandas.Series(["u1", "u2"], dtype="string"),
    "pandas category": lambda pandas: pandas.Series(["u1", "u2"], dtype="category"),
    "pandas index": lambda pandas: pandas.Index(["u1", "u2"]),
    "polars series": lambda polars: polars.Series(["u1", "u2"]),
    "pyarrow array": lambda pyarrow: pyarrow.array(["u1", "u2"]),
    "pyarrow chunked": lambda pyarrow: pyarrow.chunked_array([["u1"], ["u2"]]),
    "pyarrow dictionary": lambda pyarrow: pyarrow.array(["u1", "u2"]).dictionary_encode(),
    "numpy unicode": lambda numpy: numpy.array(["u1", "u2"]),
    "numpy object": lambda numpy: numpy.array(["u1", "u2"], dtype=object),
}


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("kind", list(REAL_TABLES))
async def test_real_table_is_not_a_list_of_ids(offline_client: AudienceClient, kind: str, call: str) -> None:
    """The doubles match the libraries, where these are installed."""
    library = _import(kind.split(maxsplit=1)[0])
    with pytest.raises(InvalidInputError):
        await CALLS[call](offline_client, REAL_TABLES[kind](library))


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("kind", list(REAL_COLUMNS))
async def test_real_column_is_a_list_of_ids(
    server: FakeTransport, client: AudienceClient, kind: str, call: str
) -> None:
    """The same holds for columns."""
    library = _import(kind.split(maxsplit=1)[0])
    await CALLS[call](client, REAL_COLUMNS[kind](library))
    assert sent_ids(server) == ["u1", "u2"]


def test_real_numbers_are_numbers() -> None:
    """NumPy's numbers and booleans are accepted, its times and pandas' missing values are not."""
    numpy, pandas = _import("numpy"), _import("pandas")
    values = {"int": numpy.int64(5), "bool": numpy.bool_(True), "half": numpy.float32(0.5)}
    assert Member("u1", attributes=values).attributes == {"int": 5, "bool": True, "half": 0.5}
    for value in (
        pandas.NaT,
        pandas.NA,
        numpy.ma.masked,
        numpy.float32("nan"),
        numpy.datetime64("2020-01-01", "ns"),
    ):
        for name in ("age", "date(born)"):
            with pytest.raises(InvalidInputError):
                Member("u1", attributes={name: value})


@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "pyarrow"])
def test_client_imports_no_table_library(library: str) -> None:
    """Tables are recognized by their attributes."""
    module = importlib.import_module("aiobatch._tables")
    assert library not in vars(module)
