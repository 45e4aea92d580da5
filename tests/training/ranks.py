"""What each process of a distributed test runs: several trainings one after the other; the first process reports."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aanmf import AANMF, FM, MF, AANMFpp, Recommender, SVDpp
from aanmf.data.synthetic import make_synthetic
from aanmf.errors import ConfigError
from aanmf.fitted import Fitted
from aanmf.models.mf import MFConfig, MFModule
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.distributed import Ranks, joined
from aanmf.training.optimizer import adam
from aanmf.training.sharded_tables import ShardedTables
from tests.conftest import small_dataset

SETTINGS = {"factors": 4, "epochs": 3, "patience": 3, "batch_size": 61, "learning_rate": 0.02}
"""61: the parts of a batch differ in size, and the last batch of an epoch is small."""
TRAININGS: dict[str, tuple[type[Recommender], dict[str, Any], int | None]] = {
    "mf": (MF, {}, None),
    "mf sharded": (MF, {}, 1),
    "aanmf": (AANMF, {"dropout": 0}, None),
    "aanmf sharded": (AANMF, {"dropout": 0}, 1),
    "aanmf sharded by users": (AANMF, {"dropout": 0}, 30),
    "fm": (FM, {}, None),
    "fm sharded": (FM, {}, 1),
    "aanmf dropout": (AANMF, {"refit": False}, None),
    "mf tiny batches": (MF, {"batch_size": 3, "epochs": 1, "refit": False}, 1),
    "mf few in a batch": (MF, {"batch_size": 15}, None),
}
"""By name: model, settings, shard_rows."""
RESUMED = ("mf", "mf sharded", "aanmf sharded", "mf few in a batch")
"""Those whose checkpoints are looked at; tables of the last are sharded because they have more rows than a batch."""
MEMBERS = {"factors": 3, "epochs": 2, "members": 2, "parts": 2, "l2_candidates": (20.0, 60.0), "validation_cuts": 1}
"""Of AANMF++, whose members are divided among the processes."""


LARGE = {"n_users": 4000, "n_items": 1000}
"""Enough rows for shares of the processes to tell."""


def held(ranks: Ranks) -> int:
    """Bytes of this process's parameters and moments after a step of `MF`, all tables sharded."""
    training = Fitted.of(make_synthetic(n_ratings=2000, **LARGE).data).training
    build = partial(MFModule, MFConfig(factors=4), training)
    tables = ShardedTables(build, training, ranks, 1, torch.device("cpu"))
    optimizer = adam(tables.module, tables.module.l2_groups(), len(training.train), 0.01)
    own = ranks.part(training.train)
    (tables(training.train) - own.rating).square().sum().backward()
    tables.add_gradients()
    optimizer.step()
    moments = [state[part] for state in optimizer.state.values() for part in ("exp_avg", "exp_avg_sq")]
    return sum(each.nbytes for each in [*tables.module.parameters(), *moments])


def resume(out: Path) -> None:
    """Goes on from checkpoints that another number of processes wrote; all tables sharded."""
    found = {}
    with joined() as ranks:
        for name in RESUMED:
            kind, settings, _ = TRAININGS[name]
            checkpoints = Checkpoints(out / "checkpoints" / name, "8", resume=True)
            model = kind(**{**SETTINGS, **settings}).fit(small_dataset(), checkpoints=checkpoints, shard_rows=1)
            assert checkpoints.started_from is not None
            found[name] = {key: each.tolist() for key, each in model.module_.state_dict().items()}
        (out / f"{ranks.rank}.json").write_text(json.dumps(found))


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
        found["held"] = held(ranks)
        (out / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    (resume if "--resume" in sys.argv else main)(Path(sys.argv[1]))
