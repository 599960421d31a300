"""Every Python block of README.md and docs/ runs, and the tables of the reference pages are complete.

The blocks of one page share a namespace and run in order, in an empty folder. Two HTML comments are
understood: `<!-- test: ... -->` holds code that checks what the text says about the block before it, and
`<!-- not run: reason -->` on the line before a block leaves it out. The code in comments can use the
clients `browser(app)` for ASGI applications and `aiohttp_browser(app)`.
"""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct
from servers.postgres_server import PostgresServer
from servers.redis_server import Server
from tests.docs.tables import table
from tests.store.test_audit import WEAK

import sessioncore
from sessioncore import EventKind, SessionConfig, audit
from sessioncore.session._lifecycle import TRANSITIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
ROOT_PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*ROOT_PAGES, *(page for page in sorted(DOCS.rglob("*.md")) if EXAMPLES not in page.parents)]
TEXTS = {page: page.read_text("utf-8") for page in PAGES}
MAY_BE_LEFT_OUT = 4  # blocks in all pages together; each needs a reason
RECIPES = {"authlib", "quart", "sqladmin", "starlette_admin"}  # modules of the extra `recipes`


class Block(Struct, frozen=True):
    """Code of a page, and the number of its first line there."""

    line: int
    code: str
    reason: str | None = None  # why it does not run


_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n+)?```python[^\n]*\n(?P<shown>.*?)^```$"
    r"|^<!-- test:\n(?P<hidden>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)


def blocks(page: Path, *, hidden: bool = True) -> list[Block]:
    text = TEXTS[page]
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        if match["hidden"] is not None and not hidden:
            continue
        group = "hidden" if match["hidden"] is not None else "shown"
        found.append(Block(text.count("\n", 0, match.start(group)) + 1, match[group], match["reason"]))
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def page_params() -> Generator[Any]:
    for page in PAGES:
        text = TEXTS[page]
        marks: list[pytest.MarkDecorator] = []
        if "REDIS_URL" in text:
            marks.append(pytest.mark.redis)
        if "POSTGRES_DSN" in text:
            marks.append(pytest.mark.postgres)
        yield pytest.param(page, id=name_of(page), marks=marks)


@pytest.fixture(scope="module")
def postgres_dsn(postgres: PostgresServer) -> str:
    return postgres.new_database()


@asynccontextmanager
async def running(app: Any) -> AsyncGenerator[None]:
    """Run an ASGI application's lifespan, as a server does."""
    to_app, in_app = anyio.create_memory_object_stream[dict[str, Any]](2)
    to_us, here = anyio.create_memory_object_stream[dict[str, Any]](2)
    async with to_app, in_app, to_us, here, anyio.create_task_group() as tasks:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        tasks.start_soon(app, scope, in_app.receive, to_us.send)
        await to_app.send({"type": "lifespan.startup"})
        assert (await here.receive())["type"] == "lifespan.startup.complete"
        yield
        await to_app.send({"type": "lifespan.shutdown"})
        assert (await here.receive())["type"] == "lifespan.shutdown.complete"


