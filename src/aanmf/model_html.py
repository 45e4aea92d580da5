"""A model as notebooks show it: what it is, what it learned from, how well, what it can do."""

from __future__ import annotations

from aanmf import html
from aanmf.contract import ModelConfig
from aanmf.fitted import Fitted
from aanmf.models.catalog import ModelSpec

CAPABILITIES = {
    "rates": "predict ratings",
    "matches": "rank by what users choose",
    "new_items": "rank new items by their attributes",
    "attention": "show attention",
    "intervals": "give prediction intervals",
    "exports": "be exported",
}
"""In words, by their name in the catalogue."""


def model_html(name: str, spec: ModelSpec, config: ModelConfig, fitted: Fitted | None) -> html.Html:
    """A model and, once it is trained, what it learned.

    Args:
        name: the call that makes it: `AANMF(factors=16)`.
        spec: its entry in the catalogue.
        config: its settings.
        fitted: what was learned; None: not trained.
    """
    can = ", ".join(words for capability, words in CAPABILITIES.items() if getattr(spec, capability))
    about = [html.line(f"{spec.label}: {spec.summary}")]
    if fitted is None:
        facts: list[tuple[str, object]] = [("trained", "no: call fit, or load a saved model"), ("can", can)]
    else:
        facts = [*_learned(fitted), ("can", can)]
    return html.block(name, *about, html.facts(facts), _settings(config, fitted))


def _learned(fitted: Fitted) -> list[tuple[str, object]]:
    log, training = fitted.training_log, fitted.training
    what = "ratings" if training.has_ratings else "choices"
    users, items = (int((side.n_ratings > 0).sum()) for side in (fitted.users, fitted.items))
    counts = f"{len(training.train):,} {what} of {items:,} items by {users:,} users"
    facts: list[tuple[str, object]] = [("trained on", f"{fitted.data['name']}: {counts}")]
    facts += [(f"{side.name} attributes", side.encoder.names or "none") for side in (fitted.users, fitted.items)]
    if log.epochs:
        seconds = sum(epoch.seconds for epoch in log.epochs)
        facts.append(
            ("training", f"{log.best_epoch} epochs, {seconds:.1f} s{', interrupted' if log.interrupted else ''}")
        )
    if log.validation_rmse is not None:
        held_out = "RMSE on ratings held out while the epochs were chosen"
        facts.append((held_out, f"{log.validation_rmse:.4f}"))
    return facts


def _settings(config: ModelConfig, fitted: Fitted | None) -> html.Html:
    """Every setting, where it comes from, and what else `fit` chose."""
    chosen = {} if fitted is None else fitted.training_log.chosen
    rows: list[tuple[str, object, str]] = []
    for name, value in config:
        origin = "default" if value == type(config).model_fields[name].default else "given"
        rows.append((name, chosen.get(name, value), "chosen by fit" if name in chosen else origin))
    rows += [(name, value, "chosen by fit") for name, value in chosen.items() if name not in dict(config)]
    return html.fold("settings", html.table(("setting", "value", ""), rows))
