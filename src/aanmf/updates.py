"""How a model takes in what is new: at once, with some training, or by a full fit; see decision 9.

| new ratings | what happens | cost, of a full fit |
|---|---|---|
| up to 2 % since the last training | they enter histories, and what is solved is solved again | 5 % |
| up to 5 % | the same, and tables of vectors are trained for a quarter of the epochs, from where they stood | 25 % |
| up to 30 % since the last full fit | the same for half of the epochs | 40 % |
| more, or where a model has no other way | a full fit | 100 % |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from aanmf.additions import Grown
from aanmf.contract import ModelConfig, RatingModule
from aanmf.fitted import Fitted
from aanmf.models.catalog import ModelSpec, load_object
from aanmf.training.learned import Learned
from aanmf.training.log import OnEpoch

HISTORIES, QUARTER, FULL = 0.02, 0.05, 0.3
"""Shares of new ratings up to which they only enter histories, training takes a quarter of the epochs, and half."""


@dataclass(frozen=True)
class Way:
    """How to take in what is new, and why: with a part of the epochs of a full fit, 0 to 1."""

    part: float
    why: str

    @classmethod
    def of(cls, spec: ModelSpec, fitted: Fitted, grown: Grown, full: bool) -> Way:
        """The cheapest one that costs little accuracy; `full`: a full fit anyway."""
        total = max(1, len(grown.data))
        share, untrained = (
            (fitted.news(since) + grown.ratings) / total for since in ("new_since_fit", "new_since_training")
        )
        if full:
            return cls(1, "a full fit was asked for")
        if grown.forgotten:
            return cls(1, f"{grown.forgotten} users were forgotten, and nothing of them is to be left")
        if fitted.context.names:
            return cls(1, "a model that has learned from the context of ratings is fitted again")
        if spec.updater is None:
            return cls(1, f"{spec.name} has no faster way than a full fit")
        if share > FULL:
            return cls(1, f"{share:.0%} of the ratings came since the last full fit, more than {FULL:.0%}")
        of_training = f"{max(untrained, 0.0001):.2%} of the ratings came since the last training"
        if untrained <= HISTORIES:
            return cls(0, f"{of_training}, at most {HISTORIES:.0%}")
        return cls(0.25 if untrained <= QUARTER else 0.5, f"{of_training}, more than {HISTORIES:.0%}")


def take_in(
    spec: ModelSpec,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    fitted: Fitted,
    grown: Grown,
    part: float,
    on_epoch: OnEpoch | None = None,
) -> tuple[RatingModule, Fitted] | None:
    """A model with what is new, without a full fit; None where its `ModelSpec.updater` cannot do that.

    Args:
        spec, config: of the model; `config` with what the last full fit chose.
        weights: its module's `state_dict`.
        fitted: what it learned besides.
        grown: old and new data.
        part: of the epochs of a full fit, below 1.
        on_epoch: called after every epoch.
    """
    new_since_training = 0 if part > 0 else fitted.news("new_since_training") + grown.ratings
    new_since_fit = fitted.news("new_since_fit") + grown.ratings
    after = fitted.grown(grown.data, new_since_fit=new_since_fit, new_since_training=new_since_training)
    assert spec.updater is not None
    update, learned = load_object(spec.updater), Learned(fitted.training, weights)
    module = update(spec.module_type, learned, after.training, config, part, on_epoch)
    return None if module is None else (module, after)
