"""What is shown of training where there is no terminal, and who is told of epochs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aanmf import MF
from aanmf.data.dataset import RatingDataset
from aanmf.training import progress
from aanmf.training.log import Epoch
from aanmf.training.progress import shown_progress


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock: the times that are still to come, in seconds."""
    times: list[float] = []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: times.pop(0)))
    return times


def epoch(number: int) -> Epoch:
    return Epoch("search", number, 9, 0.81, 1.44, 1.0, 5000.0)


def test_off_a_terminal_there_is_a_line_a_minute(minutes: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    told: list[int] = []
    minutes += [0, 30, 61, 61, 90, 125, 125]  # the start; then each epoch, twice where a line is printed
    with shown_progress("mf", lambda each: told.append(each.epoch)) as on_epoch:
        for number in range(1, 5):
            on_epoch(epoch(number))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "mf: epoch 2/9  train RMSE 0.9000  validation 1.2000  5 k/s",
        "mf: epoch 4/9  train RMSE 0.9000  validation 1.2000  5 k/s",
    ]
    assert told == [1, 2, 3, 4]


def test_nothing_is_shown_that_was_not_asked_for(
    small: RatingDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "MINUTE", 0.0)
    MF(factors=2, epochs=2).fit(small)
    assert capsys.readouterr().err == ""
    told: list[str] = []
    MF(factors=2, epochs=2).fit(small, on_epoch=lambda each: told.append(each.phase), progress=True)
    assert capsys.readouterr().err.count("train RMSE") == len(told) > 2
    with shown_progress("mf", shown=False) as on_epoch:
        on_epoch(epoch(1))
    assert capsys.readouterr().err == ""
