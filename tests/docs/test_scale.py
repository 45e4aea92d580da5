"""The page on scale shows what the script calculates, and the script calculates what a reader can by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest

from tests.scripts import ROOT, script

PAGE = ROOT / "docs" / "scale.md"


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("benchmarks/plan.py", monkeypatch)


def made(plan: ModuleType, *options: str):
    return plan.plan_of(plan.arguments().parse_args(options))


def test_the_page_shows_the_tables_of_the_script(plan: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert plan.filled(text) == text, "run python benchmarks/plan.py --page docs/scale.md"
    shown = {found[2] for found in plan.MARKS.finditer(text)}
    assert shown == set(plan.tables(made(plan))), "a table of the script is not on the page"
    assert text.count("<!-- plan:") == len(plan.MARKS.findall(text)), "a marker has no end"


def test_a_page_is_written_with_the_options_of_each_marker(plan: ModuleType, monkeypatch, tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- plan: disk --ratings 1e6 --users 1e3 --items 10 -->\nbefore\n<!-- end of plan -->\nb\n")
    monkeypatch.setattr(sys, "argv", ["plan.py", "--page", str(page)])
    plan.main()
    assert "| prepared ratings | 0.0120 |" in page.read_text()
    assert page.read_text().startswith("a\n<!-- plan: disk --ratings 1e6")
    assert page.read_text().endswith("<!-- end of plan -->\nb\n")
    assert "before" not in page.read_text()


def test_figures_by_hand(plan: ModuleType) -> None:
    small = made(plan, "--ratings", "1e6", "--users", "1e4", "--items", "100", "--hosts", "4", "--factors", "10",
                 "--batch", "1000", "--slots", "2", "--epochs", "3", "--network", "8", "--price", "5")  # fmt: skip
    tables = 10_100 * 40
    own, asked = tables / 4, (1000 * 40 * 3 / 4, 100 * 40 * 3 / 4)  # a batch has all items
    assert small.asked == asked
    assert small.ids == 136 * 10_100
    held = small.ids + 1e4 * 2 * 13
    training = held + 6 * own + 2 * sum(asked)
    assert list(small.phases().values()) == [
        held + own, training, training + 4 * own, training + own + tables, held + 3 * tables
    ]  # fmt: skip
    step = small.step()
    assert step["arithmetic"] == pytest.approx(1000 / (435_000 * 32))
    assert step["Adam"] == pytest.approx(7 * own / 100e9)
    assert step["network"] == pytest.approx(2 * sum(asked) / 1e9)
    assert small.steps == 1e6 / 4000
    assert small.hours()["a fit of AANMF, 3 epochs"] == pytest.approx(3 * 250 * sum(step.values()) / 3600)
    assert small.checkpoint == 4 * tables


def test_one_process_sends_nothing_and_holds_everything(plan: ModuleType) -> None:
    alone = made(plan, "--hosts", "1")
    assert alone.step()["network"] == 0
    assert alone.asked == (0, 0)
    assert alone.own == alone.tables == 101e6 * 128


def test_processes_of_a_host_share_its_memory_cores_and_network(plan: ModuleType) -> None:
    one, four = made(plan), made(plan, "--processes", "4")
    assert four.machine.limit(4) == one.machine.limit(1) / 4
    assert four.step()["arithmetic"] == pytest.approx(4 * one.step()["arithmetic"])
    assert four.step()["Adam"] == pytest.approx(one.step()["Adam"])
    assert four.step()["network"] == pytest.approx(4 * one.step()["network"] * (31 / 32) / (7 / 8))


def test_on_a_gpu_ids_and_what_is_written_stay_in_the_host(plan: ModuleType) -> None:
    gpu = made(plan, "--machine", "gpu").phases()
    assert made(plan).phases()["building"] - gpu["building"] == pytest.approx(made(plan).ids)
    assert gpu["a checkpoint"] == gpu["training"]


def test_what_breaks_first_is_where_its_limit_is_met(plan: ModuleType) -> None:
    given = made(plan)
    breaks = given.breaks()
    assert [factor for _, factor in breaks] == sorted(factor for _, factor in breaks)
    limit, phases = given.machine.limit(1), 0
    for what, factor in breaks:
        grown = replace(given, users=given.users * factor, ratings=given.ratings * factor)
        phase = what.removeprefix("AANMF: memory for ")
        if phase in grown.phases():
            phases += 1
            assert grown.phases()[phase] == pytest.approx(limit, rel=1e-6)
    assert phases == 5
    assert dict(breaks)["AANMF++: 32-bit positions of ratings"] == pytest.approx(2**31 / 1e9)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01439, "0.0144"), (1.834, "1.83"), (477.4, "477"), (36.5e6, "36,500,000")]
)
def test_numbers_have_three_digits(plan: ModuleType, value: float, text: str) -> None:
    assert plan.number(value) == text
