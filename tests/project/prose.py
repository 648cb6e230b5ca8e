"""Finds and measures the English of the project: docs, docstrings, comments and message literals.

`python -m tests.project.prose` prints the figures. Add paths, and it also prints each banned phrase and each
semicolon in them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]

# Phrases that readers stumbled over, as regular expressions, with a better word for each.
BANNED = {
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again",
    r"(some|no)body|whoever|whomever": "name who does it",
    r"gone on with|go(es)? on with": "resume",
    r"under way": "in flight, running",
    r"for ever": "without a limit",
    r"tells?|told|telling": "report, return, log",
    r"can(not)? be meant|meant": "is invalid, is valid",
    r"rid of": "remove",
    r"for the truth|believe[sd]?": "accept, record",
    r"stands?(?! (for|alone)\b)|stood": "is, remains",
    r"says?|said|saying": "print, log, report, state",
    r"(make|makes|made|making) (an|the|each|its|another|one) audiences?(?! (in)?visible)": "create",
    r"ours|theirs": "aiobatch's, Batch's",
    r"be had|to be had": "available",
    r"defects?": "bug, internal error",
    r"shall": "must",
    r"settle the run before": "finish the previous run",
    r"none of (its|the) runs": "has no run",
    r"has (it|them) no more|no more, and": "no longer",
    r"so many members|not one more": "up to N",
    r"members (now|then)": "members before, members after",
    r"to go back to (it|that|them)": "roll back with",
    r"with commas": "comma-separated",
    r"quote those that hold spaces": "unexpected argument",
    r"is tried again": "retrying after N failures",
    r"it has changed at": "it changed at",
    r"signal does not wait": "press again to stop at once",
    r"weighs most": "the most severe one",
    r"what is open of": "the status of",
}
OPENERS = re.compile(r"(Tell|Refuse|Let|Say|How)\b")
LIMITS = {"docs": 2.0, "messages": 2.0, "docstrings": 4.0, "comments": 4.0}

_BANNED = re.compile(r"\b(?:" + "|".join(f"(?:{phrase})" for phrase in BANNED) + r")\b", re.IGNORECASE)
_CODE = re.compile(
    r"^```.*?^```|^    .*?$|``.+?``|`[^`\n]+`|\]\([^)]*\)|https?://\S+|<!--.*?-->", re.MULTILINE | re.DOTALL
)
_INLINE_CODE = re.compile(r"``.+?``|`[^`\n]+`|https?://\S+", re.DOTALL)
_SQL = re.compile(r"\b(SELECT|INSERT|CREATE|DELETE FROM|UPDATE|ALTER|DROP|FROM|WHERE|COPY|ATTACH|WITH)\b")
_LITERAL_OR_COMMENT = re.compile(
    r"""(?P<quotes>\"{3}|'{3}|["'])(?:\\.|(?!(?P=quotes)).)*(?P=quotes)|(?P<comment>\#[^\n]*)""", re.DOTALL
)
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_FEWEST_WORDS = 3


@attrs.frozen
class Text:
    """A piece of prose.

    Attributes:
        kind: docs, docstrings, comments or messages.
        path: the file, relative to the checkout.
        line: its first line there.
        text: the prose, without code.
    """

    kind: str
    path: Path
    line: int
    text: str

    def banned(self) -> list[str]:
        """Return each banned phrase in it, with the place."""
        lines = enumerate(self.text.splitlines(), self.line)
        found = [f"{number}: {match[0]}" for number, line in lines for match in _BANNED.finditer(line)]
        if self.kind == "docstrings" and (opener := OPENERS.match(self.text)):
            found.append(f"{self.line}: {opener[0]} … (as the first word of a docstring)")
        return [f"{self.path}:{each}" for each in found]

    def semicolons(self) -> list[str]:
        """Return each line with a semicolon, with the place."""
        lines = enumerate(self.text.splitlines(), self.line)
        return [f"{self.path}:{number}: {line.strip()}" for number, line in lines if ";" in line]


