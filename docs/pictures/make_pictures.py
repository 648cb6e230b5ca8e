"""Draw the pictures of the documentation: `make pictures`.

The plots show the tables of docs/benchmarks.md, which `make bench` writes. The polls are those of the real
poller in virtual time, and the layers are those of the import contract in setup.cfg. So every picture can be
drawn again from the repository alone, and the same input gives the same bytes.

Colours and greys are readable on a white and on a dark page, because the background is transparent.
"""

from __future__ import annotations

import asyncio
import configparser
import io
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from aiobatch import AudienceClient, PollingPolicy, Project
from aiobatch.testing import FakeClock, FakeTransport, json_response

DIRECTORY = Path(__file__).parent
_ROOT = DIRECTORY.parents[1]
_GREY, _BLUE, _ORANGE, _GREEN = "#7f8792", "#2f81f7", "#db7c26", "#2da44e"
_COLOURS = (_BLUE, _ORANGE, _GREEN, "#bf5af2", "#e5534b")
_STYLE = {
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _GREY,
    "font.family": "sans-serif",
    "font.size": 11,
    "grid.alpha": 0.25,
    "grid.color": _GREY,
    "legend.labelcolor": _GREY,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "aiobatch",
    "text.color": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
}
# The commands of the terminal's picture. The last source is empty.
_SHOWN = ("aiobatch sync vip users.csv --create", "aiobatch sync vip users.csv")
# The simulated seconds until the token of the poller's picture is applied.
_APPLIED_AFTER = 47.0

Table = Sequence[Mapping[str, str]]


