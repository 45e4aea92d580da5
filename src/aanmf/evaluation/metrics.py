import numpy as np
from dataclasses import dataclass
@dataclass(frozen=True)
class Scores: rmse: float; mae: float; n: int
def score(p,a):
    d=p-a; return Scores(float((d**2).mean()**.5),float(abs(d).mean()),len(d))
