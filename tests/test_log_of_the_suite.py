"""The suite notices an ID in a log; see `no_id_in_a_log` in conftest.py."""

import logging

import pytest
from tests.conftest import Log

from sessioncore.http._ids import handle_of, new_id


@pytest.mark.proves("P6", "AT-135", "ASVS 16.2.5")
def test_an_id_in_a_log_fails_its_test(no_id_in_a_log: Log) -> None:
    log = logging.getLogger("sessioncore")
    log.warning("session %s, by %s", handle_of(new_id()), "test_a_name_of_43_letters_is_" + "x" * 14)
    assert no_id_in_a_log.ids() == []
    try:
        raise ValueError(f"for {new_id()!r}")
    except ValueError:
        log.exception("failed")
    assert len(no_id_in_a_log.ids()) == 1
    no_id_in_a_log.lines.clear()
