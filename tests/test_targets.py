from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable
from typing import cast

import attrs
import pytest

from aiobatch._secret import Secret
from aiobatch.errors import InvalidInputError
from aiobatch.options import App, Project
from aiobatch.transport import check_base_url

REST_KEY = "r3st-0123456789abcdef"
KEY = "k3y-0123456789abcdef"
_ENV = {"BATCH_REST_API_KEY": REST_KEY, "BATCH_API_KEY": KEY, "BATCH_PROJECT_KEY": KEY}

_make_app = cast("Callable[..., App]", App)
_make_project = cast("Callable[..., Project]", Project)


def _app(**changes: object) -> App:
    """Build an App from any arguments."""
    return _make_app(**({"rest_api_key": REST_KEY, "api_key": KEY} | changes))


def _project(**changes: object) -> Project:
    return _make_project(**({"rest_api_key": REST_KEY, "project_key": KEY} | changes))


WRONG_KEYS: list[tuple[object, str]] = [
    ("", "must not be empty. Copy the key from Batch's dashboard"),
    (" \t\n", "must not be empty"),
    (f"{KEY}\n", r"without spaces or a newline. Copy only the key"),
    (f"{KEY}\r\nX-Injected: 1", "without spaces or a newline"),
    (f"{KEY} {KEY}", "without spaces"),
    (f"{KEY}é", "must be printable ASCII"),
    (f"{KEY}\0", "must be printable ASCII"),
    (None, "must be a string, not NoneType"),
    (471147114711, "must be a string, not int"),
    (KEY.encode(), "must be a string, not bytes"),
    ([KEY], "must be a string, not list"),
]


def _as_logged(error: BaseException) -> str:
    """Return the traceback of an error with the local variables of every frame outside this file."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    shown = traceback.TracebackException(type(error), error, frames, capture_locals=True)
    return "".join(shown.format()) + repr(error)


class TestKeys:
    """Keys are checked and never shown."""

    @pytest.mark.parametrize(("key", "words"), WRONG_KEYS, ids=range(len(WRONG_KEYS)))
    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (_app, "App.rest_api_key"),
            (_app, "App.api_key"),
            (_project, "Project.rest_api_key"),
            (_project, "Project.project_key"),
        ],
    )
    def test_wrong_keys(self, make: Callable[..., object], name: str, key: object, words: str) -> None:
        """An invalid key is rejected by its name, and no frame of the traceback contains it."""
        with pytest.raises(InvalidInputError, match=rf"^{name} .*{words}") as caught:
            make(**{name.partition(".")[2]: key})
        logged = _as_logged(caught.value)
        assert "__init__" in logged
        assert "value = ***" in logged
        assert not any(part in logged for part in (KEY, REST_KEY, "4711"))

    @pytest.mark.parametrize("key", ["a/b", "a%2e", "..", ".", "a?b", "a#b", "a:b"])
    def test_key_cannot_change_the_path(self, key: str) -> None:
        """A key in the URL's path cannot lead to another path."""
        with pytest.raises(InvalidInputError, match=r"^App\.api_key is part of the URL's path") as caught:
            _app(api_key=key)
        assert f"= {key!r}" not in _as_logged(caught.value)
        assert _project(project_key=key).project_key.reveal() == key

    @pytest.mark.parametrize("key", ["a.b", "A-b_9~", "...a"])
    def test_key_may_contain_dots(self, key: str) -> None:
        """Dots beside other characters are valid."""
        assert _app(api_key=key).api_key == Secret(key)

    @pytest.mark.parametrize(
        "arguments", [{}, {"rest_api_key": REST_KEY}, {"rest_api_key": REST_KEY, "apikey": KEY}]
    )
    @pytest.mark.parametrize("make", [_make_app, _make_project])
    def test_wrong_arguments_show_no_key(
        self, make: Callable[..., object], arguments: dict[str, str]
    ) -> None:
        """A TypeError shows no key either."""
        with pytest.raises(TypeError) as caught:
            make(**arguments)
        assert not any(key in _as_logged(caught.value) for key in (KEY, REST_KEY))

    def test_keys_are_keyword_only(self) -> None:
        """Keys look alike, so they are passed by name only."""
        with pytest.raises(TypeError) as caught:
            _make_app(REST_KEY, KEY)
        assert not any(key in _as_logged(caught.value) for key in (KEY, REST_KEY))


