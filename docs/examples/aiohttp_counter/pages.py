"""What the pages look like: plain HTML, everything that people typed is escaped."""

from datetime import timedelta
from html import escape

from aiohttp import web
from msgspec import Struct

STYLE = """
:root { color-scheme: light dark; --page: #f7f5f0; --card: #fff; --ink: #23201b; --soft: #716a5f; --accent: #8a3d12; }
@media (prefers-color-scheme: dark) {
  :root { --page: #161412; --card: #211e1b; --ink: #efe9df; --soft: #a69c8e; --accent: #f0a070; }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 1.05rem/1.5 system-ui, sans-serif }
main { max-width: 34rem; margin: 12vh auto; padding: 2rem; background: var(--card); border-radius: 1rem }
h1 { margin: 0; font-size: 1rem; font-weight: 600; color: var(--soft) }
.number { margin: .5rem 0 1rem; font-size: 6rem; line-height: 1; font-variant-numeric: tabular-nums }
nav { display: flex; gap: 1rem; align-items: center; margin-top: 2rem }
a { color: var(--accent) }
button, input { font: inherit; padding: .6rem 1.2rem; border-radius: .6rem; border: 1px solid var(--soft) }
button { border-color: var(--accent); background: var(--accent); color: var(--card); cursor: pointer }
button.quiet { background: none; color: var(--accent); padding: .2rem .8rem }
button:focus-visible, input:focus-visible, a:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
input { background: none; color: inherit; width: 100%; margin: .5rem 0 1rem }
li { display: flex; justify-content: space-between; gap: 1rem; padding: .6rem 0; border-top: 1px solid var(--page) }
ul { list-style: none; padding: 0 } small { color: var(--soft) } .wrong { color: var(--accent) }
"""

# Chromium may keep a page for the Back button although it says no-store. It must not show it again as it was.
SCRIPT = """
addEventListener("pagehide", () => { document.documentElement.hidden = true });
addEventListener("pageshow", event => { if (event.persisted) location.reload() });
"""


class Device(Struct, frozen=True):
    """One row of the list."""

    handle: str
    name: str
    ago: timedelta
    here: bool


def home(visits: int, owner: str | None) -> web.Response:
    """Show the number, and a button that makes it larger."""
    who = f"Hello, {escape(owner)}." if owner else "Hello, stranger."
    links = '<a href="/devices">Devices</a>' + _button("/logout", "Log out", quiet=True)
    return _page(
        "Counter",
        f'<h1>{who} You have counted to</h1><p class="number">{visits}</p>'
        f"{_button('/count', 'Count')}"
        f"<nav>{links if owner else '<a href=/login>Log in</a> <small>The number comes along.</small>'}</nav>",
    )


def login(wrong: str = "") -> web.Response:
    """Ask for a name."""
    return _page(
        "Log in",
        f'<h1>Who are you?</h1><form method="post" action="/login">'
        f'<label>Name <input name="name" maxlength="40" required autofocus></label>'
        f'<p class="wrong" role="alert">{escape(wrong)}</p><button>Log in</button></form>'
        '<nav><a href="/">Back to the counter</a></nav>',
        status=422 if wrong else 200,
    )


def devices(owner: str, rows: list[Device]) -> web.Response:
    """List the devices, each with a button that logs it out."""
    items = "".join(_row(row) for row in rows)
    links = '<nav><a href="/">Counter</a></nav>'
    return _page("Devices", f"<h1>{escape(owner)} is logged in on</h1><ul>{items}</ul>{links}")


def _row(row: Device) -> str:
    end = "<small>this one</small>"
    if not row.here:
        end = _button("/devices/revoke", "Log out", row.handle, quiet=True)
    return f"<li><span>{escape(row.name)}<br><small>{_ago(row.ago)}</small></span>{end}</li>"


def _ago(time: timedelta) -> str:
    minutes = round(time.total_seconds() / 60)
    return "just now" if minutes < 1 else f"{minutes} min ago"


def _button(action: str, text: str, handle: str = "", *, quiet: bool = False) -> str:
    style = ' class="quiet"' if quiet else ""
    extra = f'<input type="hidden" name="handle" value="{escape(handle)}">' if handle else ""
    return f'<form method="post" action="{action}">{extra}<button{style}>{text}</button></form>'


def _page(title: str, body: str, status: int = 200) -> web.Response:
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><script>{SCRIPT}</script>'
        f"<main>{body}</main></html>"
    )
    headers = {"Cache-Control": "no-store"}  # so that the Back button shows nothing after logging out
    return web.Response(text=html, status=status, content_type="text/html", headers=headers)
