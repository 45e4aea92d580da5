"""Fitting AANMF++: held-out ratings choose l2, trust and parts; then all members are trained on all ratings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aanmf.contract import RatingModule, TrainingData
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.drift import weigh
from aanmf.models.aanmfpp.equations import Member, damped_means
from aanmf.models.aanmfpp.interval import Interval
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.aanmfpp.newcomers import errors_of_newcomers
from aanmf.models.aanmfpp.run import Plan, steps_per_part
from aanmf.models.aanmfpp.stack import Rates, learn_weights
from aanmf.models.aanmfpp.trainer import Trainer
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.log import OnEpoch, TrainingLog
from aanmf.training.memory import give_back

log = logging.getLogger(__name__)
SIMPLER = (("user_attributes", "item_attributes"), ("user_attributes", "item_attributes", "history", "ridge"))
"""Parts that a model of few ratings may do better without: attributes; everything but ids."""
AS_GOOD = 1.0005
"""Of many ratings, so few members are trained that their error is expected to be at most so many times that of all."""
ENOUGH = 500_000
"""Ratings on which choices come out as on twice as many."""
FAST = 10.0
"""Without histories, the attention cell learns with this multiple of the learning rate."""


def fit_aanmfpp(
    build: Callable[[AANMFppConfig, TrainingData], RatingModule],
    training: TrainingData,
    config: AANMFppConfig,
    on_epoch: OnEpoch | None = None,
    checkpoints: Checkpoints | None = None,
    shard_rows: int | None = None,
) -> tuple[AANMFppModule, TrainingLog]:
    """Chooses l2 and the trust over damped means on held-out ratings, then fits all members on all ratings.

    What users choose is learned after that (`choice.py`); of choices without ratings, nothing else is.
    `training_log.chosen` holds `l2`, `trust`, and as False the parts that were left out. After an interruption, members
    that are not complete take the weights of the one trained longest; `training_log.interrupted` says so.

    Raises:
        ConfigError: training diverged.
        KeyboardInterrupt: nothing was learned before it.
    """
    trainer = Trainer.of(training, config, on_epoch, checkpoints)
    with torch.random.fork_rng(devices=[trainer.device] if trainer.device.type == "cuda" else []):
        searched = some_users(training, config)
        validated = config.validation > 0 and len(training.train) >= 20
        selected = Selection(config, config.l2_middle)
        if validated and training.has_ratings:
            with trainer.interruptible():
                selected = select(trainer, searched)
                if len(training.train) > config.search_ratings and config.members > 1:
                    selected = fewer_members(trainer, searched, selected)
                selected = selected.at_full_size(config, len(training.train)).lean()
                trainer.forget_all_but([member for part in selected.held for member in part.members])
        newcomer_errors, omega = selected.newcomer_errors(searched), None
        if config.match:
            cuts = choice_cuts(selected, searched, validated and not trainer.training_log.interrupted)
            omega = learn_weights(selected.config, searched, cuts, trainer.ranks)
        selected = replace(selected, held=())  # no longer needed, and large
        give_back()
        torch.manual_seed(config.seed)
        module = build(selected.config, training)
        assert isinstance(module, AANMFppModule)
        module.to(trainer.device).train()
        if training.has_ratings:
            members = selected.config.members
            cold = [0.0] * members + [config.cold] * (config.cold > 0)
            plans = [Plan(member, selected.l2, share) for member, share in zip(module.members, cold, strict=True)]
            if not trainer.training_log.interrupted:
                with trainer.interruptible():
                    trainer.train("final", module, training, plans)
            if trainer.training_log.interrupted:
                trainer.complete(module, training)
            residual = trainer.residual_of(module.members[:members])
            if module.drift is not None and selected.drift is not None and residual is not None:
                module.drift.residual.copy_(residual)
                module.drift.weight.copy_(selected.drift)
        module.trust.fill_(selected.trust)
        module.errors.load_state_dict(selected.errors.state_dict())
        module.newcomer_errors.load_state_dict(newcomer_errors.state_dict())
        if module.choice is not None and omega is not None:
            give_back()
            module.choice.fit(trainer.ranks).omega.copy_(omega)
    if training.has_ratings:
        trainer.training_log.chosen = selected.chosen(config)
        if len(selected.left):
            trainer.training_log.selected_mse = selected.mse / float(module.scale) ** 2
    return module.eval(), trainer.training_log


@dataclass(frozen=True)
class HeldOut:
    """Held-out ratings, scaled as in the model, and predictions of members that have not seen them.

    Attributes:
        rows: (n,) which of the training ratings.
        module: of the other ratings.
        members: one per strength of l2.
        truth, means: (n,) the ratings, and damped means.
        counts: (2, n) ratings of the user, and of the item.
        moments: (L, 2, n) mean and variance of the members.
        drift: (L, S, n) what their times say, by the residuals of each member; None: they have no times.
    """

    rows: Tensor
    module: AANMFppModule
    members: list[Member]
    truth: Tensor
    means: Tensor
    counts: Tensor
    moments: Tensor
    drift: Tensor | None = None

    def with_member(self, strength: int, trust: float) -> AANMFppModule:
        """The module with one of the members, as far as it is trusted over damped means."""
        self.module.member = nn.ModuleList([self.members[strength]])
        self.module.trust.fill_(trust)
        return self.module.train()

    def rates(self, strength: int, trust: float) -> Rates:
        """Predicted ratings of one of the members."""
        module, device = self.with_member(strength, trust), self.truth.device
        return lambda users: torch.cat([scores.cpu() for _, scores in module.catalogue(users.to(device))])


@dataclass(frozen=True)
class Selection:
    """What held-out ratings decide.

    Attributes:
        config: the settings, perhaps without some parts.
        l2: of the tables.
        trust: weight of the model over damped means, 0 to 1.
        errors: of the held-out ratings, for intervals.
        left: (n,) errors of the held-out ratings, scaled as in the model, blended as far as `trust` says.
        held: the held-out ratings, and `strength`, the place of `l2` among the members.
        drift: (S,) weights of what times say; None: there are no times.
    """

    config: AANMFppConfig
    l2: float
    trust: float = 1.0
    errors: Interval = field(default_factory=Interval)
    left: Tensor = field(default_factory=lambda: torch.zeros(0))
    held: Sequence[HeldOut] = ()
    strength: int = 0
    drift: Tensor | None = None

    def lean(self) -> Selection:
        """Without the members that were not selected."""
        held = [replace(part, members=list(part.with_member(self.strength, self.trust).members)) for part in self.held]
        return replace(self, held=held, strength=0)

    @property
    def mse(self) -> float:
        """Of the held-out ratings, scaled as in the model."""
        return float(self.left.square().mean())

    def newcomer_errors(self, training: TrainingData) -> Interval:
        """The errors of the members selected, had the users been new."""
        if not self.held:
            return Interval()
        generator, found, device = torch.Generator().manual_seed(self.config.seed), [], self.held[0].truth.device
        for part in self.held:
            held_out = training.train.take(part.rows).to(device)
            found.append(errors_of_newcomers(part.with_member(self.strength, self.trust), held_out, generator))
        errors = Interval().to(device)
        errors.fit(_scale(training, self.held[0].module), *torch.cat(found, dim=1))
        return errors

    def at_full_size(self, asked: AANMFppConfig, n: int) -> Selection:
        """With the steps for n ratings, where `simpler` changed those for the ratings of the search."""
        if self.config.steps == asked.steps:
            return self
        return replace(self, config=self.config.model_copy(update={"steps": 4 * steps_per_part(asked, n)}))

    def chosen(self, asked: AANMFppConfig) -> dict[str, float]:
        """What differs from the settings that were asked for, or was not asked for."""
        parts = {name: value for name, value in self.config if value != getattr(asked, name)}
        return {"l2": self.l2, "trust": self.trust, **parts}


def some_users(training: TrainingData, config: AANMFppConfig) -> TrainingData:
    """The ratings of some users, drawn at random, with about as many ratings as choices are to be made on; or all."""
    user = training.train.user
    wanted = min(config.search_ratings, max(ENOUGH, len(user) // 2))
    if len(user) <= wanted:
        return training
    count = torch.bincount(user)
    order = torch.as_tensor(np.random.default_rng([config.seed, 2]).permutation(len(count)))
    few = count[order].cumsum(0) <= wanted
    few[0] = True
    rows = torch.zeros_like(few).index_put_((order,), few)[user].nonzero()[:, 0]
    return training.with_train(training.train.take(rows))


def select(trainer: Trainer, training: TrainingData) -> Selection:
    """The best selection on held-out ratings: whether to use the context, l2, and whether to leave parts out."""
    config = trainer.config
    if config.context and training.train.context is not None and training.train.context.sets:
        config = config.model_copy(update={"context": _pays(trainer, training, config)})
    best = min(validate(trainer, training, config, config.l2_tried), key=lambda each: each.mse)
    for changes in simpler(config, len(training.train)):
        fewer = config.model_copy(update=changes)
        best = min(best, *validate(trainer, training, fewer, [best.l2]), key=lambda each: each.mse)
    others = [l2 for l2 in config.l2_tried if l2 < best.l2]
    if best.config != config and others:  # with fewer parts there is less to hold down
        best = min([best, *validate(trainer, training, best.config, others)], key=lambda each: each.mse)
    log.info("%r: l2 %g, trust %.2f over damped means", best.config, best.l2, best.trust)
    return best


def fewer_members(trainer: Trainer, training: TrainingData, selected: Selection) -> Selection:
    """With as few members as are `AS_GOOD` as those asked for.

    Members differ by their seed alone. Of squared error e of one, the mean of m has e - v + v / m left, where v, half
    the mean squared difference of two, is the variance by the seed.
    """
    both = validate(trainer, training, selected.config, [selected.l2] * 2)
    error = sum(each.mse for each in both) / 2
    spread = float((both[0].left - both[1].left).square().mean()) / 2
    expected = [error - spread + spread / m for m in range(1, selected.config.members + 1)]
    enough = next(m for m, mse in enumerate(expected, 1) if mse <= expected[-1] * AS_GOOD**2)
    log.info("%d members: errors of held-out ratings, by their number: %s", enough, expected)
    return replace(selected, config=selected.config.model_copy(update={"members": enough}))


def _pays(trainer: Trainer, training: TrainingData, config: AANMFppConfig) -> bool:
    """Whether the context lowers errors of held-out ratings.

    It comes before all other choices: a model that leaves unexplained what the context says is better with a stronger
    penalty and without other parts that the context makes useful.
    """
    without = config.model_copy(update={"context": False})
    (plain,), (richer,) = (validate(trainer, training, each, [config.l2_middle]) for each in (without, config))
    return improves(plain.left, richer.left)


def simpler(config: AANMFppConfig, n: int) -> list[Mapping[str, float]]:
    """Changes of settings to be tried on n training ratings, because they leave parts out."""
    if not config.simplify_up_to:
        return []
    found: list[Mapping[str, float]] = []
    if n <= config.simplify_up_to:
        found += [dict.fromkeys(parts, False) for parts in SIMPLER]
    if config.history or config.ridge:
        steps = config.steps or 4 * steps_per_part(config, n)  # which cost no more than those with histories
        rate = config.attention_rate or FAST
        found.append({"history": False, "ridge": False, "attention_rate": rate, "steps": steps})
    return found


def choice_cuts(selected: Selection, training: TrainingData, validated: bool) -> list[tuple[Tensor, Rates | None]]:
    """Held-out rows on which the weights of choice are learned; and, of ratings, what the members selected predict."""
    if not validated:
        return []
    if training.has_ratings:
        return [(part.rows, part.rates(selected.strength, selected.trust)) for part in selected.held]
    rows = validation_cuts(len(training.train), selected.config)
    return [(torch.as_tensor(each), None) for each in rows]


def validate(
    trainer: Trainer, training: TrainingData, config: AANMFppConfig, strengths: Sequence[float]
) -> list[Selection]:
    """One selection per strength of l2, from members trained without the held-out ratings."""
    cuts = validation_cuts(len(training.train), config)
    held = [_hold_out(trainer, training, config, strengths, rows) for rows in cuts]
    truth, means, counts, moments = (
        torch.cat([getattr(part, name) for part in held], dim=-1) for name in ("truth", "means", "counts", "moments")
    )
    selections = []
    for strength, (model, variance) in enumerate(moments):
        x, y = model - means, truth - means
        trust = float((x @ y / (x @ x).clamp(min=1e-9)).clamp(0, 1))
        error, errors, drift = y - trust * x, Interval().to(trainer.device), None
        if found := [part.drift[strength] for part in held if part.drift is not None]:
            features = torch.cat(found, dim=1)
            drift = weigh(features, error)
            drift = drift * improves(error, error - drift @ features)
            error = error - drift @ features
        errors.fit(_scale(training, held[0].module), truth, truth - error, variance, *counts)
        selections.append(Selection(config, strengths[strength], trust, errors, error, held, strength, drift))
    return selections


def improves(left: Tensor, then: Tensor) -> bool:
    """Whether squared errors (n,) of held-out ratings fall by more than the standard error of the difference."""
    gain = left.double().square() - then.double().square()
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5)


def _scale(training: TrainingData, module: AANMFppModule) -> tuple[float, float]:
    """Lowest and highest rating, scaled as in the module."""
    return training.scale[0] * float(module.scale), training.scale[1] * float(module.scale)


def validation_cuts(n: int, config: AANMFppConfig) -> list[NDArray[np.int64]]:
    """Rows to hold out, one array per cut: enough of them in all to choose on."""
    order = np.random.default_rng([config.seed, 1]).permutation(n)
    size = max(1, round(n * config.validation))
    cuts = min(config.validation_cuts, n // size, max(1, round(config.validation_ratings / size)))
    return [np.sort(order[n - (cut + 1) * size : n - cut * size]) for cut in range(cuts)]


def _hold_out(
    trainer: Trainer, training: TrainingData, config: AANMFppConfig, strengths: Sequence[float], rows: NDArray[np.int64]
) -> HeldOut:
    """Holds out some ratings and trains one member per strength of l2 without them."""
    kept = np.setdiff1d(np.arange(len(training.train)), rows)
    part = training.with_train(training.train.take(torch.as_tensor(kept)))
    torch.manual_seed(config.seed)
    single = config.model_copy(update={"members": 1, "cold": 0.0, "match": False})
    module = AANMFppModule(single, part).to(trainer.device)
    members = [*module.members, *(module.new_member(part).to(trainer.device) for _ in strengths[1:])]
    trainer.train("search", module, part, [Plan(*each) for each in zip(members, strengths, strict=True)])
    with torch.no_grad():
        valid = training.train.take(torch.as_tensor(rows)).to(trainer.device)
        seen, means = (module.history.see_all(each) for each in (config.damping, config.means_damping))
        at = module.pairs(valid.user, valid.item, module.sets.rows(valid.user).in_context(valid.context))
        latent = [module.latent(member, module.encode(member, seen), at) for member in members]
        moments = [module.moments(member, f) for member, f in zip(members, latent, strict=True)]
        counts = torch.stack(at.both(seen.users.count, seen.items.count))
        truth, moments = valid.rating * module.scale, torch.stack(moments)
        drift = None
        if module.drift is not None and valid.context is not None and valid.context.time is not None:
            features = []
            for member in members:
                module.drift.residual.copy_(trainer.residual[member])
                features.append(module.drift.kernels(valid.user, valid.context.time))
            drift = torch.stack(features)
        return HeldOut(torch.as_tensor(rows), module, members, truth, damped_means(means, at), counts, moments, drift)
