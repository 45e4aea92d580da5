"""schemathesis reads the OpenAPI document and tries what it allows, and what it does not: no answer is a 5xx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.conftest import serving

pytest.importorskip("schemathesis", reason="needs schemathesis (aanmf[dev])")


@pytest.mark.slow
def test_nothing_that_can_be_asked_is_a_fault(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: schemathesis brings settings for warnings and hypothesis."""
    from aanmf.serving.app import create_app

    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    program = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
    with serving(create_app(folder, store=f"sqlite:///{tmp_path / 'r.sqlite'}")) as url:
        options = ["--checks", checks, "--max-examples", "25", "--seed", "1", "--phases", "examples,coverage,fuzzing"]
        done = subprocess.run(
            [sys.executable, "-c", program, "run", f"{url}/openapi.json", *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
