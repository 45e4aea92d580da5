"""What each process of a distributed test runs: commands that use models, as `torchrun -m aanmf` does.

The first process writes what each of them printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from aanmf.cli import main as aanmf
from aanmf.training.distributed import joined

SOURCE = "synthetic:140000"
"""1,400 users are two blocks of lists, and 140,000 ratings three blocks of predictions."""
FEW = ("--set", "aanmf++.epochs=1", "--set", "aanmf++.members=2", "--set", "aanmf++.parts=2")
MODELS = ("--model", "popularity", "--model", "aanmf++", "--model", "damped-means", *FEW)


def commands(model: Path, out: Path) -> dict[str, list[str]]:
    """By name, of the model in a folder."""
    lists = ["recommend", str(model), "--all", "-n", "3", "--json", "--out"]
    folds = ["cross-validate", "synthetic:1000", *MODELS, "--protocol", "kfold:3", "--json"]
    return {
        "csv": [*lists, str(out / "lists.csv")],
        "parquet": [*lists, str(out / "lists.parquet")],
        "evaluate": ["evaluate", str(model), SOURCE, "--metrics", "rmse,mae,ndcg@5,gini@5", "--json"],
        "groups": ["evaluate", str(model), SOURCE, "--group-by", "gender", "--json"],
        "cross-validate": [*folds, "--metrics", "rmse,ndcg@5"],
        "measured": ["train", "synthetic:1000", "--model", "mf", "--set", "epochs=1", "--test", "0.2", "--json"],
    }


def printed(command: list[str]) -> str:
    """What a command prints; it must succeed."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        code = aanmf(command)
    assert code == 0, f"{command}: exit code {code}"
    return text.getvalue()


def main(model: Path, out: Path) -> None:
    with joined() as ranks:
        found = {name: printed(command) for name, command in commands(model, out).items()}
        (out / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
