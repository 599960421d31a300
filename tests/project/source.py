"""The project's own source, parsed once."""

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = [
    "ADAPTERS", "CORE", "FILES", "SRC", "Function", "functions", "imports", "imports_for_type_checkers", "name_of",
    "nodes", "tree",
]  # fmt: skip

SRC = Path("src")
CORE = sorted((SRC / "sessioncore").rglob("*.py"))
ADAPTERS = sorted((SRC / "adapters").rglob("*.py"))
FILES = [*CORE, *ADAPTERS]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    root = SRC / "adapters" if path in ADAPTERS else SRC
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def tree(path: Path) -> ast.Module:
    return _trees()[path]


@cache
def _trees() -> dict[Path, ast.Module]:
    """Parse all files, and exempt their trees from garbage collection, which would take twice as long with them."""
    gc.collect()
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
    gc.freeze()
    return trees


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All nodes of a file; they are cached, because to walk through a tree takes longer than to parse the file."""
    return [*ast.walk(tree(path))]


def functions(path: Path) -> Iterator[Function]:
    return (node for node in nodes(path) if isinstance(node, Function))


@cache
def imports(path: Path) -> frozenset[str]:
    """Everything that a file imports, anywhere in it: modules, and other names by their full name."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def imports_for_type_checkers(path: Path) -> frozenset[str]:
    """The names that a file imports under `if TYPE_CHECKING`."""
    blocks = [node for node in nodes(path) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    lines = [line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom)]
    return frozenset(f"{line.module}.{alias.name}" for line in lines for alias in line.names)
