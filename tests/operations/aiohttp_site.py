"""The site on aiohttp: `python -m tests.operations.aiohttp_site PORT`, or `app` for gunicorn."""

import sys

from aiohttp import web
from tests.adapters.apps_aiohttp import make_app
from tests.operations.site import PAGES, STOPPING, store, talk


async def stopping(_: web.Application) -> None:
    STOPPING.set()


app = make_app(store, pages=PAGES, talk=talk)
app.on_shutdown.append(stopping)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), shutdown_timeout=3)
