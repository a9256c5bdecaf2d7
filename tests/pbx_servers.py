"""Database servers as PBXs run them, each with a folder, a port and a life of its own; none of them runs as root."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from aiohttp.test_utils import unused_port

STARTS_WITHIN = 60.0
NOBODY = 65534


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Outside of pytest's own folders, which nobody but their owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="itgrix-database-", dir="/tmp"))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_nobody(*command: str | Path) -> list[str]:
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    return [*drop, *map(str, command)]


def _program(name: str, package: str) -> str:
    places = ["/usr/sbin", "/usr/bin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    found = shutil.which(name) or shutil.which(name, path=":".join(places))
    assert found, f"{name} is missing: apt-get install {package}"
    return str(Path(found).resolve())


@contextlib.contextmanager
def _running(
    command: list[str], folder: Path, ready: Path | str, log: Path, *, end: int = signal.SIGTERM
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + STARTS_WITHIN
        while not (Path(ready).exists() if isinstance(ready, Path) else ready in log.read_text("utf-8", "replace")):
            assert process.poll() is None, log.read_text("utf-8", "replace")
            assert time.monotonic() < deadline, log.read_text("utf-8", "replace")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(end if process.poll() is None else 0)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def mariadb() -> Iterator[tuple[str, str]]:
    """FreePBX's database server: the addresses for who writes (Asterisk) and who may only SELECT (us)."""
    with _folder() as folder:
        port, data = unused_port(), folder / "data"
        server, install = (
            _program("mariadbd", "mariadb-server-core"),
            _program("mariadb-install-db", "mariadb-server-core"),
        )
        subprocess.run(
            _as_nobody(install, "--no-defaults", f"--datadir={data}", "--skip-test-db"),
            # Several at once name their temporary tables alike: each has a directory of its own for them.
            check=True, capture_output=True, cwd=folder, env={**os.environ, "TMPDIR": str(folder)},
        )  # fmt: skip
        users = folder / "users.sql"
        users.write_text(
            "CREATE DATABASE asteriskcdrdb CHARACTER SET utf8mb4;\n"
            "CREATE USER 'asterisk'@'%' IDENTIFIED BY 'writes';\n"
            "GRANT ALL ON asteriskcdrdb.* TO 'asterisk'@'%';\n"
            "CREATE USER 'itgrix'@'%' IDENTIFIED BY 'reads';\n"
            "GRANT SELECT ON asteriskcdrdb.* TO 'itgrix'@'%';\n"
        )
        users.chmod(0o644)
        command = _as_nobody(
            server, "--no-defaults", f"--datadir={data}", f"--tmpdir={folder}",
            f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--init-file={users}", "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M",
        )  # fmt: skip
        with _running(command, folder, "ready for connections", folder / "log"):
            at = f"127.0.0.1:{port}/asteriskcdrdb"
            yield f"mysql+asyncmy://asterisk:writes@{at}", f"mysql+asyncmy://itgrix:reads@{at}"


class PostgreSql:
    """A server with a life of its own: it may be stopped as by a power cut, copied, and put back as it was copied.

    It listens `at` an address and port, and is started by a command that begins with `within`.
    """

    def __init__(self, folder: Path, at: tuple[str, int] | None = None, within: Sequence[str] = ()) -> None:
        self._folder = folder
        self._data, self._copy = folder / "data", folder / "copy"
        self.at = at or ("127.0.0.1", unused_port())
        self._within = within
        self._life = contextlib.ExitStack()
        initdb = _program("initdb", "postgresql")
        subprocess.run(
            _as_nobody(initdb, "-D", self._data, "-A", "trust", "-U", "asterisk", "-E", "UTF8", "--no-sync"),
            check=True, capture_output=True, cwd=folder,
        )  # fmt: skip
        with (self._data / "pg_hba.conf").open("a") as trusted:
            trusted.write(f"host all all {self.at[0]}/16 trust\n")
        self.address = url_at(self.at)

    def start(self) -> None:
        command = _as_nobody(
            _program("postgres", "postgresql"), "-D", self._data, "-p", str(self.at[1]), "-k", self._folder,
            "-c", f"listen_addresses={self.at[0]}", "-c", "fsync=off",
        )  # fmt: skip
        self._life.enter_context(
            _running(
                [*self._within, *command],
                self._folder,
                "ready to accept connections",
                self._folder / "log",
                end=signal.SIGQUIT,
            )
        )

    def stop(self) -> None:
        self._life.close()

    def copy(self) -> None:
        """While it is stopped."""
        shutil.copytree(self._data, self._copy)
        self._own(self._copy)

    def put_back(self) -> None:
        shutil.rmtree(self._data)
        self._copy.rename(self._data)

    def _own(self, tree: Path) -> None:
        if os.geteuid() == 0:
            for path in (tree, *tree.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def url_at(address: tuple[str, int]) -> str:
    """A PostgreSql's own URL, or the one that leads to it by another address."""
    return f"postgresql+asyncpg://asterisk@{address[0]}:{address[1]}/postgres"


@contextlib.contextmanager
def a_postgresql(at: tuple[str, int] | None = None, within: Sequence[str] = ()) -> Iterator[PostgreSql]:
    with _folder() as folder:
        server = PostgreSql(folder, at, within)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def postgresql() -> Iterator[tuple[str, str]]:
    """A PostgreSQL as cel_pgsql writes into; both addresses are its owner's."""
    with a_postgresql() as server:
        yield server.address, server.address
