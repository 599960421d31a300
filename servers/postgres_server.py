"""A real PostgreSQL server, and a real pgbouncer, each in a folder of its own for one test run.

PostgreSQL refuses to run as root: under uid 0 all programs run as the system user
`postgres`. Nothing is installed; an error names a program that is missing.
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    if which := shutil.which("initdb"):
        return Path(which).resolve().parent
    raise RuntimeError("no PostgreSQL server here; on Debian: apt-get install postgresql")


def _folders() -> str:
    """Return where to make the folder of a server: a place that the server's user can enter.

    The temporary folder of root may be private: pam_tmpdir makes one with mode 0700.
    """
    usual = Path(tempfile.gettempdir())
    for folder in (usual, Path("/var/tmp"), Path("/tmp")):
        entered = subprocess.run([*_unprivileged(), "test", "-x", folder], check=False)
        if entered.returncode == 0:
            return str(folder)
    raise RuntimeError(
        f"the user 'postgres' can enter none of {usual}, /var/tmp and /tmp; set TMPDIR to a folder that it can"
    )


def _unprivileged() -> list[str]:
    return _AS_POSTGRES if os.geteuid() == 0 else []


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")


class PostgresServer:
    """One server on a free port of 127.0.0.1; it may be killed and started again.

    With `copy_of` it begins with the databases of another server, which must run; with `standby` it follows that
    server until it is promoted.
    """

    def __init__(self, folder: Path, *, copy_of: "PostgresServer | None" = None, standby: bool = False) -> None:
        self.port = free_port()
        self.data = folder / "data"
        self.log = folder / "log"
        self._bin = _binaries()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._settings: dict[str, str] = {}
        _own(folder)
        if copy_of is None:
            self._run("initdb", "-D", self.data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        else:
            follow = ["-R"] if standby else []
            self._run("pg_basebackup", "-D", self.data, "-d", copy_of.dsn(), "-c", "fast", "--no-sync", *follow)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [*_unprivileged(), self._bin / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder)

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://tester@127.0.0.1:{self.port}/{database}"

    def start(self, **settings: str) -> None:
        """Start the server, with its former settings if it was killed, and wait until it accepts connections."""
        self._settings |= settings
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "max_connections": "200",
            "shared_buffers": "128MB",
            "dynamic_shared_memory_type": "mmap",  # a killed server leaves nothing outside of its folder
            **self._settings,
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_unprivileged(), self._bin / "postgres", "-D", self.data, *arguments],
                stdout=log, stderr=log, cwd=self._folder,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tester"]
        while subprocess.run(ready, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def new_database(self) -> str:
        """Make an empty database, and return its address."""
        name = f"d{os.getpid()}_{time.monotonic_ns()}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tester", name)
        return self.dsn(name)

    def add_file(self, name: str, content: bytes) -> None:
        """Put a file into the server's folder that only the server can read."""
        file = self.data / name
        file.touch(mode=0o600)
        file.write_bytes(content)
        _own(file)

    def promote(self) -> None:
        """Make a standby accept writes, and wait until it does."""
        self._run("pg_ctl", "promote", "-D", self.data)

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Send SIGKILL to the server and its backends, and wait until none of them holds its shared memory."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # so that it starts no more backends
        children = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=False)
        self._process.kill()
        for child in map(int, children.stdout.split()):
            with suppress(ProcessLookupError):
                ended = os.pidfd_open(child)
                os.kill(child, signal.SIGKILL)
                select.select([ended], [], [], 10)
                os.close(ended)
        self._process.wait()
        # A killed server leaves its lock file, and would not start again while another process has its old pid.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Shut the server down without waiting for clients."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def postgres_server(
    copy_of: PostgresServer | None = None, *, standby: bool = False, **settings: str
) -> Generator[PostgresServer]:
    """Run a server for a while."""
    with tempfile.TemporaryDirectory(prefix="sessioncore-pg-", dir=_folders(), ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder), copy_of=copy_of, standby=standby)
        try:
            server.start(**settings)
            yield server
        finally:
            server.stop()


@contextmanager
def pgbouncer(server: PostgresServer, *, mode: str = "transaction", pool_size: int = 2) -> Generator[str]:
    """Run a pgbouncer in front of `server`, and yield the DSN that leads through it."""
    program, port = _pgbouncer(), free_port()
    with tempfile.TemporaryDirectory(prefix="sessioncore-bouncer-", dir=_folders()) as name:
        folder = Path(name)
        _own(folder)
        (folder / "users.txt").write_text('"tester" ""\n')
        (folder / "bouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\n"
            f"pool_mode = {mode}\ndefault_pool_size = {pool_size}\nmax_client_conn = 200\n"
        )
        for file in folder.iterdir():
            _own(file)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*_unprivileged(), program, folder / "bouncer.ini"], stdout=log, stderr=log, cwd=folder
            )
        try:
            _wait_for_port(port, process, folder / "log")
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(10)


def pgbouncer_prepares() -> bool:
    """Return whether this pgbouncer prepares a client's statements on each connection that it assigns to the client."""
    said = subprocess.run([_pgbouncer(), "-V"], capture_output=True, text=True, check=True).stdout
    major, minor = said.split()[1].split(".")[:2]
    return (int(major), int(minor)) >= (1, 24)  # from 1.21 on it can, and from 1.24 on it does by default


def _pgbouncer() -> str:
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RuntimeError("no pgbouncer here; on Debian: apt-get install pgbouncer")
    return program


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer did not start:\n{log.read_text()}") from None
            time.sleep(0.02)