def read_all() -> Iterator[Text]:
    """Yield all prose of the checkout."""
    folders = ("docs", "providers", ".github")
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in (ROOT / folder).rglob("*.md"))]
    for page in sorted(pages):
        text = _CODE.sub(_blank, page.read_text(encoding="utf-8"))
        yield Text("docs", page.relative_to(ROOT), 1, text)
    for folder in ("aiobatch", "benchmarks", "tests", "docs", "providers"):
        for module in sorted((ROOT / folder).rglob("*.py")):
            yield from _read_module(module.relative_to(ROOT), module.read_text(encoding="utf-8"))


def _blank(code: re.Match[str]) -> str:
    """Replace code by its line breaks, so that line numbers stay right."""
    return "\n" * code[0].count("\n")


def _read_module(path: Path, source: str) -> Iterator[Text]:
    tree = ast.parse(source)
    docstrings = dict(_find_docstrings(tree))
    for line, text in docstrings.values():
        yield Text("docstrings", path, line, _INLINE_CODE.sub(_blank, text))
    for line, text in _find_comments(source):
        yield Text("comments", path, line, _INLINE_CODE.sub(_blank, text))
    if path.parts[0] in {"aiobatch", "benchmarks", "providers"} and "tests" not in path.parts:
        for line, text in _find_messages(tree, set(docstrings)):
            yield Text("messages", path, line, _INLINE_CODE.sub(_blank, text))


def _find_comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment. This is many times faster than the module tokenize."""
    line = seen = 0
    for match in _LITERAL_OR_COMMENT.finditer(source):
        if match["comment"] is not None:
            line += source.count("\n", seen, match.start())
            seen = match.start()
            yield line + 1, match["comment"].lstrip("# ")


def _find_docstrings(tree: ast.Module) -> Iterator[tuple[int, tuple[int, str]]]:
    """Yield each docstring: the identity of its node, its line and its text."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text)) as constant):
                yield id(constant), (constant.lineno, text.strip())


def _find_messages(tree: ast.Module, docstrings: set[int]) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each literal that reads like prose."""
    inside = set[int]()
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=values):
                inside.update(id(part) for part in values)
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in values)
            case ast.Constant(value=str(text)) if id(node) not in inside | docstrings:
                pass
            case _:
                continue
        if len(_WORD.findall(text)) >= _FEWEST_WORDS and " " in text and not _SQL.search(text):
            yield node.lineno, text


def per_thousand_words(texts: list[Text], pattern: str) -> float:
    """Return how often *pattern* matches, per 1,000 words."""
    words = sum(len(_WORD.findall(text.text)) for text in texts)
    return 1_000 * sum(len(re.findall(pattern, text.text)) for text in texts) / max(words, 1)


def main(folders: list[str]) -> None:
    """Print the figures of each kind of text, and the places in *folders*."""
    texts = list(read_all())
    print(f"{'kind':12}{'words':>9}{'semicolons':>12}{'limit':>7}{'you/your':>10}{'banned':>8}")
    for kind, limit in LIMITS.items():
        some = [text for text in texts if text.kind == kind]
        words = sum(len(_WORD.findall(text.text)) for text in some)
        semicolons, you = per_thousand_words(some, ";"), per_thousand_words(some, r"(?i)\byour?\b")
        banned = sum(len(text.banned()) for text in some)
        print(f"{kind:12}{words:9,}{semicolons:12.1f}{limit:7.1f}{you:10.1f}{banned:8}")
    print("(semicolons and you/your per 1,000 words)")
    for text in texts:
        if text.path.as_posix().startswith(tuple(folders)):
            print(
                *text.banned(),
                *text.semicolons(),
                sep="\n",
                end="\n" if text.banned() + text.semicolons() else "",
            )


if __name__ == "__main__":
    main(sys.argv[1:])
