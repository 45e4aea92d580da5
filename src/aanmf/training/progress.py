"""Training as it goes, on stderr: a bar in a terminal or a notebook, elsewhere a line a minute."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aanmf.training.log import Epoch, OnEpoch

MINUTE = 60.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def shown_progress(name: str, on_epoch: OnEpoch | None = None, *, shown: bool = True) -> Iterator[OnEpoch]:
    """Yields what `fit(on_epoch=...)` takes: it shows every epoch, then calls `on_epoch`.

    Args:
        name: of what is trained.
        on_epoch: called after every epoch, too.
        shown: False: shows nothing.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    live = console.is_terminal or console.is_jupyter
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=8), TextColumn("{task.fields[errors]}"))
    printed = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not (shown and live)) as bar:
        task = bar.add_task(f"{name}: starting", total=None, errors="")

        def show(epoch: Epoch) -> None:
            nonlocal printed
            title, errors = f"{name}: {_phase(epoch)} {epoch.epoch}/{epoch.of}", _errors(epoch)
            if live:
                bar.update(task, description=title, total=epoch.of, completed=epoch.epoch, errors=errors)
            elif shown and time.monotonic() - printed >= MINUTE:
                printed = time.monotonic()
                console.print(f"{title}  {errors}", soft_wrap=True, markup=False)
            if on_epoch:
                on_epoch(epoch)

        yield show


def _phase(epoch: Epoch) -> str:
    return "final epoch" if epoch.phase == "final" else "epoch"


def _errors(epoch: Epoch) -> str:
    valid = "" if epoch.valid_mse is None else f"  validation {math.sqrt(epoch.valid_mse):.4f}"
    speed = epoch.ratings_per_second
    rate = f"{speed / 1e6:.1f} M/s" if speed >= 1e6 else f"{speed / 1e3:.0f} k/s"
    return f"train RMSE {math.sqrt(epoch.train_mse):.4f}{valid}  {rate}"
