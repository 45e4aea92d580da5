"""Pictures of the page for the documents: `make screenshots`.

Shows a saved model (`--model`), or one of MovieLens 100K where that is on this machine, else of synthetic ratings.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from aanmf import AANMFpp, load_model, load_movielens, make_synthetic
from aanmf.data.movielens import find_movielens
from aanmf.serving.app import create_app

Scheme = Literal["light", "dark"]
IMAGES = Path(__file__).parent / "images"
WIDE, PHONE = 1100, 390
COLOURS = 128
MOST_BYTES = 120_000


def train(folder: Path) -> None:
    """Saves a model to show."""
    data = load_movielens("100k") if find_movielens("100k") else make_synthetic(seed=0).data
    AANMFpp().fit(data).save(folder)


def views(folder: Path) -> Iterator[tuple[str, str, int, Scheme, int]]:
    """Name, address, width, colour scheme and height of every picture."""
    model = load_model(folder)
    user = model.fitted_.users.ids[0]
    best = str(model.recommend(user, 1)["item"][0])
    # what the user rated that says most about the best item
    rated = model.explain(user, best, of="match").parts
    title = str(rated["name"][rated["kind"].to_list().index("rated item")])
    labels = model.fitted_.items.labels or model.fitted_.items.ids
    named = model.fitted_.items.ids[labels.index(title)]
    yield "page-home", "/", WIDE, "light", 900
    yield "page-list", f"/?user={user}", WIDE, "light", 900
    yield "page-why", f"/item?{urlencode({'user': user, 'item': best, 'of': 'match'})}", WIDE, "light", 1100
    yield "page-why-phone", f"/item?{urlencode({'user': user, 'item': best})}", PHONE, "dark", 1100
    yield "page-what-if", f"/what-if?{urlencode({'user': user, 'item': best, 'without': named})}", WIDE, "light", 800


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a running service."""
    server = uvicorn.Server(uvicorn.Config(create_app(folder), port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def small(picture: bytes) -> bytes:
    """The same picture with few colours."""
    found = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        found, "PNG", optimize=True
    )
    return found.getvalue()


def picture(browser: Browser, url: str, width: int, scheme: Scheme, height: int) -> bytes:
    """A page as PNG; ends the program where that is larger than `MOST_BYTES`."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(url)
    found = small(page.screenshot())
    page.close()
    if len(found) > MOST_BYTES:
        sys.exit(f"{url}: {len(found):,} bytes, more than {MOST_BYTES:,}")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def main() -> None:
    """Writes all pictures to docs/images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a saved model")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = asked.model or Path(made) / "model"
        if asked.model is None:
            train(folder)
        with chromium() as browser, serving(folder) as url:
            for name, path, width, scheme, height in views(folder):
                (IMAGES / f"{name}.png").write_bytes(picture(browser, url + path, width, scheme, height))


if __name__ == "__main__":
    main()
