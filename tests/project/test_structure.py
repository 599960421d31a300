"""How the source is built: sizes, and which modules may change the objects that live for one request."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from msgspec import Struct
from tests.project.source import FILES, Function, functions, nodes

MOST_LINES_OF_A_FILE = 300
MOST_LINES_OF_A_FUNCTION = 50
MOST_ATTRIBUTES = 10
FOR_ONE_REQUEST = {  # classes whose objects live for one request, or for one commit of it
    "AiohttpView", "AsgiView", "Attempt", "CommitSteps", "Crossing", "EventStream", "Exchange", "LateWatch",
    "LoadSteps", "OpenConnection", "Pending", "PolledDeadline", "ReloadSteps", "RequestContext", "Responder",
    "Session", "SessionBase", "SessionMapping", "SessionState", "SessionSteps", "SessionWatch", "SocketResponder",
    "Turn", "Values", "_OwnerChange", "_Sender",
}  # fmt: skip
OF_A_FRAMEWORK = {"_state_of(scope).session_id"}  # Litestar's attribute, which has the name of one of ours
LONG_LIVED = {  # classes whose objects live as long as the application
    "Agenda", "CrossLoopLock", "Driver", "Health", "NamedLocks", "Opening", "SessionPlugin", "WatchTask", "_Instrument",
    "_Middleware",
}  # fmt: skip


def test_a_file_has_300_lines_at_most_and_a_function_50() -> None:
    for path in FILES:
        assert path.read_text(encoding="utf-8").count("\n") <= MOST_LINES_OF_A_FILE, path
        sizes = {one.name: (one.end_lineno or 0) - one.lineno + 1 for one in functions(path)}
        assert {name: size for name, size in sizes.items() if size > MOST_LINES_OF_A_FUNCTION} == {}, path


def test_there_is_one_way_through_each_decision() -> None:
    """`do` beside `do_now` would begin a second way; `answer_now` is a storage's capability."""
    found = {one.name for path in FILES for one in functions(path) if re.search(r"[a-z]_(now|nowait|sync)$", one.name)}
    assert found <= {"answer_now"}


def test_no_task_group_warns_of_tasks_that_a_cancellation_kept_from_beginning() -> None:
    makers = {path for path in FILES if "create_task_group" in path.read_text(encoding="utf-8")}
    assert {path.name for path in makers if path.parent.name != "testing"} == {"_task_group.py"}


def test_a_struct_that_holds_values_or_headers_shows_none_of_them() -> None:
    """Such classes derive from `Opaque`: a `__repr__` alone does not hide the fields from rich."""
    for path in FILES:
        for one in nodes(path):
            if isinstance(one, ast.ClassDef) and one.bases and ast.unparse(one.bases[0]) == "Struct":
                fields = {ast.unparse(part.target) for part in one.body if isinstance(part, ast.AnnAssign)}
                held = fields & {"data", "value", "headers", "session_id", "state"}
                assert not held or one.name == "_Tagged", one.name  # this one is what `show --values` prints
                assert "__repr__" not in {part.name for part in one.body if isinstance(part, Function)}, one.name


# -- objects that live for one request


class Kind(Struct, frozen=True):
    """One of our classes, and the attributes of its objects."""

    name: str
    path: Path
    bases: frozenset[str]
    attributes: frozenset[str]  # fields, slots, and what its own methods assign
    assigned_later: frozenset[str]  # of these, what methods other than __init__ assign


def stores(nodes: Iterable[ast.AST]) -> Iterator[ast.Attribute]:
    """The targets of assignments and deletions that have the form `value.attribute`."""
    for inner in nodes:
        if isinstance(inner, ast.Attribute) and not isinstance(inner.ctx, ast.Load):
            yield inner


def own(method: Function) -> set[str]:
    return {target.attr for target in stores(ast.walk(method)) if ast.unparse(target.value) == "self"}


@cache
def kinds() -> dict[str, Kind]:
    paths = [path for path in FILES if not {"storage", "testing"} & set(path.parts)]
    classes = [(node, path) for path in paths for node in nodes(path) if isinstance(node, ast.ClassDef)]
    return {node.name: kind_of(node, path) for node, path in classes}


def kind_of(node: ast.ClassDef, path: Path) -> Kind:
    methods = [one for one in node.body if isinstance(one, Function)]
    fields = {ast.unparse(line.target) for line in node.body if isinstance(line, ast.AnnAssign)}
    for line in node.body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__slots__":
            fields |= set(ast.literal_eval(line.value))
    later = {name for method in methods if method.name != "__init__" for name in own(method)}
    bases = frozenset(ast.unparse(base) for base in node.bases)
    return Kind(node.name, path, bases, frozenset(fields.union(*map(own, methods))), frozenset(later))


def test_every_class_whose_objects_change_is_listed() -> None:
    changing = {kind.name for kind in kinds().values() if kind.assigned_later}
    assert changing <= FOR_ONE_REQUEST | LONG_LIVED
    assert kinds().keys() >= FOR_ONE_REQUEST | LONG_LIVED


def test_an_object_of_one_request_has_ten_attributes_at_most_that_change() -> None:
    changing = {name: len(kinds()[name].assigned_later) for name in FOR_ONE_REQUEST}
    assert {name: count for name, count in changing.items() if count > MOST_ATTRIBUTES} == {}
    assert len(kinds()["SessionState"].attributes) <= MOST_ATTRIBUTES


def test_an_attribute_is_assigned_in_the_module_of_its_class_only() -> None:
    """`something.attribute = ...` in another module could break the invariants that the class's own module keeps."""
    homes: dict[str, set[Path]] = {}
    for name in FOR_ONE_REQUEST:
        for attribute in kinds()[name].attributes:
            homes.setdefault(attribute, set()).add(kinds()[name].path)
    strays: list[str] = []
    for path in FILES:
        for target in stores(nodes(path)):
            allowed = homes.get(target.attr)
            text = ast.unparse(target)
            if allowed is not None and path not in allowed and text not in {f"self.{target.attr}", *OF_A_FRAMEWORK}:
                strays.append(f"{path}:{target.lineno}: {text}")
    assert strays == []


def test_no_class_assigns_what_its_base_in_another_module_holds() -> None:
    for kind in kinds().values():
        for base in (kinds()[name] for name in kind.bases if name in kinds()):
            assert kind.path == base.path or kind.assigned_later.isdisjoint(base.attributes), kind.name


def test_nothing_is_assigned_by_name_where_no_reader_would_find_it() -> None:
    """The other tests here would not see setattr()."""
    calls = [
        f"{path}:{node.lineno}"
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "__setattr__"))
    ]
    exempt = ("src/sessioncore/_config.py", "src/sessioncore/codec/")  # a frozen class itself, and users' objects
    assert [call for call in calls if not call.startswith(exempt)] == []
