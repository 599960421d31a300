"""Runs the example: `python -m docs.examples.litestar_counter`."""

import uvicorn

from .app import build

if __name__ == "__main__":
    uvicorn.run(build(), host="localhost", port=8081)
