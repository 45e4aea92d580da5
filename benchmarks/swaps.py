"""Puts a bad model in the place of a good one, then another good one, again and again, while the service is asked.

    python benchmarks/swaps.py [--times 100] [--json OUT]

The bad ones have right checksums. Each must be noticed and not served, the good one after it must be
served, and no request may fail meanwhile. Counts are written as they come.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from safetensors.torch import load, save

import forked
from aanmf.manifest import MANIFEST, files_of, read_manifest, stored_name
from aanmf.serving.model_cache import folder_version
from aanmf.storage import replace_file
from kills import ratings_file

SETTINGS = ("--model", "mf", "--set", "epochs=1", "--test", "0", "--json")
CLIENTS, PATIENCE = 4, 30
WEIGHTS = "weights.safetensors"


def _not_finite(content: bytes) -> bytes:
    return save({name: tensor.fill_(math.nan) for name, tensor in load(content).items()})


def _other_shapes(content: bytes) -> bytes:
    return save({name: tensor.flatten()[:1].clone() for name, tensor in load(content).items()})


BAD: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "truncated weights": (WEIGHTS, lambda content: content[: len(content) // 2]),
    "no weights": (WEIGHTS, lambda _: b""),
    "weights that are not finite": (WEIGHTS, _not_finite),
    "weights of other shapes": (WEIGHTS, _other_shapes),
    "settings of another type": ("config.json", lambda _: b"[1, 2]"),
    "nested settings": ("config.json", lambda _: b'{"a": ' * 100_000),
    "damaged items": ("items.parquet", lambda content: content[:100] + bytes(50) + content[150:]),
}
"""Which file is changed, and how."""


def put_bad(folder: Path, kind: str) -> None:
    """Replaces the model in a folder as a save does: files first, the manifest last."""
    manifest = read_manifest(folder)
    name, change = BAD[kind]
    content = change(files_of(folder, manifest)[name].read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    (folder / stored_name(name, digest)).write_bytes(content)
    with replace_file(folder / MANIFEST) as file:
        file.write(json.dumps({**manifest, "sha256": {**manifest["sha256"], name: digest}}).encode())  # type: ignore[dict-item]


def put_good(folder: Path, good: Path) -> str:
    """The same with a good model, and returns its version."""
    for each in good.iterdir():
        if each.is_file() and each.name != MANIFEST:
            shutil.copy(each, folder)
    with replace_file(folder / MANIFEST) as file:
        file.write((good / MANIFEST).read_bytes())
    return folder_version(folder)


@contextmanager
def asking(url: str, answers: Counter[str]) -> Iterator[None]:
    """Clients that ask for lists and store ratings, one request after the other."""

    def ask(client: int, stop: threading.Event) -> None:
        rating = {"ratings": [{"user": f"new-{client}", "item": "i1", "rating": 3}]}
        with httpx.Client(base_url=url, timeout=PATIENCE) as connection:
            while not stop.is_set():
                for path, body in (("/v1/recommend", {"user": f"u{client}"}), ("/v1/ratings", rating)):
                    try:
                        answers[str(connection.post(path, json=body).status_code)] += 1
                    except httpx.TransportError as error:
                        answers[type(error).__name__] += 1

    with forked.clients(CLIENTS, ask):
        yield


def until(found: Callable[[], bool]) -> bool:
    """Waits until something is so; False: it never was."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found():
            return True
        time.sleep(0.05)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--json", type=Path, default=Path("build/swaps.json"))
    args = parser.parse_args()
    args.json.parent.mkdir(parents=True, exist_ok=True)
    counts, answers = Counter({"swaps": 0, "bad_not_noticed": 0, "good_not_served": 0}), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="aanmf-swaps-") as folder:
        place = Path(folder)
        log, known, model = place / "log", ratings_file(place / "known.csv", 500, 60), place / "model"
        for name, factors in (("model", 2), ("a", 3), ("b", 4)):
            wanted = (*SETTINGS, "--set", f"factors={factors}", "--out", str(place / name))
            forked.finish(forked.start(log, "train", str(known), *wanted), log)
        with forked.service(model, log) as (_, url), httpx.Client(base_url=url, timeout=PATIENCE) as client:

            def version() -> str:
                return client.get("/readyz").json()["version"]

            def failed() -> float:
                lines = client.get("/metrics").text.splitlines()
                return sum(
                    float(line.split()[-1])
                    for line in lines
                    if line.startswith('aanmf_model_loads_total{outcome="failed"')
                )

            with asking(url, answers):
                for turn in range(args.times):
                    before, served = failed(), version()
                    put_bad(model, list(BAD)[turn % len(BAD)])
                    noticed = until(lambda before=before: failed() > before)
                    counts["bad_not_noticed"] += not noticed or version() != served
                    good = put_good(model, place / "ab"[turn % 2])
                    counts["good_not_served"] += not until(lambda good=good: version() == good)
                    counts["swaps"] += 1
                    wrong = sum(n for status, n in answers.items() if status != "200")
                    report = {**counts, "requests": answers.total(), "requests_failed": wrong, "answers": answers}
                    args.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(args.json.read_text())
    sys.exit(bool(counts["bad_not_noticed"] or counts["good_not_served"] or answers.total() - answers["200"]))


if __name__ == "__main__":
    main()
