from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable

import pytest

from aiobatch import errors
from aiobatch.errors import (
    AiobatchError,
    AudienceNotFoundError,
    AuthenticationError,
    ConnectError,
    ForbiddenError,
    IndexingTimeoutError,
    InvalidInputError,
    InvalidRequestError,
    MaintenanceError,
    MalformedResponseError,
    RateLimitedError,
    Remedy,
    RequestTimeoutError,
    ResponseError,
    ServerError,
    SyncError,
    TokenReplacedError,
    TransportError,
    UploadError,
    ViewManyError,
    WaitInterruptedError,
)

_ANSWER = {"method": "GET", "path": "/1.0/***/custom-audience/vip", "attempts": 3}
_NAMED = {"code": 20, "name": "ROUTE_NOT_FOUND", "message": "no such route"}


def _answer(cls: type[ResponseError], status: int, **more: object) -> ResponseError:
    fields: dict[str, object] = {"status": status, **_ANSWER, **_NAMED, **more}
    make: Callable[..., ResponseError] = cls
    return make(f"view of audience 'vip': {status}", **fields)


def _upload_error(**changes: object) -> UploadError:
    fields: dict[str, object] = {
        "audience": "vip",
        "tokens": ["vip:update:t1"],
        "sent": [("add", range(10))],
        "not_sent": [("remove", range(3))],
        "unread": {"add": 10, "remove": 3},
    }
    make: Callable[..., UploadError] = UploadError
    return make(**(fields | changes))


def _view_many_error() -> ViewManyError:
    return ViewManyError.of(
        {"vip": AudienceNotFoundError("gone", status=404, **_ANSWER), "new": ConnectError("refused")}  # type: ignore[arg-type]  # one dict of mixed values
    )


_ERRORS: list[AiobatchError] = [
    AiobatchError("plain"),
    InvalidInputError("add[3]: an id must not be empty"),
    TransportError("broken", attempts=2),
    ConnectError("refused", lasting=True),
    RequestTimeoutError("slow", attempts=6),
    _answer(ResponseError, 418),
    _answer(AuthenticationError, 401),
    _answer(ForbiddenError, 403),
    _answer(AudienceNotFoundError, 404),
    _answer(InvalidRequestError, 400),
    _answer(RateLimitedError, 429, retry_after=2.5),
    _answer(ServerError, 500),
    _answer(MaintenanceError, 503),
    MalformedResponseError("unreadable", problems=["no 'name' @ $"], method="GET", path="/", attempts=2),
    TokenReplacedError(token="vip:update:t", audience="vip"),
    IndexingTimeoutError(token="vip:update:t", audience="vip", last_state=None, polls=3, waited=9.5),
    WaitInterruptedError(token="vip:update:t", audience="vip", last_state="IN_PROGRESS"),
    _view_many_error(),
    _upload_error(),
    SyncError("stopped"),
]


_CLASSES = [cls for name in errors.__all__ if issubclass(cls := getattr(errors, name), Exception)]