@pytest.mark.parametrize("target", [_app(), _project()], ids=["app", "project"])
class TestTargets:
    """Targets show no key."""

    def test_nothing_shows_a_key(self, target: App | Project) -> None:
        """No way of printing a target shows a key."""
        shown = [
            repr(target),
            str(target),
            f"{target} {target!r:>50}",
            repr(copy.copy(target)),
            repr(copy.deepcopy(target)),
            repr(attrs.asdict(target)),
            repr(attrs.asdict(target, recurse=True)),
            repr(attrs.astuple(target)),
            repr([getattr(target, field.name) for field in attrs.fields(type(target))]),
            repr(target.__getstate__()),
        ]
        assert not any(key in text for key in (KEY, REST_KEY) for text in shown)
        assert "***" in shown[0]

    def test_target_has_no_dict(self, target: App | Project) -> None:
        """A target has no dict that could be logged."""
        with pytest.raises(TypeError):
            vars(target)

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_target_cannot_be_pickled(self, target: App | Project, protocol: int) -> None:
        """The error names the alternative and shows no key."""
        with pytest.raises(
            TypeError, match=r"A key cannot be pickled. Read it again .* App\.from_env\(\)"
        ) as caught:
            pickle.dumps(target, protocol)
        assert not any(key in _as_logged(caught.value) for key in (KEY, REST_KEY))

    def test_copies_are_equal(self, target: App | Project) -> None:
        """Copies keep the keys."""
        assert copy.copy(target) == copy.deepcopy(target) == target
        assert hash(copy.copy(target)) == hash(target)
        assert copy.deepcopy(target).rest_api_key.reveal() == REST_KEY

    def test_evolve_keeps_the_keys(self, target: App | Project) -> None:
        """`attrs.evolve` takes the wrapped keys."""
        version = "1.1" if isinstance(target, App) else "2.1"
        evolved = attrs.evolve(target, version=version)
        assert (evolved.version, evolved.rest_api_key) == (version, target.rest_api_key)


class TestVersions:
    """The versions of each target."""

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_versions_of_an_app(self, version: str) -> None:
        """An App uses 1.0 or 1.1."""
        assert _app(version=version).version == version

    @pytest.mark.parametrize("version", ["2.11", "1.2", "", "1.0 ", 1.0, None, [], KEY])
    def test_app_rejects_other_versions(self, version: object) -> None:
        """The message names the class for 2.x. It does not show the value, which might be a key."""
        with pytest.raises(
            InvalidInputError, match=r"^App\.version must be .* 1\.0, 1\.1\. Use Project for 2\.x\.$"
        ):
            _app(version=version)

    @pytest.mark.parametrize("version", ["2.1", "2.11", "2.99", "2.100"])
    def test_versions_of_a_project(self, version: str) -> None:
        """A Project uses any 2.x."""
        assert _project(version=version).version == version

    @pytest.mark.parametrize(
        "version", ["1.1", "2", "2.", "2.01", "2.x", "2.1\n", "2.\u0661", "3.0", 2.11, None, KEY]
    )
    def test_project_rejects_other_versions(self, version: object) -> None:
        """The message names the class for 1.x."""
        with pytest.raises(InvalidInputError, match=r"^Project\.version must be .*\. Use App for 1\.x\.$"):
            _project(version=version)

    def test_default_versions(self) -> None:
        """The defaults are 1.0 and 2.11."""
        assert (_app().version, _project().version) == ("1.0", "2.11")


