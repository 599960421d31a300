"""The check of the built site finds the faults that it is meant to find."""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
from scripts.check_site import broken_links, foreign_resources, public_modules, read_site, undocumented


def site(folder: Path, body: str) -> Path:
    (folder / "api").mkdir()
    (folder / "index.html").write_text(f'<h1 id="top">Home</h1>{body}', "utf-8")
    (folder / "api" / "store.html").write_text('<h2 id="shop.Store">Store</h2><a href="../#top">Home</a>', "utf-8")
    return folder


GOOD = '<a href="#top"><a href="api/store.html#shop.Store"><a href="/api/store.html"><a href="https://a.example">'
BAD = [
    '<a href="#bottom">', '<a href="api/session.html">', '<a href="api/store.html#shop.Session">',
    '<a href="/store.html">', '<img src="shop.png">',
]  # fmt: skip


@pytest.mark.parametrize(("body", "faults"), [(GOOD, 0), *((link, 1) for link in BAD), ("".join(BAD), len(BAD))])
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, body: str, faults: int) -> None:
    folder = site(tmp_path, body)
    assert len([*broken_links(folder, read_site(folder))]) == faults


SCRIPT, FONT = (
    '<script src="https://cdn.example/a.js"></script>',
    '<link rel="stylesheet" href="https://cdn.example/a">',
)


@pytest.mark.parametrize("body", [SCRIPT, '<img src="//cdn.example/a.png">', FONT])
def test_what_comes_from_another_host_is_found(tmp_path: Path, body: str) -> None:
    folder = site(tmp_path, f'{body}<link rel="canonical" href="https://docs.example/"><a href="https://a.example">')
    assert len([*foreign_resources(folder, read_site(folder))]) == 1


def module(name: str, **things: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(things, __all__=list(things))
    return made


def test_a_public_name_without_an_entry_is_found(tmp_path: Path) -> None:
    pages = read_site(site(tmp_path, ""))
    store = object()

    def missing(modules: Iterable[ModuleType]) -> list[str]:
        return [fault.split()[-1] for fault in undocumented([*modules], pages)]

    assert missing([module("shop", Store=store), module("shop.store", Store=store)]) == []  # the same object
    assert missing([module("shop", Store=store), module("shop.store", Store=object())]) == ["shop.store.Store"]
    assert missing([module("shop", Store=store, Session=object())]) == ["shop.Session"]


def test_the_public_modules_are_those_that_list_names_and_have_none_of_the_private_names() -> None:
    found = {each.__name__ for each in public_modules()}
    assert {"sessioncore", "sessioncore.testing", "sessioncore.storage.redis", "sessioncore_asgi.fastapi"} <= found
    assert not {"sessioncore.session", "sessioncore._store"} & found
