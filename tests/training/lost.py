"""What each process of a test does that loses one: sums without end, until the last rank is gone in some way."""

from __future__ import annotations

import os
import signal
import sys
import time

import torch

from aanmf.errors import DataError
from aanmf.training.distributed import joined


def main(how: str) -> None:
    with joined() as ranks:
        for step in range(100_000):
            ranks.add(torch.ones(3))
            if step == 20 and ranks.rank == ranks.count - 1:
                if how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if how == "hanging":
                    time.sleep(30)
                raise DataError("users.csv: no such file")


if __name__ == "__main__":
    main(sys.argv[1])
