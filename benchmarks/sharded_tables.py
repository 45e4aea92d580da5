"""Matrix factorisation whose tables are sharded over processes: by this library and by TorchRec (`make torchrec`).

    python benchmarks/sharded_tables.py [--arms whole ours torchrec] [--ranks 1 2 4] [--rounds 3]
        [--users 1000000] [--items 100000] [--factors 32] [--batch 40000] [--steps 12] [--test 0] [--out FILE.json]

Arms, all of r_ui = mu + b_u + b_i + p_u . q_i and trained on the same batches:

    whole             `MF` of this library; each process holds whole tables
    ours              the same with `ShardedTables`: those of users and of items
    torchrec          EmbeddingCollection, row-wise by TorchRec's planner, with Adagrad in the backward pass, on rows of
                      the batch. On a CPU, FBGEMM fuses SGD and Adagrad only, and the planner allows nothing else.

Each run is a `torchrun` of its own; arms alternate. Seconds of a step are medians over the steps and rounds. Memory is
what one process holds, the largest of all: the bytes of tables and of the optimiser's state, and the growth of its
resident set from before the tables are built to its peak. `--test N` measures the RMSE of N other ratings at the end.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from aanmf.contract import Ratings, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.mf import MFConfig, MFModule
from aanmf.training.distributed import Ranks
from aanmf.training.optimizer import adam
from aanmf.training.sharded_tables import ShardedTables

ARMS = ("whole", "ours", "torchrec")
MEAN, NOISE, PLANTED = 3.5, 0.5, 8
"""Of the ratings: their mean, the standard deviation of the noise, and the number of planted factors."""
STD, PADDED = 0.1, 4
"""Initial standard deviation of vectors; FBGEMM wants columns in fours: a bias brings three more."""
TEST_SEED = 1_000_000


class Planted:
    """Ratings from planted vectors; each batch is drawn from its number, the same on all processes."""

    def __init__(self, args: argparse.Namespace) -> None:
        rng = np.random.default_rng(0)
        self.args = args
        self.p, self.q = (rng.normal(size=(n, PLANTED)).astype("f4") * 0.35 for n in (args.users, args.items))
        self.of_user, self.of_item = (rng.normal(size=n).astype("f4") * 0.4 for n in (args.users, args.items))

    def batch(self, number: int, size: int) -> Ratings:
        """Users evenly, items by popularity: the square of a uniform number."""
        rng = np.random.default_rng([1, number])
        user = rng.integers(self.args.users, size=size)
        item = (rng.random(size) ** 2 * self.args.items).astype(np.int64)
        rating = MEAN + self.of_user[user] + self.of_item[item] + 2 * (self.p[user] * self.q[item]).sum(1)
        return Ratings.of(user, item, (rating + NOISE * rng.standard_normal(size)).astype("f4"))


class Trained:
    """A model in training."""

    penalty: Tensor | float = 0.0
    """What the last prediction adds to the mean squared error."""

    def predict(self, batch: Ratings) -> Tensor:
        """Ratings (b,) of a process's part of a batch."""
        raise NotImplementedError

    def step(self) -> None:
        """What follows the backward pass; nothing if the optimiser is part of it."""

    def state(self) -> list[Tensor]:
        """This process's rows of tables and what the optimiser keeps of them."""
        raise NotImplementedError


class Ours(Trained):
    def __init__(self, args: argparse.Namespace, ranks: Ranks, shard: bool) -> None:
        none = [torch.empty(n + 1, 0, dtype=torch.int64) for n in sizes(args)]
        sets = [AttributeSet(each, each, each) for each in none]
        one = Ratings(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.tensor([MEAN]))
        training = TrainingData(sets[0], sets[1], (1.0, 5.0), one)
        config = MFConfig(factors=args.factors, l2=args.l2, l2_bias=args.l2)
        build = partial(MFModule, config, training)
        self.tables = ShardedTables(build, training, ranks, 1 if shard else None, torch.device("cpu"))
        self.module = self.tables.module
        self.optimizer = adam(self.module, self.module.l2_groups(), args.batch * args.batches, args.learning_rate)
        self.ranks = ranks

    def predict(self, batch: Ratings) -> Tensor:
        return self.tables(batch)

    def step(self) -> None:
        self.tables.add_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> list[Tensor]:
        return [*self.module.parameters(), *_tensors(self.optimizer.state)]


