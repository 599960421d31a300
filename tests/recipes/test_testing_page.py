"""The files that docs/testing.md shows for anyio's plugin, run by pytest with trio and without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.test_docs import DOCS, ROOT, blocks


@pytest.mark.parametrize(("with_trio", "passed"), [(True, "2 passed"), (False, "1 passed")])
def test_the_same_test_file_runs_with_trio_and_without(with_trio: bool, passed: str, tmp_path: Path) -> None:
    shown = [block.code for block in blocks(DOCS / "testing.md", hidden=False)]
    both, asyncio_alone = [code for code in shown if code.startswith("# conftest.py")]
    (tmp_path / "conftest.py").write_text(both if with_trio else asyncio_alone)
    [tests] = [code for code in shown if code.startswith("# test_sessions.py")]
    (tmp_path / "test_sessions.py").write_text(tests)
    if not with_trio:
        (tmp_path / "trio.py").write_text("raise ModuleNotFoundError('No module named trio', name='trio')")
    paths = [tmp_path, ROOT / "src", ROOT / "src/adapters"]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "anyio.pytest_plugin", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert passed in done.stdout, done.stdout + done.stderr