class TestFromEnv:
    """Targets from environment variables."""

    def test_app(self) -> None:
        """An App needs both keys and may have a version."""
        assert App.from_env(_ENV) == _app()
        assert App.from_env(_ENV | {"BATCH_API_VERSION": "1.1"}) == _app(version="1.1")

    def test_project(self) -> None:
        """A Project likewise."""
        assert Project.from_env(_ENV) == _project()
        assert Project.from_env(_ENV | {"BATCH_API_VERSION": "2.3"}) == _project(version="2.3")

    def test_default_is_the_environment_of_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an argument the process's own environment is read."""
        for variable, value in _ENV.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("BATCH_API_VERSION", "")
        assert App.from_env() == _app()
        assert Project.from_env() == _project()

    @pytest.mark.parametrize(
        ("cls", "variable"),
        [
            (App, "BATCH_REST_API_KEY"),
            (App, "BATCH_API_KEY"),
            (Project, "BATCH_REST_API_KEY"),
            (Project, "BATCH_PROJECT_KEY"),
        ],
    )
    @pytest.mark.parametrize("value", [None, ""])
    def test_missing_variables(self, cls: type[App | Project], variable: str, value: str | None) -> None:
        """The message names a missing or empty variable, and no frame of the traceback contains a key."""
        env = {name: text for name, text in _ENV.items() if name != variable}
        env |= {} if value is None else {variable: value}
        with pytest.raises(
            InvalidInputError, match=f"environment variable {variable} is not set or is empty"
        ) as caught:
            cls.from_env(env)
        self._shows_no_key(caught.value)

    @pytest.mark.parametrize("cls", [App, Project])
    @pytest.mark.parametrize("change", [{"BATCH_API_VERSION": "9"}, {"BATCH_REST_API_KEY": f"{REST_KEY}\n"}])
    def test_invalid_variables(self, cls: type[App | Project], change: dict[str, str]) -> None:
        """An invalid key or version is rejected, and no frame of the traceback contains a key."""
        with pytest.raises(
            InvalidInputError, match=rf"^{cls.__name__}\.(version|rest_api_key) must be"
        ) as caught:
            cls.from_env(_ENV | change)
        self._shows_no_key(caught.value)

    def test_environment_is_in_no_frame(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No frame of the traceback contains the process's environment."""
        monkeypatch.setenv("BATCH_REST_API_KEY", REST_KEY)
        monkeypatch.delenv("BATCH_API_KEY", raising=False)
        with pytest.raises(InvalidInputError, match="BATCH_API_KEY") as caught:
            App.from_env()
        self._shows_no_key(caught.value)

    @staticmethod
    def _shows_no_key(error: BaseException) -> None:
        logged = _as_logged(error)
        assert "from_env" in logged
        assert not any(key in logged for key in (KEY, REST_KEY))


class TestBaseUrl:
    """The origin to send to."""

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("https://api.batch.com", "https://api.batch.com"),
            ("https://api.batch.com/", "https://api.batch.com"),
            ("HTTPS://API.Batch.com:8443", "https://api.batch.com:8443"),
            ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.9.9.9", "http://127.9.9.9"),
            ("http://localhost:1", "http://localhost:1"),
            ("HTTP://LocalHost", "http://localhost"),
            ("http://[::1]:80", "http://[::1]:80"),
        ],
    )
    def test_origins(self, url: str, origin: str) -> None:
        """An https origin, or an http one on this machine, is returned without its slash."""
        assert check_base_url(url) == origin

    @pytest.mark.parametrize(
        "url",
        [
            "http://192.168.0.1",
            "http://0.0.0.0",
            "http://[2001:db8::1]",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://127.1",
        ],
    )
    def test_plain_http_is_for_loopback_only(self, url: str) -> None:
        """Plain http to any other host would send keys unencrypted."""
        with pytest.raises(
            InvalidInputError,
            match=r"^base_url must use https\..* only for a loopback address\. For a",
        ):
            check_base_url(url)

    @pytest.mark.parametrize("by_variable", [False, True])
    @pytest.mark.parametrize(
        "url",
        ["http://192.168.0.1", "HTTP://Sandbox:8765", "http://[2001:db8::1]", "http://batch.com.example"],
    )
    def test_plain_http_to_another_machine_is_allowed_on_request(
        self, monkeypatch: pytest.MonkeyPatch, url: str, by_variable: bool
    ) -> None:
        """The argument or the variable allows it. The argument wins."""
        if by_variable:
            monkeypatch.setenv("BATCH_ALLOW_HTTP", "1")
        assert check_base_url(url, allow_http=None if by_variable else True) == url.lower()
        with pytest.raises(InvalidInputError, match="must use https"):
            check_base_url(url, allow_http=False)

    @pytest.mark.parametrize(
        "url",
        [
            "http://api.batch.com",
            "HTTP://API.BATCH.COM:80",
            "http://batch.com",
            "http://batch.com.",
            "http://api.batch.com.",
            "http://a.b.batch.com",
        ],
    )
    def test_plain_http_to_batch_is_never_allowed(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        """Neither the argument nor the variable sends real keys to Batch unencrypted."""
        monkeypatch.setenv("BATCH_ALLOW_HTTP", "1")
        for allow_http in (None, True, False):
            with pytest.raises(InvalidInputError, match=r"Plain http to Batch .* is never allowed"):
                check_base_url(url, allow_http=allow_http)

    @pytest.mark.parametrize("value", ["", "0"])
    def test_variable_that_is_off_allows_nothing(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        """An empty variable and 0 are off."""
        monkeypatch.setenv("BATCH_ALLOW_HTTP", value)
        with pytest.raises(InvalidInputError, match="set BATCH_ALLOW_HTTP=1"):
            check_base_url("http://sandbox")

    def test_switch_must_be_clear(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Any other value of the argument or the variable is an error."""
        for value in (1, "1", 0, "yes"):
            with pytest.raises(InvalidInputError, match=r"^allow_http must be True, False or None"):
                check_base_url("http://sandbox", allow_http=cast("bool", value))
        monkeypatch.setenv("BATCH_ALLOW_HTTP", "yes")
        with pytest.raises(InvalidInputError, match=r"^BATCH_ALLOW_HTTP must be 1 or 0\.$"):
            check_base_url("http://sandbox")

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "api.batch.com",
            "ftp://api.batch.com",
            "https://",
            "https:///x",
            "https://user:pass@api.batch.com",
            "https://api.batch.com/1.0",
            "https://api.batch.com//",
            "https://api.batch.com?x",
            "https://api.batch.com#x",
            "https://api.batch.com:99999",
            "https://api.batch.com:",
            "https://api.batch.com:x",
            "https://[::1",
            "https://[:::1]",
            "https://a b",
            " https://api.batch.com",
            "https://api.batch.com\n",
            "http\u017f://api.batch.com",
            "http://localhost\\@api.batch.com",
            b"https://api.batch.com",
            7,
        ],
    )
    def test_base_url_must_be_an_origin(self, url: object) -> None:
        """Other URLs are rejected, and not shown, because they may contain a password."""
        with pytest.raises(
            InvalidInputError, match=r"^base_url must be an origin such as 'https://api.batch.com'"
        ) as caught:
            check_base_url(cast("str", url))
        assert "pass" not in str(caught.value)

    @pytest.mark.parametrize("value", [None, ""])
    def test_default_is_batch(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        """Without an argument and a variable, or with an empty one, it is Batch's own."""
        monkeypatch.delenv("BATCH_BASE_URL", raising=False)
        if value is not None:
            monkeypatch.setenv("BATCH_BASE_URL", value)
        assert check_base_url(None) == "https://api.batch.com"

    def test_variable_is_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """BATCH_BASE_URL is the default, and is checked like an argument."""
        monkeypatch.setenv("BATCH_BASE_URL", "http://127.0.0.1:9/")
        assert check_base_url(None) == "http://127.0.0.1:9"
        assert check_base_url("https://api.batch.com") == "https://api.batch.com"
        for url in ("http://api.batch.com", "nowhere"):
            monkeypatch.setenv("BATCH_BASE_URL", url)
            with pytest.raises(InvalidInputError, match=r"^BATCH_BASE_URL must"):
                check_base_url(None)
