"""Model folders of format 1: turned into those of format 2 as they are read.

In format 1 the last column of every table of AANMF++ was a bias, it did not learn what users choose, and its intervals
were the same for users of the training data and for new ones; in format 2 biases and the errors of newcomers are tables
of their own. Nothing else has changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_TABLE = re.compile(r"members\.(\d+)\.([pqycwd]|[ag]\.(?:weight|projections\.\d+))")
_OTHER = re.compile(r"members\.(\d+)\.(.+)")


def of_format_1(
    model: str, settings: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and weights of a model of format 1 as format 2 has them.

    Args:
        model: its name in the catalogue.
        settings: that were asked for.
        weights: by the name of the parameter, as `read_folder` gave them.
    """
    if model != "aanmf++":
        return dict(settings), dict(weights)
    converted: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if table := _TABLE.fullmatch(name):
            member, rest = table.groups()
            converted[f"member.{member}.vectors.{rest}"] = tensor[:, :-1].contiguous()
            converted[f"member.{member}.biases.{rest}"] = tensor[:, -1:].contiguous()
        else:
            converted[_OTHER.sub(r"member.\1.\2", name)] = tensor
            if name.startswith("errors."):
                converted[name] = tensor.tile(2, 1) if "quantile" in name else tensor
                converted[f"newcomer_{name}"] = converted[name].clone()
    return {**settings, "match": False}, converted
