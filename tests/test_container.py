"""The container: its commands are ours, its parts fit together. (`make check` lints the Dockerfile.)"""

from __future__ import annotations

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from aanmf.cli import main

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICE, DATABASE = COMPOSE["services"]["recommender"], COMPOSE["services"]["database"]


def instruction(name: str) -> str:
    """The last instruction of this name, with the lines that continue it."""
    return re.findall(rf"^{name} ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)[-1]


def served(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The options of the service that a command starts."""
    from aanmf.serving import run

    (folder / "current").mkdir()
    started: list[Any] = []
    monkeypatch.setattr(run, "run", started.append)
    monkeypatch.setattr("sys.argv", ["aanmf", *(word.replace("/models", str(folder)) for word in words)])
    main()
    return started[0]


def test_the_image_serves_on_the_port_that_it_exposes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["aanmf"]
    options = served(json.loads(instruction("CMD")), tmp_path, monkeypatch)
    assert options.host == "0.0.0.0"
    assert options.port == int(instruction("EXPOSE"))
    assert f"http://127.0.0.1:{options.port}/readyz" in instruction("HEALTHCHECK")


def test_the_service_keeps_ratings_in_the_database_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = served(SERVICE["command"], tmp_path, monkeypatch)
    login = DATABASE["environment"]
    assert options.store == f"postgresql://{login['POSTGRES_USER']}@database/{login['POSTGRES_DB']}"
    assert SERVICE["environment"]["PGPASSWORD"] == login["POSTGRES_PASSWORD"]
    assert options.token_file == Path("/run/secrets") / SERVICE["secrets"][0]
    assert SERVICE["secrets"][0] in COMPOSE["secrets"]
    assert SERVICE["ports"] == [f"127.0.0.1:{options.port}:{options.port}"]
    assert SERVICE["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert DATABASE["volumes"][0].partition(":")[0] in COMPOSE["volumes"]


def test_the_builder_is_sent_what_is_copied_and_no_more() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    sent = {line[1:] for line in patterns if line.startswith("!")}
    copied = [shlex.split(line)[:-1] for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)]
    assert {name for names in copied for name in names} == sent
    assert all((ROOT / name).exists() for name in sent)
    assert patterns[0] == "*"
    assert any(fnmatch("src/aanmf/__pycache__", line) for line in patterns[1:])


def test_the_image_installs_what_the_service_needs() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"'\.\[([\w,-]+)\]'", DOCKERFILE)[0].split(",")
    assert set(extras) == {"serve", "sql"} <= set(project["optional-dependencies"])
    (python,) = re.findall(r"^ARG PYTHON=3\.(\d+)$", DOCKERFILE, re.MULTILINE)
    assert f"3.{python}" in project["requires-python"]
