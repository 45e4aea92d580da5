"""A PostgreSQL server for the tests that need one: Debian's package, started on a port of its own, then removed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@contextmanager
def postgres_url() -> Iterator[str]:
    """The URL of a fresh database; skips where no server can be found."""
    pytest.importorskip("psycopg", reason="PostgreSQL tests need aanmf[sql]")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL tests need its server: apt-get install postgresql")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="aanmf-postgres-"))
    if user:
        shutil.chown(folder, user)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def command(name: str, *args: str) -> None:
        done = subprocess.run(
            [str(programs / name), *args], user=user, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{name}: {done.stdout} {done.stderr}"

    data = str(folder / "data")
    command("initdb", "-D", data, "-U", "aanmf", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c max_connections=50"
    subprocess.run(
        [str(programs / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,  # the server would keep a pipe open
        stderr=subprocess.DEVNULL,
        check=True,
    )
    try:
        yield f"postgresql://aanmf@127.0.0.1:{port}/postgres"
    finally:
        command("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
