from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from aiobatch import App, Project
from aiobatch._secret import Secret
from aiobatch.sync._options import Mode
from aiobatch.sync.state._history import latest_runs, list_runs, show_run
from aiobatch.sync.state._repair import adopt
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey, get_or_create_audience, name_targets, target_names

from .states import open_state, plan

IOS = TargetKey("app", Secret("s3cr3t-ios"))
ANDROID = TargetKey("app", Secret("s3cr3t-android"))
WEB = TargetKey("project", Secret("s3cr3t-web"))


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "state.duckdb"


@pytest.fixture(name="state")
def _state(path: Path) -> Iterator[State]:
    with open_state(path) as state:
        yield state


def run_in(state: State, *scopes: TargetKey) -> list[str]:
    """Run a sync of one audience in each target, and return the target's name in each run."""
    return [adopt(state, plan(state, ["u1"], Mode.ADOPT, target=scope)).target for scope in scopes]


def test_target_is_identified_by_kind_and_key() -> None:
    """An app and a project with the same key differ, and so do audiences of the same name in two targets."""
    app = App(rest_api_key="rest", api_key="one")
    project = Project(rest_api_key="rest", project_key="one")
    scopes = [TargetKey.of(app), TargetKey.of(project), TargetKey("app", Secret("two"))]
    assert scopes[0] == TargetKey("app", Secret("one"))
    assert (
        len({scope.digest for scope in scopes}) == len({scope.audience_key("vip") for scope in scopes}) == 3
    )
    assert TargetKey("app", Secret("a")).audience_key("vip") != TargetKey("app", Secret("")).audience_key(
        "avip"
    )


def test_digests_never_change() -> None:
    """Digests are those in earlier states. With others, no audience would be found."""
    scope = TargetKey("app", Secret("app-key"))
    assert (scope.digest, scope.audience_key("vip")) == ("dabe022f789f0aa3", "5444e64fb4228051")


def test_unnamed_target_has_kind_and_digits(state: State) -> None:
    """Without a config, a target's name is its kind and digits that are not part of its key."""
    assert run_in(state, IOS, ANDROID, WEB) == [IOS.label, ANDROID.label, WEB.label]
    assert [label.split()[0] for label in (IOS.label, ANDROID.label, WEB.label)] == ["app", "app", "project"]
    assert len({IOS.label, ANDROID.label, WEB.label}) == 3


def test_config_names_a_target(state: State) -> None:
    """A config's name applies to all runs, even earlier ones. A run without a config does not change it."""
    run_in(state, IOS)
    name_targets(state, {IOS: "ios", WEB: "web"})
    assert run_in(state, IOS) == ["ios"]
    assert {run.target for run in list_runs(state)} == {"ios"}
    assert {run.target for run in latest_runs(state).values()} == {"ios"}
    name_targets(state, {IOS: "iphone"})
    assert show_run(state, 1).target == "iphone"
    assert target_names(state) == {IOS.digest: "iphone"}


def test_targets_with_one_name_get_digits(state: State) -> None:
    """If two configs use one name for different apps, digits follow the name."""
    name_targets(state, {IOS: "mobile", ANDROID: "mobile", WEB: "mobile"})
    assert run_in(state, IOS) == ["mobile"]
    run_in(state, ANDROID)
    assert target_names(state) == {
        IOS.digest: f"mobile {IOS.digest[:8]}",
        ANDROID.digest: f"mobile {ANDROID.digest[:8]}",
    }


def test_state_without_target_names_can_be_used(path: Path) -> None:
    """Without names, a target is shown as its digits. The next run adds a name."""
    with open_state(path) as state:
        run_in(state, IOS, WEB)
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE targets")
    with State.read(path) as state:
        assert [run.target for run in list_runs(state)] == [WEB.digest[:8], IOS.digest[:8]]
    with open_state(path) as state:
        assert [run.target for run in list_runs(state)] == [WEB.digest[:8], IOS.digest[:8]]
        get_or_create_audience(state, IOS, "vip")
    with State.read(path) as state:
        assert [run.target for run in list_runs(state)] == [WEB.digest[:8], IOS.label]


def test_names_are_recorded_atomically(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while names are recorded leaves the earlier ones."""
    with open_state(path) as state:
        run_in(state, IOS, WEB)
        inner = State.rows

        def dying(state: State, template: str, *args: object, **tables: str) -> object:
            if template.startswith("INSERT INTO targets"):
                raise KeyboardInterrupt
            return inner(state, template, *args, **tables)  # type: ignore[arg-type]  # passed on as they came

        with monkeypatch.context() as patch:
            patch.setattr(State, "rows", dying)
            with pytest.raises(KeyboardInterrupt):
                name_targets(state, {IOS: "ios", WEB: "web"})
    with State.read(path) as state:
        assert target_names(state) == {IOS.digest: IOS.label, WEB.digest: WEB.label}


def test_no_key_is_stored(path: Path) -> None:
    """A state contains digests of keys only, and no error shows a key."""
    with open_state(path) as state:
        run_in(state, IOS, WEB)
    assert all(b"s3cr3t" not in file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    assert "s3cr3t" not in repr(IOS)
