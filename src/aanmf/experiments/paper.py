"""What the paper states: its Table 4, its ranks, and the claims of its text. Nothing here is measured by us."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SOURCES = ("ml-100k", "ml-1m")
"""The data sets of the paper."""
NAMES = {"ml-100k": "ML-100K", "ml-1m": "ML-1M"}
"""How the paper writes them."""

TABLE_4: dict[str, dict[str, tuple[float, float]]] = {
    "ml-100k": {
        "acmf": (0.7282, 0.9186),
        "aesr": (0.7216, 0.9176),
        "aanmf": (0.7022, 0.9012),
        "aanmf+p": (0.7012, 0.8979),
    },
    "ml-1m": {
        "acmf": (0.7045, 0.8875),
        "aesr": (0.6980, 0.8792),
        "aanmf": (0.6580, 0.8485),
        "aanmf+p": (0.6473, 0.8322),
    },
}
"""MAE and RMSE by data set and model."""

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
GAIN_OVER_AESR = {"ml-100k": (0.027, 0.018), "ml-1m": (0.057, 0.035)}
"""Table 4: by how much AANMF improves MAE and RMSE (over AESR, as its figures show)."""

GENRES = ("Action", "Animation", "Children's", "Comedy", "Documentary", "Drama", "Romance", "Thriller")
"""Fig 7 has 8 genres, of which the text names action and animation. The others are our choice."""
ATTRIBUTES = ("gender", "age", "occupation")
"""The rows of Fig 7."""


def errors() -> tuple[list[str], NDArray[np.float64]]:
    """Table 4 as Table 5 reads it: names of the rows (data set and metric), errors (4, 3) of the `RANKED` models."""
    rows = [f"{NAMES[source]} {metric}" for source in SOURCES for metric in ("MAE", "RMSE")]
    values = [[TABLE_4[source][model][m] for model in RANKED] for source in SOURCES for m in range(2)]
    return rows, np.array(values)