def read_tables(page: str, section: str) -> list[Table]:
    """Return the tables of a section of a page, a row as column -> cell."""
    text = page.partition(f"\n## `{section}`\n")[2].partition("\n## ")[0]
    tables: list[list[list[str]]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|"):
            if not lines[number - 1].startswith("|"):
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return [[dict(zip(head, row, strict=True)) for row in rows] for head, _, *rows in tables]


def read_number(cell: str) -> float:
    """Return the number in a cell."""
    return float(cell.replace(",", ""))


def draw_requests_and_lag(axes: Axes, page: str) -> None:
    """Draw the requests and the lag of each contender that waits for 2,000 tokens."""
    points = [
        (read_number(row["requests a token"]), read_number(row["lag, mean, s"]), row["contender"])
        for row in read_tables(page, "tokens")[0]
    ]
    for number, (x, y, name) in enumerate(sorted(points), start=1):
        colour = _BLUE if name.startswith("aiobatch") else _GREY
        axes.scatter(x, y, s=200, color=colour, label=f"{number:2}  {name}")
        axes.annotate(f"{number}", (x, y), color="white", fontsize=9, ha="center", va="center")
    axes.legend(frameon=False, handlelength=0, loc="upper left", bbox_to_anchor=(1, 1), labelspacing=0.7)
    axes.set(
        xlabel="requests for each token",
        ylabel="mean lag, seconds",
        xlim=(0.5, 8),
        ylim=(0.25, 7),
        yscale="log",
    )
    axes.set_yticks([0.3, 0.5, 1, 2, 5], labels=["0.3", "0.5", "1", "2", "5"], minor=False)
    axes.minorticks_off()
    axes.set_title("2,000 waits: fewer requests and less lag are better", loc="left")


def draw_rate_limit(axes: Axes, page: str) -> None:
    """Draw which share of an unknown limit the client uses."""
    for colour, row in zip(_COLOURS, read_tables(page, "unknown_rate")[0], strict=True):
        limits = {float(name[:-2]): read_number(cell) for name, cell in row.items() if name.endswith("/s")}
        axes.plot(list(limits), list(limits.values()), "o-", color=colour, label=row["contender"])
    axes.set(xlabel="the server's limit, requests/s", ylabel="used share, %", ylim=(80, 100), xscale="log")
    axes.set_xticks([1, 2, 5, 10, 20, 50], labels=["1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.legend(frameon=False, ncols=2)
    axes.set_title("A limit that Batch does not document, found by the client", loc="left")


def draw_sync_resources(axes: Axes, page: str) -> None:
    """Draw the memory and the time of plans by their size."""
    values: dict[str, dict[float, float]] = {"peak bytes": {}, "seconds": {}}
    for row in read_tables(page, "sync_plan")[0]:
        size, _, what = row["measure"].partition(" IDs, ")
        if what in values:
            values[what][read_number(size) / 1e6] = read_number(row["aiobatch"])
    seconds, memory = values["seconds"], values["peak bytes"]
    other = axes.twinx()
    axes.plot(list(seconds), list(seconds.values()), "o-", color=_BLUE)
    other.plot(list(memory), [size / 1e6 for size in memory.values()], "s--", color=_ORANGE)
    axes.set(xlabel="million IDs", ylim=(0, None))
    axes.set_ylabel("seconds (line)", color=_BLUE)
    other.set_ylabel("peak memory, MB (dashes)", color=_ORANGE)
    other.set_ylim(0, 1000)
    other.spines["right"].set_visible(True)
    axes.set_title("A plan with 1 % changes: memory stays bounded", loc="left")


async def _polls() -> list[float]:
    """Return the ages at which the poller polls one token, seconds."""
    clock, polls = FakeClock(), list[float]()

    def answer(_: object) -> object:
        polls.append(clock.monotonic())
        state = "APPLIED" if clock.monotonic() >= _APPLIED_AFTER else "IN_PROGRESS"
        return json_response(200, {"name": "vip", "indexing_state": state})

    project = Project(rest_api_key="rest-key", project_key="project-key")
    transport = FakeTransport(answer)
    parts = {"clock": clock, "rng": random.Random(1), "transport": transport}
    async with AudienceClient(project, polling=PollingPolicy(), **parts) as client:
        await client.await_applied("vip:update:token", audience="vip")
    return polls


def draw_polling(axes: Axes, _: str) -> None:
    """Draw the polls of one token in virtual time."""
    polls = asyncio.run(_polls())
    axes.vlines(polls[:-1], 0, 1, color=_GREY)
    axes.vlines(polls[-1:], 0, 1, color=_GREEN)
    axes.axvspan(0, _APPLIED_AFTER, color=_ORANGE, alpha=0.15, linewidth=0)
    axes.axvspan(_APPLIED_AFTER, polls[-1], color=_BLUE, alpha=0.35, linewidth=0)
    axes.annotate("IN_PROGRESS", (_APPLIED_AFTER / 2, 1.06), ha="center", color=_ORANGE)
    axes.annotate("the lag, then APPLIED", (polls[-1], 1.06), ha="right", color=_GREEN)
    axes.set(xlabel="age of the token, seconds", yticks=[], ylim=(0, 1.3), xlim=(0, None))
    axes.spines["left"].set_visible(False)
    axes.set_title(f"{len(polls)} polls of one token, before anything is known", loc="left")


def _draw_box(axes: Axes, place: tuple[float, float], text: str, colour: str, width: float = 1.6) -> None:
    x, y = place
    box = FancyBboxPatch(
        (x - width / 2, y - 0.25), width, 0.5, boxstyle="round,pad=0.04", facecolor="none", edgecolor=colour
    )
    axes.add_patch(box)
    axes.annotate(text, place, ha="center", va="center", color=colour)


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    axes.annotate("", xytext=start, xy=end, arrowprops={"arrowstyle": "->", "color": _GREY})
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12)
    axes.annotate(text, middle, ha="center", fontsize=9)


def _hide_axes(axes: Axes, width: float, height: float) -> None:
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_run(axes: Axes, _: str) -> None:
    """Draw the life of a chunk of a run."""
    _hide_axes(axes, 11, 3.2)
    row, below = 2.2, 0.7
    for x, name, colour in (
        (1, "planned", _GREY),
        (4, "sending", _ORANGE),
        (7, "sent", _BLUE),
        (10, "applied", _GREEN),
    ):
        _draw_box(axes, (x, row), name, colour)
    for x, name in ((1.9, "stored"), (4.9, "token stored"), (7.9, "polled")):
        _draw_arrow(axes, (x, row), (x + 1.2, row), name)
    _draw_box(axes, (4, below), "unknown", _COLOURS[4])
    _draw_box(axes, (10, below), "a member", _GREEN)
    _draw_arrow(axes, (4, row - 0.35), (4, below + 0.35))
    axes.annotate("killed, or no answer", (4.15, (row + below) / 2), va="center", fontsize=9)
    _draw_arrow(axes, (10, row - 0.35), (10, below + 0.35))
    axes.annotate("The next run asks the source again.", (5, below), va="center", fontsize=9)
    axes.set_title("A chunk of a run. Each state is on disk before the next step", loc="left")


def _layers() -> list[list[str]]:
    """Return the layers of the package, from above, as the import contract names them."""
    config = configparser.ConfigParser()
    config.read(_ROOT / "setup.cfg", encoding="utf-8")
    lines = config["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [[name.strip() for name in line.split("|")] for line in lines]


def draw_layers(axes: Axes, _: str) -> None:
    """Draw the layers of the package. A module imports only what is below it."""
    layers = _layers()
    _hide_axes(axes, 11, len(layers) * 0.75)
    for number, names in enumerate(reversed(layers)):
        width = 10.6 / len(names)
        for column, name in enumerate(names):
            colour = _GREY if name.startswith("_") else _BLUE
            _draw_box(axes, (0.2 + width * (column + 0.5), number * 0.75 + 0.35), name, colour, width - 0.25)
    axes.set_title("A module imports only modules below it. Blue ones are public", loc="left")


def draw_terminal(path: Path) -> None:
    """Draw the first syncs of the transcript that tests/cli/test_golden.py checks."""
    transcript = (_ROOT / "tests" / "cli" / "golden" / "sync.txt").read_text(encoding="utf-8")
    cases = [
        case
        for case in transcript.split("\n\n")
        if any(f"\n$ {command}\n" in f"\n{case}" for command in _SHOWN)
    ]
    console = Console(record=True, width=100, file=io.StringIO())
    for case in cases[:4]:
        for line in case.splitlines():
            if line.startswith("$ "):
                console.print(Text(line, style="bold green"))
            elif not line.startswith("#") and not line.endswith(" in N s"):
                console.print(
                    Text(line.removeprefix("! ").replace(", N s", ""), style="red" if "!" in line else "")
                )
        console.print()
    # Without the fonts, which a browser would load from elsewhere.
    code_format = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    path.write_text(
        console.export_svg(title="aiobatch", code_format=code_format, unique_id="sync"), encoding="utf-8"
    )


# Name -> what draws it, with the size in inches.
PICTURES = {
    "requests-and-lag": (draw_requests_and_lag, (8, 4.5)),
    "rate-limit": (draw_rate_limit, (8, 4)),
    "plan-resources": (draw_sync_resources, (8, 4)),
    "polling": (draw_polling, (8, 2)),
    "run": (draw_run, (8, 2.6)),
    "layers": (draw_layers, (9, 7.5)),
}


def make_pictures(names: Iterable[str], directory: Path) -> None:
    """Draw pictures into a directory."""
    page = (_ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    with mpl.rc_context(_STYLE):
        for name in names:
            draw, size = PICTURES[name]
            figure = Figure(figsize=size, layout="constrained")
            draw(figure.add_subplot(), page)
            figure.savefig(directory / f"{name}.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    make_pictures(PICTURES, DIRECTORY)
    draw_terminal(DIRECTORY / "terminal.svg")
