"""What the check needs to visit the shop: a separate server, and browsers that fill in forms."""

import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx

__all__ = ["Browser", "Disappointment", "Page", "Server"]

ROOT = Path(__file__).parents[3]  # where `python -m docs.examples.shop` works
COMMAND = (sys.executable, "-m", "docs.examples.shop")
PATIENCE = 30.0  # seconds


class Disappointment(Exception):
    """The shop did not do what it should."""


class Server:
    """The shop as a process of its own, on a free port; `with` stops it whatever happens."""

    def __init__(self, database: Path) -> None:
        self._command = [*COMMAND, "--port", "0", "--database", str(database)]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that serves."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        found = re.search(r"http://\S+", line)
        if found is None:
            self.stop()
            raise Disappointment(f"the server did not start; it said {line!r}")
        self.url = found[0]
        # It listens before it serves, so this request waits until the application has started.
        httpx.get(self.url, timeout=PATIENCE)

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        if self._process is not None:
            self._process.terminate()
            self._leave()

    def kill(self) -> None:
        """Kill it, so that it has no chance to clean up."""
        if self._process is not None:
            self._process.kill()
            self._leave()

    def _leave(self) -> None:
        assert self._process is not None
        with self._process as process:  # closes its pipe
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        self._process = None


class Page:
    """A response as somebody reads it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.text = response.text

    @property
    def status(self) -> int:
        """The status code."""
        return self.response.status_code

    @property
    def path(self) -> str:
        """Where the redirects ended."""
        return self.response.url.path

    @property
    def set_cookie(self) -> str:
        """The Set-Cookie header of the last response that had one, redirects included; empty if there was none."""
        responses = (self.response, *reversed(self.response.history))
        return next((r.headers["set-cookie"] for r in responses if "set-cookie" in r.headers), "")

    @property
    def handle(self) -> str:
        """The session's public name; empty if nothing is stored."""
        return self._find(r'id="handle" title="([^"]+)"')

    @property
    def note(self) -> str:
        """What the shop says at the top of the page."""
        return " ".join(re.sub(r"<[^>]+>", " ", self._find(r'class="note"[^>]*>(.*?)</p>')).split())

    @property
    def cart(self) -> dict[str, int]:
        """Pieces by product, on the cart page."""
        lines = re.findall(r'name="sku" value="(\w+)">\s*<button name="step".*?<output>(\d+)<', self.text, re.DOTALL)
        return {sku: int(count) for sku, count in lines}

    @property
    def devices(self) -> dict[str, str]:
        """The text about each device on the devices page, by handle."""
        found = re.findall(r'<li class="card device[^"]*" id="([^"]+)">(.*?)</div>', self.text, re.DOTALL)
        return {handle: " ".join(re.sub(r"<[^>]+>", " ", text).split()) for handle, text in found}

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.text, re.DOTALL)
        return found[1] if found else ""


class Browser:
    """One visitor's browser: keeps cookies, follows redirects, fills in forms."""

    def __init__(self, server: Server, user_agent: str) -> None:
        self.ids: set[str] = set()  # all IDs that it has had
        self._server = server
        self._client = httpx.AsyncClient(headers={"user-agent": user_agent}, follow_redirects=True, timeout=PATIENCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def _read(self, response: httpx.Response) -> Page:
        if self.cookie:
            self.ids.add(self.cookie)
        return Page(response)

    @property
    def cookie(self) -> str:
        """The session's ID, as the browser keeps it; empty if it has none."""
        return self._client.cookies.get("session_id") or ""

    @cookie.setter
    def cookie(self, value: str) -> None:
        self._client.cookies.clear()
        self._client.cookies.set("session_id", value, domain="127.0.0.1")

    def close(self) -> None:
        """Close the browser and open it again: cookies without Max-Age are gone."""
        self._client.cookies.jar.clear_session_cookies()

    async def open(self, path: str) -> Page:
        """Open a page."""
        return self._read(await self._client.get(self._server.url + path))

    async def send(self, path: str, *, site: str = "same-origin", **fields: str) -> Page:
        """Send a form; `site` is what the browser says about the page with the form."""
        headers = {"sec-fetch-site": site}
        return self._read(await self._client.post(self._server.url + path, data=fields, headers=headers))
