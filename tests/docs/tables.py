"""Tables on the pages of docs/."""

from itertools import dropwhile, takewhile
from pathlib import Path

__all__ = ["table"]

DOCS = Path(__file__).parents[2] / "docs"


def table(page: str, begin: str) -> list[list[str]]:
    """The rows of the first table on a page that is at or below the line that begins so, without its header."""
    below = dropwhile(lambda line: not line.startswith(begin), (DOCS / page).read_text("utf-8").splitlines())
    lines = takewhile(lambda line: line.startswith("|"), dropwhile(lambda line: not line.startswith("|"), below))
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines][2:]
