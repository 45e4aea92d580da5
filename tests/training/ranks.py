"""What each process of a distributed test runs: several trainings one after the other; the first process reports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from aanmf import AANMF, MF, AANMFpp, Recommender, SVDpp
from aanmf.errors import ConfigError
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.distributed import joined
from tests.conftest import small_dataset

SETTINGS = {"factors": 4, "epochs": 3, "patience": 3, "batch_size": 61, "learning_rate": 0.02}
"""61: the parts of a batch differ in size, and the last batch of an epoch is small."""
TRAININGS: dict[str, tuple[type[Recommender], dict[str, Any], int | None]] = {
    "mf": (MF, {}, None),
    "mf sharded": (MF, {}, 1),
    "aanmf": (AANMF, {"dropout": 0}, None),
    "aanmf sharded": (AANMF, {"dropout": 0}, 30),
    "aanmf dropout": (AANMF, {"refit": False}, None),
    "mf tiny batches": (MF, {"batch_size": 3, "epochs": 1, "refit": False}, 1),
}
"""By name: model, settings, shard_rows."""
RESUMED = ("mf", "mf sharded", "aanmf sharded")
"""Those whose checkpoints are looked at."""
MEMBERS = {"factors": 3, "epochs": 2, "members": 2, "parts": 2, "l2_candidates": (20.0, 60.0), "validation_cuts": 1}
"""Of AANMF++, whose members are divided among the processes."""


def main(out: Path) -> None:
    data, found = small_dataset(), {}
    with joined() as ranks:
        for name, (kind, settings, shard_rows) in TRAININGS.items():
            model = kind(**{**SETTINGS, **settings})
            checkpoints = Checkpoints(out / "checkpoints" / name, "8") if name in RESUMED else None
            model.fit(data, checkpoints=checkpoints, shard_rows=shard_rows)
            epochs = [(e.phase, e.epoch, e.train_mse, e.valid_mse) for e in model.fitted_.training_log.epochs]
            weights = {key: each.tolist() for key, each in model.module_.state_dict().items()}
            found[name] = {"epochs": epochs, "weights": weights}
        members = AANMFpp(**MEMBERS).fit(data, checkpoints=Checkpoints(out / "checkpoints" / "members"))
        found["members"] = {
            "weights": {key: each.tolist() for key, each in members.module_.state_dict().items()},
            "errors": [each.train_mse for each in members.fitted_.training_log.epochs],
            "ratings": members.predict("u1", ["i1", "i2"])["rating"].to_list(),
        }
        try:
            SVDpp().fit(data)
        except ConfigError as error:
            found["refused"] = str(error)
        (out / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
