from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

import aiobatch
from aiobatch import events
from aiobatch._logs import log

LOGGER = logging.getLogger("aiobatch.part")
PACKAGE = Path(aiobatch.__file__).parent
# A field in the template of a record: `seconds=%.1f`, `path=%(path)s`.
_FIELD = re.compile(r"(\w+)=%")
_PAGE = PACKAGE.parent / "docs" / "reference" / "loggers.md"
_LEVELS = {"exception": "ERROR"}
# A place in a template: `%r`, `%(path)s`.
_PLACE = re.compile(r"%(?:\(\w+\))?[a-z]")


def test_record_has_the_fields_of_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """Fields are in the text, rounded and quoted where needed, and as they are in the record."""
    log(LOGGER, logging.WARNING, "thing happened", seconds=1 / 3, status=503, path="/a b", audience=None)

    (record,) = caplog.records
    assert record.getMessage() == "thing happened: seconds=0.333 status=503 path='/a b'"
    fields = {"seconds": 1 / 3, "status": 503, "path": "/a b", "audience": None}
    assert fields.items() <= vars(record).items()
    assert (record.name, record.levelname, record.funcName) == (
        "aiobatch.part",
        "WARNING",
        "test_record_has_the_fields_of_its_text",
    )


def test_records_of_a_kind_share_their_template(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that groups records by template puts different values into one group."""
    for status in (429, 503):
        log(LOGGER, logging.WARNING, "thing happened", status=status)

    assert {record.msg for record in caplog.records} == {"thing happened: status=%(status)s"}


def test_record_without_fields_is_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """A text without fields may contain a percent sign."""
    log(LOGGER, logging.WARNING, "100 % happened", audience=None)
    assert [record.getMessage() for record in caplog.records] == ["100 % happened"]


def test_disabled_level_formats_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A record that is not wanted costs no formatting."""
    caplog.set_level(logging.WARNING)

    class Unprintable:
        def __str__(self) -> str:
            raise AssertionError

    log(LOGGER, logging.INFO, "thing happened", value=Unprintable())
    assert caplog.records == []


def _logger_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a logger's method in the package, with its place."""
    levels = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in levels
                and isinstance(node.func.value, ast.Name)
                and "logger" in node.func.value.id
            ):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_every_field_of_a_text_is_in_extra() -> None:
    """A logger that is called with `key=%s` in its text gets `extra`. `log` adds it by itself."""
    calls = [(place, call) for place, call in _logger_calls() if "_logs.py" not in place]
    assert len(calls) > 5
    without = [
        place
        for place, call in calls
        if not any(keyword.arg == "extra" for keyword in call.keywords)
        and any(_FIELD.search(text) for text in _texts(call))
    ]
    assert without == []


def _texts(call: ast.Call) -> list[str]:
    constants = [node.value for node in call.args if isinstance(node, ast.Constant)]
    return [text for text in constants if isinstance(text, str)]


@attrs.frozen(order=True)
class _Line:
    """A log line. `…` is text that differs from record to record."""

    logger: str
    text: str
    levels: str
    fields: str


def _lines_of_the_package() -> Iterator[_Line]:
    """Yield each line that a module of the package can log."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loggers = {
            node.targets[0].id: str(node.value.args[0].value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "logging.getLogger"
            and isinstance(node.value.args[0], ast.Constant)
        }
        functions = [
            node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        inner = {id(call): function for function in functions for call in ast.walk(function)}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if (line := _line(call, inner.get(id(call)), loggers)) is not None:
                yield line


def _line(call: ast.Call, function: ast.AST | None, loggers: Mapping[str, str]) -> _Line | None:
    """Return the line of a call. None if the call logs nothing."""
    match call:
        case ast.Call(func=ast.Name("log"), args=[ast.Name(name), level, text]):
            levels = [ast.unparse(one).removeprefix("logging.") for one in _choices(level, function)]
            fields = [one for keyword in call.keywords for one in _fields(keyword, function)]
        case ast.Call(func=ast.Attribute(ast.Name(name), method), args=[text, *_]) if name in loggers:
            levels = [_LEVELS.get(method, method.upper())]
            extra = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
            fields = [one for value in extra for one in _keys(value, function)]
        case _:
            return None
    return _Line(loggers[name], _text(text, function), " or ".join(sorted(levels)), ", ".join(fields))


def _value(node: ast.expr, function: ast.AST | None) -> ast.expr:
    """Return what the function assigns last to a name before it is used, or else the expression itself."""
    if function is None or not isinstance(node, ast.Name):
        return node
    found = {0: node, **{line: value for line, name, value in _assigned(function) if name == node.id}}
    return found[max(line for line in found if line < node.lineno)]


def _assigned(function: ast.AST) -> Iterator[tuple[int, str, ast.expr]]:
    """Yield the line, the name and the value of each assignment."""
    for one in ast.walk(function):
        match one:
            case ast.Assign(targets=[ast.Name(name)], value=value):
                yield one.lineno, name, value
            case ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value):
                yield one.lineno, name, value
            case ast.Assign(targets=[ast.Tuple(names)], value=ast.Tuple(values)):
                for target, value in zip(names, values, strict=True):
                    yield one.lineno, ast.unparse(target), value


def _choices(node: ast.expr, function: ast.AST | None) -> list[ast.expr]:
    value = _value(node, function)
    return [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]


def _text(node: ast.expr, function: ast.AST | None) -> str:
    """Return the text of a line without its fields, and with `…` for what differs."""
    match _value(node, function):
        case ast.Constant(str() as text):
            head, _, tail = text.partition(": ")
            return _PLACE.sub("…", head if _FIELD.match(tail) else text)
        case ast.JoinedStr(parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
        case _:
            return "…"


def _fields(keyword: ast.keyword, function: ast.AST | None) -> list[str]:
    return [keyword.arg] if keyword.arg else _keys(keyword.value, function)


def _keys(node: ast.expr, function: ast.AST | None) -> list[str]:
    """Return the fields of a dict, or of the event in `attrs.asdict(event)`."""
    match _value(node, function):
        case ast.Dict(keys):
            return [str(key.value) for key in keys if isinstance(key, ast.Constant)]
        case ast.Call(args=[event]):
            match _value(event, function):
                case ast.Call(func=ast.Name(name)):
                    return [field.name for field in attrs.fields(getattr(events, name))]
    return ["…"]


def _lines_of_the_page() -> Iterator[_Line]:
    """Yield each line of docs/reference/loggers.md."""
    logger = ""
    for row in _PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"## (aiobatch\.\w+)", row):
            logger = match[1]
        elif match := re.fullmatch(r"\| ([A-Z or]+) \| `(.+?)` \|(.*?)\| .+ \|", row):
            yield _Line(logger, match[2], match[1], match[3].replace("`", "").strip())


def test_the_reference_lists_every_line() -> None:
    """The page has each line of the package, with its logger, levels and fields, and no other line."""
    assert sorted(set(_lines_of_the_page())) == sorted(set(_lines_of_the_package()))
