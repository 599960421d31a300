"""The pages for contributors describe the code as it is: its files, names, tables, import rules and commands."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import NoneType

import pytest
from tests.docs.tables import table
from tests.project.source import FILES, nodes, tree

from sessioncore import EventKind
from sessioncore._errors import KeyTaken, StorageError, StorageUnavailable
from sessioncore._storage_calls import Moved, Stored, Unreadable
from sessioncore.persistence._verdicts import VERDICTS, Verdict, verdict_of
from sessioncore.session._lifecycle import NEXT_PHASE, Action, Phase, Verb

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SRC = ROOT / "src"
# Where a path on a page may begin.
FOLDERS = (SRC / "sessioncore", SRC / "sessioncore" / "storage", SRC / "adapters", SRC, ROOT)
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
PAGES = [
    ROOT / "CONTRIBUTING.md",
    *(DOCS / name for name in ("architecture.md", "glossary.md", "releasing.md")),
    *DECISIONS,
]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
# Names of Python, of its libraries and of other programs. Our own names do not belong here.
FOREIGN = {
    "DeprecationWarning", "Host", "Task.cancel()", "Vary", "await", "dist", "main", "make", "packages", "repr", "site/",
    "sources", "typing_extensions", "warnings.deprecated",
}  # fmt: skip


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def spans(page: Path) -> set[str]:
    """The texts in backticks on a page, outside of code blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`\n]+)`", text))


# -- names


def defined(body: list[ast.stmt]) -> Iterator[str]:
    """The names that these statements define, also below an `if` or `try`."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        elif isinstance(node, ast.If | ast.Try):
            yield from defined(node.body)


def attributes(node: ast.ClassDef) -> set[str]:
    own = {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self"
    }
    return own | set(defined(node.body))


@cache
def names_in_src() -> tuple[set[str], dict[str, set[str]]]:
    """Every name that a module of src defines, and for each class the names of its attributes, bases included."""
    names: set[str] = set()
    classes: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for path in FILES:
        names |= set(defined(tree(path).body))
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                names.add(node.name)
                classes.setdefault(node.name, set()).update(attributes(node))
                bases.setdefault(node.name, []).extend(base.id for base in node.bases if isinstance(base, ast.Name))

    def members(name: str) -> set[str]:
        return classes[name].union(*(members(base) for base in bases[name] if base in classes))

    return names, {name: members(name) for name in classes}


@cache
def names_without_owner() -> set[str]:
    """The names that a page may use alone: those that modules and classes define, extras and events."""
    names, classes = names_in_src()
    events = (kind.value for kind in EventKind)
    return names.union(PROJECT["project"]["optional-dependencies"], events, *classes.values())


def exists(span: str) -> bool:
    """Whether there is such a file, module, class, function or attribute."""
    if "/" in span or span.endswith((".py", ".md", ".toml", ".yaml", ".typed")):  # a path
        return any((folder / span).exists() for folder in FOLDERS) or any(SRC.rglob(span))
    names, classes = names_in_src()
    name = span.removesuffix("()")
    owner, dot, member = name.rpartition(".")
    if not dot:
        return name in names_without_owner() or any((folder / name).exists() for folder in FOLDERS)
    if owner in classes:
        return member in classes[owner]
    return is_module(name) or (is_module(owner) and member in names)


def is_module(name: str) -> bool:
    path = Path(*name.split("."))
    return any((folder / path).is_dir() or (folder / path.with_suffix(".py")).exists() for folder in FOLDERS)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_make_command_file_and_name_on_the_page_exists(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    assert {span.split()[1] for span in spans(page) if span.startswith("make ")} <= set(targets)
    looks_like_a_name = re.compile(r"[A-Za-z_][\w./]*(\(\))?")
    named = {span for span in spans(page) if looks_like_a_name.fullmatch(span)} - FOREIGN
    assert sorted(span for span in named if not exists(span)) == []


def test_a_name_that_is_gone_is_noticed() -> None:
    assert exists("SessionStore.exchange") and exists("session/_state.py") and exists("Pending")  # noqa: PT018
    gone = ["SessionStore.exchanged", "session/_draft.py", "Draft", "Draft.settle", "sessioncore.engine"]
    assert [name for name in gone if exists(name)] == []


# -- tables


def test_the_architecture_page_has_the_lifecycle_of_the_code() -> None:
    verbs = [verb.name.lower() for verb in Verb]
    phases = [phase.name.lower() for phase in Phase]
    expected = [[NEXT_PHASE[phase][verb] for verb in Verb] for phase in Phase]
    assert table("architecture.md", f"| phase | {' | '.join(verbs)} |") == [
        [name, *("-" if after is None else after.name.lower() for after in row)]
        for name, row in zip(phases, expected, strict=True)
    ]


def test_the_architecture_page_has_the_verdicts_of_the_code() -> None:
    rows: dict[str, type | bool] = {
        "a version": int, "Stored": Stored, "Moved": Moved, "Unreadable": Unreadable, "None": NoneType, "True": True,
        "False": False, "KeyTaken": KeyTaken, "StorageError": StorageError, "StorageUnavailable": StorageUnavailable,
    }  # fmt: skip
    columns = (Action.CREATE, Action.REPLACE, Action.MOVE, Action.TOUCH, Action.FIND)

    def verdict(action: Action, answer: type | bool) -> str:
        if isinstance(answer, bool):
            found = verdict_of(action, answer) if action is Action.TOUCH else None
        else:
            found = VERDICTS[action].get(answer)
        return "-" if found is None else found.value

    listed = {row[0]: row[1:] for row in table("architecture.md", "| answer | create |")}
    assert listed == {name: [verdict(action, answer) for action in columns] for name, answer in rows.items()}


def test_the_architecture_page_says_what_a_commit_does_after_each_verdict() -> None:
    assert sorted(row[0] for row in table("architecture.md", "| verdict |")) == sorted(one.value for one in Verdict)


def test_the_glossary_is_sorted_and_gives_each_word_one_meaning() -> None:
    field = [row[0] for row in table("glossary.md", "| word | meaning |")]
    text = (DOCS / "glossary.md").read_text("utf-8")
    every = [row for row in re.findall(r"^\| ([^|]+?) \| [^|]+ \|$", text, re.MULTILINE) if row != "word"]
    ours = every[len(field) :]
    assert every[: len(field)] == field
    assert field == sorted(field, key=str.lower)
    assert ours == sorted(ours, key=str.lower)
    assert len(every) == len({word.lower() for word in every})


# -- import rules and commands


def test_the_architecture_page_lists_the_layers_that_the_linter_checks() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    lists = ["\n".join(contract["layers"]) for contract in contracts if "containers" in contract]
    assert len(lists) == 2
    assert set(lists) <= set(re.findall(r"^```text\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE))


def test_no_folder_hides_a_make_command() -> None:
    [phony] = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)) == set(phony.split())


def test_the_git_hooks_run_what_make_check_runs() -> None:
    [recipe] = re.findall(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    assert re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE) == commands


def test_the_list_of_decisions_has_every_page() -> None:
    listed = re.findall(r"\]\((\S+\.md)\)", (DOCS / "decisions" / "index.md").read_text("utf-8"))
    assert sorted(listed) == [page.name for page in DECISIONS if page.name != "index.md"]


@pytest.mark.parametrize("page", [page for page in DECISIONS if page.name != "index.md"], ids=page_id)
def test_a_decision_says_why_and_what_was_rejected(page: Path) -> None:
    text = page.read_text("utf-8")
    assert [part for part in ("**Decided.**", "**Why.**", "**Rejected.**") if part not in text] == []
