"""Runs the example: `python -m docs.examples.aiohttp_counter`."""

from aiohttp import web

from .app import build

if __name__ == "__main__":
    web.run_app(build(), host="localhost", port=8080)
