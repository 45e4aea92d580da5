"""Writes constraints-hashed.txt: versions with SHA-256 of what the service needs, for Linux on x86-64 and Python 3.11.

    pip install --dry-run --ignore-installed --only-binary=:all: -c constraints.txt --report report.json '.[serve,sql]'
    python benchmarks/hashes.py report.json

or `make hashes`. An installation then takes no file with another content:

    pip install --require-hashes -r constraints-hashed.txt && pip install --no-deps .
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "constraints-hashed.txt"
HEAD = """\
# For Linux on x86-64 and Python 3.11, with the CPU build of torch (from the index of these builds); `make hashes`.
# pip install --require-hashes -r constraints-hashed.txt && pip install --no-deps .
"""


def hashed(report: dict[str, list[dict[str, dict]]]) -> str:
    """The lines for a report of pip; the package itself, which has no archive, is left out."""
    lines = []
    for each in report["install"]:
        hashes = each["download_info"].get("archive_info", {}).get("hashes", {})
        if hashes:
            about = each["metadata"]
            lines.append(f"{about['name'].lower()}=={about['version']} --hash=sha256:{hashes['sha256']}\n")
    return HEAD + "".join(sorted(lines))


def main() -> None:
    TARGET.write_text(hashed(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