@asynccontextmanager
async def browser(app: Any, **options: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """A client with a cookie jar, on https; `Client(app)` makes another one for the same running application."""
    async with running(app), httpx.AsyncClient(**_where(app, options)) as client:
        yield client


def Client(app: Any, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(**_where(app, options))


def _where(app: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {"transport": httpx.ASGITransport(app), "base_url": "https://shop.example", **options}


@asynccontextmanager
async def aiohttp_browser(app: web.Application) -> AsyncGenerator[aiohttp.ClientSession]:
    """A client with a cookie jar for an aiohttp application, on plain http."""
    async with TestServer(app) as server:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(base_url=server.make_url("/"), cookie_jar=jar) as client:
            yield client


@pytest.fixture
def namespace(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What the blocks of a page start with: the clients, the servers whose addresses they read, an empty folder."""
    if "REDIS_URL" in TEXTS[page]:
        server: Server = request.getfixturevalue("server")
        server.do("FLUSHALL")
        monkeypatch.setenv("REDIS_URL", server.url)
    if "POSTGRES_DSN" in TEXTS[page]:
        monkeypatch.setenv("POSTGRES_DSN", request.getfixturevalue("postgres_dsn"))
    monkeypatch.chdir(tmp_path)
    module = empty_module("page_" + re.sub(r"\W", "_", name_of(page)))
    vars(module).update(browser=browser, Client=Client, aiohttp_browser=aiohttp_browser)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return vars(module)


def empty_module(name: str) -> ModuleType:
    """Return a module for code of a page; it has no spec, because Python 3.15 warns of a spec without a loader."""
    module = ModuleType(name)
    del module.__spec__
    return module


@pytest.mark.anyio
@pytest.mark.parametrize("page", [*page_params()])
async def test_every_block_of_the_page_runs(page: Path, namespace: dict[str, Any]) -> None:
    for block in blocks(page):
        if block.reason is None:
            # Blank lines before it give the block the line numbers that it has on the page.
            source = "\n" * (block.line - 1) + block.code
            code = compile(source, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            try:
                result = eval(code, namespace)  # code of our own pages
            except ModuleNotFoundError as exc:
                if exc.name not in RECIPES:
                    raise
                pytest.skip(f"{exc.name} is in the extra `recipes`")
            if inspect.iscoroutine(result):
                await result


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    reasons = [block.reason for page in PAGES for block in blocks(page) if block.reason is not None]
    assert len(reasons) <= MAY_BE_LEFT_OUT
    assert all(len(reason.split()) > 2 for reason in reasons)


def test_no_python_of_a_page_escapes_the_extractor() -> None:
    for page in PAGES:
        text = TEXTS[page]
        begins = [text.splitlines()[block.line - 2] for block in blocks(page)]
        shown = sum(begin.startswith("```python") for begin in begins)
        assert shown == len(re.findall(r"^\s*```python", text, re.MULTILINE)), name_of(page)
        assert len(begins) - shown == text.count("<!-- test:"), name_of(page)


def test_links_between_pages_lead_somewhere() -> None:
    broken: list[str] = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if "://" not in target and not (file.exists() and (not anchor or anchor in anchors(file))):
                broken.append(f"{name_of(page)} links to {target}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings. mkdocs and GitHub make the same ones, if the headings are plain words."""
    headings = re.findall(r"^#+ (.+)$", TEXTS[page], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_navigation_has_every_page() -> None:
    listed = re.findall(r"^ +- (?:.+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES if page.parent != ROOT)


def test_the_lifecycle_page_has_the_table_of_the_code() -> None:
    listed = {(phase, verb): after for phase, verb, after in table("lifecycle.md", "## Phases and verbs")}
    assert listed == {
        (phase.name.lower(), verb.name.lower()): after.name.lower() for (phase, verb), after in TRANSITIONS.items()
    }


def test_the_configuration_page_has_the_defaults_of_the_code() -> None:
    config = SessionConfig()
    for name, _, default, _ in table("configuration.md", "## Fields"):
        value = getattr(config, name)
        if value is None or isinstance(value, (bool, int, str)):
            shown = default.removesuffix(" bytes").strip('"')
            assert shown == str(value), name


def test_the_first_pages_make_the_same_promises() -> None:
    pages = [TEXTS[ROOT / "README.md"], TEXTS[DOCS / "index.md"]]
    promises = [re.findall(r"^\| P\d \| .+$", text, re.MULTILINE) for text in pages]
    assert promises[0] == promises[1]
    assert len(promises[0]) == 8


def test_the_tables_of_the_reference_pages_list_all_that_the_code_has() -> None:
    classes = [item for item in vars(sessioncore).values() if isinstance(item, type)]
    for page, heading, expected in [
        ("lifecycle.md", "## Events", [kind.value for kind in EventKind]),
        ("configuration.md", "## Fields", [field.name for field in dataclasses.fields(SessionConfig) if field.init]),
        ("errors.md", "## All errors", {cls.__name__ for cls in classes if issubclass(cls, Exception)}),
        ("security.md", "## Findings of `audit`", {one.id for part, _ in WEAK for one in audit(SessionConfig(**part))}),
    ]:
        listed = [row[0] for row in table(page, heading)]
        assert (listed if isinstance(expected, list) else {*listed}) == expected, page