class TorchRec(Trained):
    """Columns of a table: the vector, the bias, and three that nothing uses."""

    def __init__(self, args: argparse.Namespace, ranks: Ranks) -> None:
        import torchrec
        from torchrec.distributed.comm_ops import set_gradient_division
        from torchrec.distributed.embedding import EmbeddingCollectionSharder
        from torchrec.distributed.model_parallel import DistributedModelParallel
        from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
        from torchrec.distributed.planner.types import ParameterConstraints
        from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

        set_gradient_division(False)  # the loss of a part is divided by the length of the whole batch
        self.args, self.ranks, self.keyed, self.factors = args, ranks, torchrec.KeyedJaggedTensor, args.factors
        configs = [
            torchrec.EmbeddingConfig(
                name=name,
                embedding_dim=args.factors + PADDED,
                num_embeddings=n + 1,
                feature_names=[name],
                init_fn=self._draw,
            )
            for name, n in zip("pq", sizes(args), strict=True)
        ]
        tables = torchrec.EmbeddingCollection(device=torch.device("meta"), tables=configs)
        apply_optimizer_in_backward(torch.optim.Adagrad, tables.parameters(), {"lr": args.learning_rate})
        sharders: list[Any] = [EmbeddingCollectionSharder()]
        topology = Topology(world_size=ranks.count, compute_device="cpu", local_world_size=ranks.count)
        rows = {each.name: ParameterConstraints(sharding_types=["row_wise"]) for each in configs}
        planner = EmbeddingShardingPlanner(topology=topology, constraints=rows)
        plan = planner.collective_plan(tables, sharders, dist.group.WORLD)
        self.module: nn.Module = DistributedModelParallel(
            tables, device=torch.device("cpu"), sharders=sharders, plan=plan
        )
        self.optimizer: Any = self.module.fused_optimizer

    def _draw(self, table: Tensor) -> Tensor:
        with torch.no_grad():
            table.normal_(0, STD)[:, self.factors :] = 0
        return table

    def predict(self, batch: Ratings) -> Tensor:
        own = self.ranks.part(batch)
        lengths = torch.ones(2 * len(own), dtype=torch.int32)
        found = self.module(self.keyed(keys=["p", "q"], values=torch.cat([own.user, own.item]), lengths=lengths))
        p, q = (found[name].values() for name in "pq")
        k, args = self.factors, self.args
        self.penalty = args.l2_of_rating / args.batch * (p.square().sum() + q.square().sum())
        return MEAN + p[:, k] + q[:, k] + (p[:, :k] * q[:, :k]).sum(1)

    def state(self) -> list[Tensor]:
        tables = [shard.tensor for each in self.module.state_dict().values() for shard in each.local_shards()]
        return [*tables, *_tensors(self.optimizer.state)]


def sizes(args: argparse.Namespace) -> tuple[int, int]:
    """Users and items."""
    return args.users, args.items


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in an optimiser's state, of sharded ones this process's rows."""
    if hasattr(value, "local_shards"):
        return [shard.tensor for shard in value.local_shards()]
    if isinstance(value, Tensor):
        return [value]
    return [tensor for each in value.values() for tensor in _tensors(each)] if hasattr(value, "values") else []


def resident(peak: bool = False) -> int:
    """Bytes of this process in memory; `peak`: at most since `forget_peak`."""
    name = "VmHWM" if peak else "VmRSS"
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


def forget_peak() -> None:
    """Starts the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def train(args: argparse.Namespace, ranks: Ranks, batches: list[Ratings]) -> tuple[Trained, list[float], int]:
    """A trained model, the seconds of each step, and how far memory had grown at most when the tables were built."""
    before = resident()
    model = TorchRec(args, ranks) if args.arm == "torchrec" else Ours(args, ranks, shard=args.arm == "ours")
    built, seconds = resident(peak=True) - before, []
    for step in range(args.steps):
        batch = batches[step % len(batches)]
        own = ranks.part(batch)
        ranks.wait()
        start = time.perf_counter()
        loss = (model.predict(batch) - own.rating).square().sum() / args.batch
        (loss + model.penalty).backward()
        model.step()
        ranks.wait()
        seconds.append(time.perf_counter() - start)
    return model, seconds, built


def run(args: argparse.Namespace) -> dict[str, Any]:
    """What each process does."""
    torch.manual_seed(0)
    ranks, few = Ranks.current(), argparse.Namespace(**{**vars(args), "users": 100, "items": 100, "batch": 100})
    train(few, ranks, [Planted(few).batch(0, few.batch)])  # loads what code there is to load
    planted = Planted(args)
    batches = [planted.batch(number, args.batch) for number in range(min(args.batches, args.steps))]
    gc.collect()
    forget_peak()
    before = resident()
    model, seconds, built = train(args, ranks, batches)
    held = sum(each.nbytes for each in model.state())
    memory = torch.tensor([held, built, resident(peak=True) - before])
    if not ranks.alone:
        dist.all_reduce(memory, dist.ReduceOp.MAX)
    held, built, peak = memory.tolist()
    found = {"seconds": statistics.median(seconds[2:]), "held": held, "built": built, "peak": peak}
    if args.test:
        test = planted.batch(TEST_SEED, args.test)
        with torch.no_grad():
            error = ranks.add((model.predict(test) - ranks.part(test).rating).double().square().sum())
        found["rmse"] = float(error / args.test) ** 0.5
    return found


def start(args: argparse.Namespace, arm: str, ranks: int) -> dict[str, Any]:
    """One run in processes of its own."""
    names = ("users", "items", "factors", "batch", "batches", "steps", "test", "l2", "l2_of_rating", "learning_rate")
    about = [word for name in names for word in (f"--{name.replace('_', '-')}", str(getattr(args, name)))]
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", __file__, "--arm", arm]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *about], capture_output=True, text=True, env=environment, timeout=900)
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--factors", type=int, default=32)
    parser.add_argument("--batch", type=int, default=40_000)
    parser.add_argument("--batches", type=int, default=300, help="different ones: an epoch")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--test", type=int, default=0)
    parser.add_argument("--l2", type=float, default=10.0, help="of tables, by Adam; as in MF")
    parser.add_argument(
        "--l2-of-rating", type=float, default=0.0, help="for torchrec: of the rows of a rating; Adagrad's has no effect"
    )
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        dist.init_process_group("gloo")
        found = run(args)
        if Ranks.current().first:
            print(json.dumps(found))  # noqa: T201
        Ranks.current().wait()
        dist.destroy_process_group()
        return
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(args.rounds):
        for ranks in args.ranks:
            for arm in args.arms:
                runs.setdefault(f"{arm}, {ranks}", []).append(start(args, arm, ranks))
    table = {name: {key: statistics.median(r[key] for r in found) for key in found[0]} for name, found in runs.items()}
    for name, row in table.items():
        print(name, {key: round(value / 1e6) if value > 1e3 else round(value, 4) for key, value in row.items()})  # noqa: T201
    if args.out:
        args.out.write_text(json.dumps({"settings": {**vars(args), "out": None}, "median": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
