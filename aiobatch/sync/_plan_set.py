"""The plans of several places in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

import attrs
import orjson

from ..errors import InvalidInputError
from ._plan import NO_PLAN, Plan
from ._private_files import save_private

_FORMAT: Final = 1


@attrs.frozen(kw_only=True)
class PlannedPlace:
    """The plan of an audience in an app or project of a config.

    Attributes:
        label: The audience's name in the config.
        target: The app's or project's name in the config. None for the one of the environment.
        plan: The plan.
    """

    label: str
    target: str | None
    plan: Plan


@attrs.frozen(kw_only=True)
class PlanSet:
    """The plans of all places of a config, which one file keeps.

    Attributes:
        config: The absolute path of the config.
        places: The places with their plans, those of one audience next to each other.
    """

    config: Path
    places: tuple[PlannedPlace, ...]

    def save(self, path: Path) -> None:
        """Write the plans to a file, as `Plan.save` does.

        Args:
            path: The file. An existing one is overwritten.

        Raises:
            InvalidInputError: A source holds a password, or can be read only once.
            OSError: The file cannot be written. An existing one is as it was.
        """
        places = [
            {"label": one.label, "target": one.target, "plan": orjson.Fragment(one.plan.to_json())}
            for one in self.places
        ]
        document = {"format": _FORMAT, "config": str(self.config), "places": places}
        save_private(path, orjson.dumps(document, option=orjson.OPT_INDENT_2))

    @classmethod
    def from_json(cls, document: dict[str, object]) -> Self:
        """Return the plans of a document.

        Args:
            document: What `save` wrote.

        Raises:
            InvalidInputError: As for `Plan.from_json`.
        """
        match document:
            case {"format": 1, "config": str(config), "places": list(places), **rest} if not rest:
                return cls(config=Path(config), places=tuple(_read_place(one) for one in places))
        raise InvalidInputError(NO_PLAN)


def _read_place(document: object) -> PlannedPlace:
    match document:
        case {"label": str(label), "target": str() | None as target, "plan": dict(plan), **rest} if not rest:
            return PlannedPlace(label=label, target=target, plan=Plan.from_json(orjson.dumps(plan)))
    raise InvalidInputError(NO_PLAN)


def load_plans(path: Path) -> Plan | PlanSet:
    """Return what `Plan.save` or `PlanSet.save` wrote.

    Args:
        path: The file.

    Raises:
        InvalidInputError: As for `Plan.from_json`.
        OSError: The file cannot be read.
    """
    text = path.read_bytes()
    try:
        try:
            document = orjson.loads(text)
        except ValueError:
            raise InvalidInputError(NO_PLAN) from None
        if isinstance(document, dict) and "places" in document:
            return PlanSet.from_json(document)
        return Plan.from_json(text)
    except InvalidInputError as error:
        msg = f"{path}: {error}"
        raise InvalidInputError(msg) from None
