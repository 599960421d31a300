"""A test that starts a server talks to that server, even if another process has taken the port first."""

from pathlib import Path

import pytest
from servers.redis_server import Server, ServerExited, free_port

pytestmark = pytest.mark.redis


def test_a_server_takes_another_port_if_its_first_is_taken(server: Server, tmp_path: Path) -> None:
    server.do("SET", "theirs", "1")
    ports = [free_port(), server.port]
    second = Server(tmp_path, find_port=ports.pop)
    try:
        assert ports == []
        assert second.port != server.port
        assert second.do("GET", "theirs") is None
    finally:
        second.kill()


def test_a_server_that_finds_no_port_does_not_pass_for_started(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ServerExited, match="port"):
        Server(tmp_path, find_port=lambda: server.port)
