"""Writes into the docs which tests prove their statements, from the marks `@pytest.mark.proves(...)` of the tests.

A line `<!-- proved by P1 -->` is followed by the list of the tests that are marked with it. A row of a table
whose first cell is such a name lists them in its last cell; if no test is marked with the name, the row keeps
its last cell, which gives the reason.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PAGES = tuple(ROOT / "docs" / name for name in ("promises.md", "attacks.md", "asvs.md"))
_LISTED = re.compile(r"(?m)^(<!-- proved by (.+) -->\n)\n(?:- `.*`\n)*")


def proofs() -> dict[str, list[str]]:
    """Return the tests by what they prove, each as pytest takes it."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text("utf-8")
        for test, names in _marked(ast.parse(text)) if "mark.proves" in text else ():
            for name in names:
                found.setdefault(name, []).append(f"{path.relative_to(ROOT).as_posix()}::{test}")
    return found


def _marked(module: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.proves":
                    yield node.name, [ast.literal_eval(name) for name in mark.args]


def written(page: str, found: dict[str, list[str]]) -> str:
    """Return the page with today's tests."""

    def listed(match: re.Match[str]) -> str:
        return match[1] + "\n" + "".join(f"- `{test}`\n" for test in found.get(match[2], []))

    return "\n".join(_row(line, found) for line in _LISTED.sub(listed, page).split("\n"))


def _row(line: str, found: dict[str, list[str]]) -> str:
    first, _, rest = line.removeprefix("| ").partition(" | ")
    if not line.startswith("| ") or first not in found:
        return line
    kept, _, _ = rest.removesuffix("|").rpartition("|")
    tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in found[first])
    return f"| {first} | {kept.strip()} | {tests} |"


def main() -> int:
    """Write the pages."""
    found = proofs()
    for page in PAGES:
        page.write_text(written(page.read_text("utf-8"), found), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
