"""The pinned packages install on the oldest Python that the project supports."""

from importlib.metadata import distributions

from packaging.specifiers import SpecifierSet

DEBIAN = "3.11.2"  # Debian 12 has this one, and gets no later 3.11


def test_every_pinned_package_installs_on_debians_python() -> None:
    needed = {each.metadata["Name"]: str(each.metadata.json.get("requires_python", "")) for each in distributions()}
    assert {name: wanted for name, wanted in needed.items() if DEBIAN not in SpecifierSet(wanted)} == {}
