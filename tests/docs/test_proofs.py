"""The pages that name tests name those that are marked, and give a reason where there is none."""

import re
from pathlib import Path

import pytest
from scripts.proofs import PAGES, proofs, written
from tests.store.test_audit import WEAK

from sessioncore import SessionConfig, audit

ROOT = Path(__file__).parents[2]
TEXT = {page.name: page.read_text("utf-8") for page in PAGES}


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    return proofs()


def rows(page: str) -> dict[str, list[str]]:
    """The cells of each row of a page's tables, by the first one."""
    lines = [line.strip("|").split(" |") for line in TEXT[page].splitlines() if re.match(r"\| (AT|ASVS)[- ]\d", line)]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


@pytest.mark.parametrize("page", TEXT)
def test_the_page_names_the_tests_that_are_marked(page: str, found: dict[str, list[str]]) -> None:
    assert written(TEXT[page], found) == TEXT[page], "run `python scripts/proofs.py`"


def test_what_a_test_is_marked_with_is_on_a_page(found: dict[str, list[str]]) -> None:
    listed = re.findall(r"(?m)^<!-- proved by (.+) -->$", TEXT["promises.md"])
    assert listed == [f"P{number}" for number in range(1, 9)]
    assert found.keys() <= {*listed, *rows("attacks.md"), *rows("asvs.md")}


def test_every_attack_and_requirement_has_a_test_or_a_reason(found: dict[str, list[str]]) -> None:
    assert [*rows("attacks.md")] == [f"AT-{number}" for number in range(1, 139)]
    for name, cells in (rows("attacks.md") | rows("asvs.md")).items():
        assert name in found or re.match(r"(No test|Does not apply)\b.{20}", cells[-1]), name


def test_the_promises_are_those_of_the_first_page() -> None:
    quoted = re.findall(r"(?m)^> (.+)$", TEXT["promises.md"])
    first = re.findall(r"(?m)^\| P\d \| (.+) \|$", (ROOT / "README.md").read_text("utf-8"))
    assert quoted == first


def test_the_page_on_asvs_says_what_audit_finds() -> None:
    listed = {
        (name, severity)
        for name, cells in rows("asvs.md").items()
        for severity in re.findall(r"\b(?:info|low|medium|high)\b", cells[2])
    }
    assert listed == {
        (finding.id, finding.severity) for changes, _ in WEAK for finding in audit(SessionConfig(**changes))
    }
