"""A small shop on sessioncore: Starlette, server-rendered pages, sessions in one SQLite file.

`python -m docs.examples.shop` opens it; with `--check` a real HTTP client walks through
it and reports what it saw. Begin to read in `app.py`.
"""
