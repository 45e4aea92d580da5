"""What is shipped: a wheel and an sdist that hold all files, and a wheel that works where the sources are not."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.request
import venv
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BESIDE_CODE = [".toml", ".html", ".css", ".js", ".svg", ".typed", ".gz"]
"""Endings of files in the package that are no code and are needed."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built from the files that a checkout holds."""
    pytest.importorskip("build", reason="pip install 'aanmf[test]'")
    pytest.importorskip("setuptools", minversion="77", reason="pip install 'aanmf[test]'")
    work = tmp_path_factory.mktemp("build")
    source, out = work / "source", work / "dist"
    for path in _checkout():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


def _checkout() -> list[Path]:
    """What a build needs, without what tests and editors leave behind."""
    files = [Path(name) for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "CHANGELOG.md")]
    inside = (each for each in (ROOT / "src" / "aanmf").rglob("*") if each.is_file())
    return files + [each.relative_to(ROOT) for each in inside if "__pycache__" not in each.parts]


def test_all_files_of_the_package_are_in_the_wheel_and_the_sdist(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        in_wheel = set(file.namelist())
    with tarfile.open(sdist) as file:
        in_sdist = {name.partition("/")[2] for name in file.getnames()}
    source = [path for path in _checkout() if path.parts[0] == "src"]
    assert {path.suffix for path in source} >= {".py", ".toml", ".html", ".css", ".js", ".typed"}
    needed = [path for path in source if path.suffix in (".py", *BESIDE_CODE)]
    assert not [path for path in needed if path.relative_to("src").as_posix() not in in_wheel]
    assert not [path for path in needed if path.as_posix() not in in_sdist]
    for text in ("LICENSE", "NOTICE"):
        assert any(name.endswith(f".dist-info/licenses/{text}") for name in in_wheel)
    assert "aanmf/data/uci_restaurants/README.md" in in_wheel
    assert not [name for name in in_wheel if not name.startswith(("aanmf/", "aanmf-"))]  # no tests, no documents


def serves(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """The page answers when the command is run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([*words, "--port", str(port)], cwd=folder, env=environment) as service:
        try:
            until, page = time.monotonic() + 100, ""
            while not page:
                assert service.poll() is None, "the service ended"
                assert time.monotonic() < until, "the service did not get ready"
                time.sleep(0.1)
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                    page = answer.read().decode()
            assert "<html" in page
        finally:
            service.terminate()


def test_the_wheel_works_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """Import, demo, page, training; dependencies are those of this environment: a new one would draw torch again."""
    pytest.importorskip("uvicorn", reason="pip install 'aanmf[serve]'")
    home = tmp_path / "venv"
    venv.create(home)
    python, command = home / "bin" / "python", home / "bin" / "aanmf"
    (wheel,) = built.glob("*.whl")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AANMF", "PIP"))}

    def run(*args: object) -> str:
        words = [str(each) for each in args]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=clean, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    assert site.as_posix() in run(python, "-c", "import aanmf; print(aanmf.__file__)")
    version = wheel.name.split("-")[1]
    assert run(command, "--version") == f"aanmf {version}\n"
    assert json.loads(run(command, "doctor", "--json"))
    assert "train" in run(command, "--help")
    printed = run(command, "demo", "--quick")
    (serve,) = [line for line in printed.splitlines() if " serve " in line]
    serves(shlex.split(serve), tmp_path, clean)
    run(command, "train", "synthetic:2000", "--model", "aanmf", "--set", "epochs=1", "--out", "model")
    told = json.loads(run(command, "recommend", "model", "--attributes", "gender=F", "-n", "3", "--json"))
    assert len(told["items"]) == 3
