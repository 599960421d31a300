"""Checks the site that `make docs` has built: links, anchors, nothing from another host, complete API pages.

The API pages are complete if they show every name in `__all__` of every public module of the four packages.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

from scripts.check_wheel import MEANT

__all__ = ["Page", "broken_links", "foreign_resources", "public_modules", "read_site", "undocumented"]


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.resources: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag's addresses."""
        found = {name: value for name, value in attrs if value is not None}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if "src" in found:
            self.resources.add(found["src"])
        if "href" in found:
            loads = tag == "link" and not {"canonical", "next", "prev"} & set(found.get("rel", "").split())
            (self.resources if loads else self.links).add(found["href"])


def read_site(folder: Path) -> dict[Path, Page]:
    """Return every page of the site."""
    return {path: Page(path.read_text("utf-8")) for path in sorted(folder.resolve().rglob("*.html"))}


def broken_links(folder: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield the links and loaded files of the site that do not exist, and links to missing anchors."""
    for path, page in pages.items():
        for link in sorted(page.links | page.resources):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            start = folder.resolve() if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            missing = parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            if missing or not target.exists():
                yield f"{path.relative_to(folder.resolve())} links to {link}, which does not exist"


def foreign_resources(folder: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield what a page would load from another host."""
    for path, page in pages.items():
        for address in sorted(page.resources):
            if urlsplit(address).netloc:
                yield f"{path.relative_to(folder.resolve())} loads {address}"


def public_modules() -> Iterator[ModuleType]:
    """Yield the modules that have an `__all__`, of the four packages, without underscores in their names."""
    for package in map(importlib.import_module, sorted(MEANT)):
        found = [
            package.__name__,
            *(each.name for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
        ]
        for name in found:
            if not any(part.startswith("_") for part in name.split(".")):
                module = importlib.import_module(name)
                if hasattr(module, "__all__"):
                    yield module


def undocumented(modules: list[ModuleType], pages: dict[Path, Page]) -> Iterator[str]:
    """Yield the public names that no API page shows, neither under this module nor under another public one."""
    anchors = set[str]().union(*(page.anchors for page in pages.values()))
    shown = [
        getattr(module, name) for module in modules for name in module.__all__ if f"{module.__name__}.{name}" in anchors
    ]
    for module in modules:
        for name in module.__all__:
            if not any(getattr(module, name) is one for one in shown):
                yield f"no page below docs/api shows {module.__name__}.{name}"


def main(folder: Path) -> int:
    """Print what is wrong; 0 if nothing is."""
    pages = read_site(folder)
    modules = list(public_modules())
    faults = [*broken_links(folder, pages), *foreign_resources(folder, pages), *undocumented(modules, pages)]
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    sys.stdout.write(f"{folder}: {len(pages)} pages, {len(modules)} public modules, {len(faults)} faults\n")
    return 1 if faults or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
