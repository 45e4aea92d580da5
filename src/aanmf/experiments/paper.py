"""What the paper states: its Table 4, its ranks, and the claims of its text. Nothing here is measured by us."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAMES = {"ml-100k": "ML-100K", "ml-1m": "ML-1M"}
"""Its data sets, and how it writes them."""
METRICS = ("mae", "rmse")
"""Its metrics, in its order."""
TABLE_4: dict[str, dict[str, dict[str, float]]] = {
    "ml-100k": {
        "acmf": {"mae": 0.7282, "rmse": 0.9186},
        "aesr": {"mae": 0.7216, "rmse": 0.9176},
        "aanmf": {"mae": 0.7022, "rmse": 0.9012},
        "aanmf+p": {"mae": 0.7012, "rmse": 0.8979},
    },
    "ml-1m": {
        "acmf": {"mae": 0.7045, "rmse": 0.8875},
        "aesr": {"mae": 0.6980, "rmse": 0.8792},
        "aanmf": {"mae": 0.6580, "rmse": 0.8485},
        "aanmf+p": {"mae": 0.6473, "rmse": 0.8322},
    },
}
"""Errors by data set, model and metric."""
CURVES = ("svd++", "nfm", "aanmf")
"""The models of Figures 4 and 5."""

RATINGS_STATED = {"ml-100k": 100_000, "ml-1m": 1_000_309}
"""Table 1's numbers of ratings. That of ML-1M is wrong by 100."""

RANKED = ("acmf", "aesr", "aanmf+p")
"""The models of its Table 5."""
TABLE_5 = ((2.5, 2.5, 1.0), (3.0, 2.0, 1.0), (2.5, 2.5, 1.0), (2.5, 2.5, 1.0))
"""Its ranks of ACMF, AESR, AANMF+P: ML-100K MAE, RMSE, ML-1M MAE, RMSE. The second row breaks its own rule."""
TIE = 0.01
"""Its rule: errors that are nearer than this share a rank."""

GAIN_OVER_SVDPP = {"ml-100k": 0.045, "ml-1m": 0.065}
"""Fig 5: mean improvement of the neural models' test MSE over that of SVD++."""
GAIN_OVER_AESR = {"ml-100k": {"mae": 0.027, "rmse": 0.018}, "ml-1m": {"mae": 0.057, "rmse": 0.035}}
"""Table 4: by how much AANMF improves on AESR, by metric."""

GENRES = ("Action", "Animation", "Children's", "Comedy", "Documentary", "Drama", "Romance", "Thriller")
"""Fig 7 has 8 genres, of which the text names action and animation. The others are our choice."""
ATTRIBUTES = ("gender", "age", "occupation")
"""The rows of Fig 7."""


def errors() -> tuple[list[str], NDArray[np.float64]]:
    """Table 4 as Table 5 reads it: names of the rows (data set and metric), errors (4, 3) of the `RANKED` models."""
    rows = [(source, metric) for source in NAMES for metric in METRICS]
    values = [[TABLE_4[source][model][metric] for model in RANKED] for source, metric in rows]
    return [f"{NAMES[source]} {metric.upper()}" for source, metric in rows], np.array(values)
