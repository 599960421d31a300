"""The programs in `type_examples` run. Their types are checked by mypy and pyright."""

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).with_name("type_examples").glob("*.py"))
MAY_NOT_RUN = {"refused"}  # its `main` has the errors that type checkers must find


@pytest.mark.anyio
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
async def test_the_example_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location(f"type_example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # frameworks look the module of a handler up
    spec.loader.exec_module(module)
    main = vars(module).get("main")
    if main is not None and path.stem not in MAY_NOT_RUN:
        assert inspect.iscoroutinefunction(main)
        await main()