def _drawn_tree() -> dict[str, list[str]]:
    """Return the docstring's tree, class -> the names of its bases."""
    tree: dict[str, list[str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        node = re.match(r"    ((?:│   |    )*(?:├── |└── )?)(\w+)(?: \((\w+)\))?", line)
        if node is not None:
            depth = len(node[1]) // 4
            above[depth:] = [node[2]]
            tree[node[2]] = [*above[depth - 1 : depth], *([node[3]] if node[3] else [])]
    return tree


def test_drawn_tree_matches_the_classes() -> None:
    """The docstring's tree contains every class with its bases."""
    drawn = _drawn_tree()
    bases = {cls.__name__: [base.__name__ for base in cls.__bases__] for cls in _CLASSES}
    assert drawn == bases | {"AiobatchError": []}


def test_all_contains_every_class() -> None:
    """`__all__` is sorted and contains every public class of the package, with its public path."""
    public = [name for name, value in vars(errors).items() if inspect.isclass(value) and name[0] != "_"]
    assert errors.__all__ == sorted(public)
    assert {cls.__module__ for cls in _CLASSES} == {"aiobatch.errors"}


def test_samples_are_complete() -> None:
    """The samples contain every class."""
    assert {type(error).__name__ for error in _ERRORS} == {cls.__name__ for cls in _CLASSES}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_pickled(error: AiobatchError, protocol: int) -> None:
    """A pickle keeps the type, message, attributes and notes of every error."""
    error = copy.copy(error)
    error.add_note("while syncing")
    twin = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  # our own pickle
    assert (type(twin), str(twin), twin.__notes__) == (type(error), str(error), ["while syncing"])
    assert _plain(vars(twin)) == _plain(vars(error))
    assert [repr(arg) for arg in twin.args] == [repr(arg) for arg in error.args]


_REASONS: list[tuple[Exception, int | None, str | None, str]] = [
    (
        _answer(ForbiddenError, 403, name="API_MISUSE", advice="Check it."),
        403,
        "API_MISUSE",
        "[403 API_MISUSE",
    ),
    (_answer(ServerError, 500, name=None), 500, None, "[500"),
    (TransportError("The connection broke."), None, None, "The connection broke."),
    (InvalidInputError("add[3]: an ID must not be empty."), None, None, "add[3]"),
    (OSError("no row for zoe@example.com"), None, None, "OSError"),
]


@pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301  # our own pickle
@pytest.mark.parametrize(
    ("reason", "status", "name", "text"), _REASONS, ids=lambda value: type(value).__name__
)
def test_upload_error_keeps_its_reason(
    reason: Exception,
    status: int | None,
    name: str | None,
    text: str,
    duplicate: Callable[[UploadError], UploadError],
) -> None:
    """Text and attributes contain the reason, also after pickling. A foreign error's text is not shown."""
    error = _upload_error(reason=reason)
    error.__cause__ = reason
    for twin in (error, duplicate(error)):
        assert (twin.status, twin.name) == (status, name)
        assert text in str(twin)
        assert text in twin.reason
        assert "zoe" not in str(twin) + twin.reason + repr(vars(twin))
    cause = duplicate(error).__cause__
    assert (str(cause) == str(reason)) == isinstance(reason, AiobatchError)


def _plain(fields: dict[str, object]) -> dict[str, object]:
    """Compare a group's errors by their repr: exceptions are equal to themselves only."""
    return {name: repr(value) if name == "errors" else value for name, value in fields.items()}


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_errors_derive_from_the_root_and_can_be_copied(error: AiobatchError) -> None:
    """`except AiobatchError` catches each error. Copies keep type and message."""
    assert isinstance(error, AiobatchError)
    for twin in (copy.copy(error), copy.deepcopy(error)):
        assert (type(twin), str(twin)) == (type(error), str(error))


@pytest.mark.parametrize("error", [e for e in _ERRORS if isinstance(e, TimeoutError)], ids=str)
def test_timeouts_are_timeout_errors(error: AiobatchError) -> None:
    """`except TimeoutError` catches timeouts, which have one argument and no errno."""
    assert isinstance(error, TimeoutError)
    assert error.args == (str(error),)
    assert error.errno is None


def test_optional_attributes_default_to_none() -> None:
    """Attributes without a value in the response are None or empty."""
    error = RateLimitedError("429", status=429, method="GET", path="/")
    assert (error.code, error.name, error.message, error.retry_after, error.attempts) == (None,) * 4 + (1,)
    bare = MalformedResponseError("empty")
    assert (bare.problems, bare.method, bare.path, bare.attempts) == ((), "", "", 1)


def test_indexing_timeout_says_how_to_resume() -> None:
    """The message contains audience, seconds, polls, the last state and the call that resumes."""
    text = str(
        IndexingTimeoutError(token="vip:update:t", audience="vip", last_state="ODD", polls=3, waited=9.5)
    )
    for part in (
        "'vip'",
        "9.5 s",
        "3 polls",
        "last seen: ODD",
        "await_applied('vip:update:t')",
    ):
        assert part in text


def test_indexing_timeout_without_a_poll() -> None:
    """The message reports that no state was seen."""
    error = IndexingTimeoutError(token="t", audience="vip", last_state=None, polls=0, waited=1)
    assert "last seen: nothing" in str(error)


def test_replaced_error_says_what_to_do() -> None:
    """The message contains the audience and the remedy."""
    text = str(TokenReplacedError(token="vip:update:t", audience="vip"))
    assert "'vip'" in text
    assert "send the IDs again" in text


class TestViewMany:
    """A group of errors with their names."""

    def test_of_pairs_names_with_errors(self) -> None:
        """`errors` maps each name to the error of its view, and the group holds the same errors."""
        group = _view_many_error()
        assert list(group.errors) == ["vip", "new"]
        assert tuple(group.errors.values()) == group.exceptions

    def test_constructor_takes_names_by_keyword(self) -> None:
        """`names=` pairs too. Without it there are errors but no pairs."""
        failed = [ConnectError("a")]
        assert ViewManyError("m", failed, names=["x"]).errors == {"x": failed[0]}
        assert ViewManyError("m", failed).errors == {}

    def test_split_keeps_the_names(self) -> None:
        """Both halves of a split know their names."""
        group = _view_many_error()
        transport, rest = group.split(TransportError)
        assert isinstance(transport, ViewManyError)
        assert isinstance(rest, ViewManyError)
        assert transport.errors == {"new": group.errors["new"]}
        assert rest.errors == {"vip": group.errors["vip"]}

    def test_subgroup_keeps_the_names(self) -> None:
        """A subgroup is of the same class, with its names."""
        part = _view_many_error().subgroup(ResponseError)
        assert isinstance(part, ViewManyError)
        assert list(part.errors) == ["vip"]

    def test_error_under_two_names_is_kept_twice(self) -> None:
        """Names that share one error are both kept."""
        shared = ConnectError("refused")
        part = ViewManyError.of({"a": shared, "b": shared}).subgroup(ConnectError)
        assert isinstance(part, ViewManyError)
        assert part.errors == {"a": shared, "b": shared}

    def test_nested_group_has_no_name(self) -> None:
        """A nested group, which a split takes apart, has no name of its own."""
        part = ViewManyError.of({"vip": _view_many_error()}).subgroup(ConnectError)
        assert isinstance(part, ViewManyError)
        assert part.errors == {}

    def test_except_star_keeps_the_names(self) -> None:
        """`except*` passes each handler the names of its errors."""
        seen: dict[str, list[str]] = {}
        try:
            raise _view_many_error()
        except* AudienceNotFoundError as missing:
            seen["missing"] = list(missing.errors) if isinstance(missing, ViewManyError) else []
        except* TransportError as broken:
            seen["broken"] = list(broken.errors) if isinstance(broken, ViewManyError) else []
        assert seen == {"missing": ["vip"], "broken": ["new"]}

    def test_pickled_errors_are_those_of_the_group(self) -> None:
        """After pickling, `errors` and `exceptions` still share their members."""
        twin = pickle.loads(pickle.dumps(_view_many_error()))  # noqa: S301  # our own pickle
        assert all(a is b for a, b in zip(twin.errors.values(), twin.exceptions, strict=True))


class TestUpload:
    """Uploads that ended early."""

    def test_message_lists_every_position(self) -> None:
        """The message lists what was sent, what was not, what was never read, and the tokens."""
        text = str(_upload_error())
        assert "Accepted: add[0:10]. Not accepted: remove[0:3], add[10:], remove[3:]. " in text
        assert "accepted chunks (1) are in .tokens" in text

    def test_message_of_an_upload_that_sent_nothing(self) -> None:
        """An empty list reads as nothing."""
        text = str(_upload_error(tokens=[], sent=[], unread={}))
        assert "Accepted: nothing. Not accepted: remove[0:3]. " in text

    def test_adjacent_ranges_are_merged(self) -> None:
        """Adjacent chunks are one range, in any order."""
        sent = [("add", range(10, 20)), ("remove", range(5)), ("add", range(10)), ("add", range(30, 40))]
        error = _upload_error(sent=sent)
        assert "Accepted: add[0:20], add[30:40], remove[0:5]. Not" in str(error)
        assert error.sent == (("add", range(20)), ("add", range(30, 40)), ("remove", range(5)))

    def test_many_ranges_are_shortened(self) -> None:
        """The message lists a few ranges, the attribute all."""
        sent = [("add", range(n * 20, n * 20 + 10)) for n in range(1000)]
        error = _upload_error(sent=sent)
        assert "add[80:90], and 995 more ranges. Not" in str(error)
        assert len(error.sent) == 1000


@pytest.mark.parametrize(
    ("remedy", "call"),
    [
        (Remedy("resync", "vip"), "Call `await engine.resync(client, 'vip', source)`."),
        (Remedy("adopt", "vip"), "Call `await engine.adopt(client, 'vip', members)`."),
        (Remedy("forget", "vip"), "Call `await engine.forget(client, 'vip')`."),
        (Remedy("runs", "vip"), "Call `await engine.runs('vip')`."),
        (Remedy("runs"), "Call `await engine.runs()`."),
        (
            Remedy("sync", "vip", {"create": True}),
            "Call `await engine.sync(client, 'vip', source, options=SyncOptions(create=True))`.",
        ),
        (
            Remedy(options={"allow_removals": 3001}),
            "To allow it once, pass overrides=Overrides(allow_removals=3001).",
        ),
    ],
    ids=repr,
)
def test_remedy_renders_as_a_library_call(remedy: Remedy, call: str) -> None:
    """The text of a remedy is the call to make, or the override to pass."""
    assert str(remedy) == call


def test_error_text_ends_with_its_remedy() -> None:
    """`str(error)` ends with the remedy, `error.text` leaves it out, and both survive pickling."""
    error = SyncError("Audience 'vip': the members differ.")
    assert str(error) == error.text == "Audience 'vip': the members differ."
    error.remedy = Remedy("resync", "vip")
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own pickle
    assert str(twin) == f"{error.text} Call `await engine.resync(client, 'vip', source)`."
