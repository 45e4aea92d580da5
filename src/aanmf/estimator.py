"""The estimator's life: settings to the constructor, ratings to `fit`, what was learned to a folder and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from aanmf.additions import Additions, Update, grow
from aanmf.checks import all_finite
from aanmf.contract import ModelConfig, RatingModule
from aanmf.data.dataset import RatingDataset
from aanmf.data.frames import TableKind, kind_of, training_data
from aanmf.data.options import ReadOptions
from aanmf.data.stream import StreamedDataset
from aanmf.errors import ConfigError, NotFiniteError, NotFittedError
from aanmf.fitted import Fitted
from aanmf.item_index import index_of
from aanmf.model_folder import read_model, read_saved, write_model
from aanmf.model_html import model_html
from aanmf.models.catalog import ModelSpec, load_object, with_capability
from aanmf.predictor import Predictor
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.distributed import Ranks
from aanmf.training.log import OnEpoch
from aanmf.training.progress import shown_progress
from aanmf.updates import Way, take_in


class Estimator:
    """A model that learns, and is saved and loaded; `Regressor` and `Recommender` add what it is then used for."""

    spec: ClassVar[ModelSpec]
    """The model's entry in the catalogue."""
    output_: TableKind = "polars"
    """Which library's tables are returned: that of the table that `fit` was given."""

    def __init__(self, **settings: Any) -> None:
        """Settings by name; they are the fields of the model's configuration class.

        Raises:
            ConfigError: an unknown setting, or a value out of range.
        """
        self.config = self.spec.config_type.of(settings)
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        changed = {name: value for name, value in self.config if value != type(self.config).model_fields[name].default}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def _repr_html_(self) -> str:
        return model_html(repr(self), self.spec, self.config, self.fitted_ if self.is_fitted else None)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All settings by name, as they were asked for; what `fit` chose is in `chosen_`.

        Args:
            deep: changes nothing: no setting is an estimator that has settings of its own.
        """
        return self.config.model_dump()

    def set_params(self, **settings: Any) -> Self:
        """Changes settings; the others stay. What was learned is forgotten, as it belongs to the settings before.

        Raises:
            ConfigError: an unknown setting, or a value out of range.
        """
        if settings:
            self.config, self._predictor = self.spec.config_type.of({**self.get_params(), **settings}), None
        return self

    @property
    def chosen_(self) -> dict[str, Any]:
        """The settings that `fit` chose on held-out ratings, by name; empty where all were given."""
        return dict(self.fitted_.training_log.chosen)

    @property
    def predictor_(self) -> Predictor:
        """What predicts: all that was learned.

        Raises:
            NotFittedError: nothing was learned yet.
        """
        if self._predictor is None:
            raise NotFittedError(f"this {type(self).__name__} has learned nothing yet: call fit, or load a saved one")
        return self._predictor

    @property
    def module_(self) -> RatingModule:
        """The trained torch module."""
        return self.predictor_.module

    @property
    def fitted_(self) -> Fitted:
        """What `fit` learned besides the module."""
        return self.predictor_.fitted

    @property
    def is_fitted(self) -> bool:
        """Whether it can predict."""
        return self._predictor is not None

    def fit(
        self,
        data: RatingDataset | StreamedDataset | object,
        y: object = None,
        *,
        users: object = None,
        items: object = None,
        options: ReadOptions | None = None,
        on_epoch: OnEpoch | None = None,
        progress: bool = False,
        checkpoints: Checkpoints | None = None,
        shard_rows: int | None = None,
    ) -> Self:
        """Learns from training ratings.

        Args:
            data: the training part, as a data set or as a table with a row per rating (polars, pandas, Arrow, or an
                array). Users and items without a rating in it may be there with their attributes. What `stream_dataset`
                gives is read from disk in every epoch, or into memory once by a model that needs all ratings at a time.
                AANMF++ keeps it, and what it computes per rating, in files of the same folder.
            y: (n,) the ratings, where the table does not have them.
            users, items: tables with a row per user (item) and a column per attribute; a data set has them already.
            options: how to read the tables.
            on_epoch: called after every epoch.
            progress: whether to show how training goes, on stderr: a bar in a terminal or notebook, elsewhere a line a
                minute.
            checkpoints: where to write them, and whether to go on from the last one; None: nowhere.
            shard_rows: where several processes train together (`docs/distributed.md`), tables of users and items with
                at least so many rows are divided among them; None: those with more rows than a batch has ratings.

        Raises:
            DataError: there is no rating, or a table cannot be used.
            ConfigError: training diverged: the learning rate is too high; or the model does not take `checkpoints` or
                `shard_rows`.
            NotFiniteError: a weight is not finite after training.
            CheckpointError: a checkpoint cannot be written, or is of another training.
            BusyError: another training writes its checkpoints to the same folder.
            KeyboardInterrupt: after Ctrl-C; the model then holds what was learned so far and can be saved.
        """
        ratings = training_data(data, y, users, items, options)
        if isinstance(ratings, StreamedDataset) and not self.spec.streams:
            ratings = ratings.on_disk() if self.spec.on_disk else ratings.in_memory()
        _check_training(self.spec, ratings, checkpoints, shard_rows)
        if not self.config.uses_context:
            ratings = ratings.with_context([])
        fitted = Fitted.of(ratings)
        training = replace(fitted.training, links=self.config.read_links(ratings.users.ids))
        train = load_object(self.spec.trainer)
        own_folder = checkpoints.locked() if checkpoints and Ranks.current().first else nullcontext()
        with own_folder, shown_progress(self.spec.name, on_epoch) if progress else nullcontext(on_epoch) as report:
            module, training_log = train(self.spec.module_type, training, self.config, report, checkpoints, shard_rows)
        _check_trained(module)
        self._predictor = Predictor(self.spec, module, replace(fitted, training_log=training_log))
        self.output_ = kind_of(data)
        if training_log.interrupted:
            raise KeyboardInterrupt
        return self

    def add(self, new: Additions, *, full: bool = False, on_epoch: OnEpoch | None = None) -> Update:
        """Learns from what came since training; `Recommender.update` reads it from tables.

        Args:
            new: ratings, users and items.
            full: fit again in full, whatever the number of new ratings.
            on_epoch: called after every epoch, if there are any.

        Raises:
            DataError: a rating off the model's scale.
            ConfigError: training diverged.
            NotFiniteError: a weight is not finite after training.
            KeyboardInterrupt: after Ctrl-C; the model is then as it was, unless a full fit was interrupted (see `fit`).
        """
        fitted = self.fitted_
        config = self.config.with_chosen(fitted.training_log.chosen)
        return self._add(new, fitted, config, self.module_.state_dict(), full, on_epoch)

    def _add(
        self,
        new: Additions,
        fitted: Fitted,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        full: bool,
        on_epoch: OnEpoch | None,
    ) -> Update:
        """The same to what is given of a fitted model."""
        grown = grow(fitted, new)
        if not grown.changed and not full:
            return Update(0, 0, 0, "none", "there is nothing that the model has not learned")
        way = Way.of(self.spec, fitted, grown, full)
        if way.part < 1:
            taken = take_in(self.spec, config, weights, fitted, grown, way.part, on_epoch)
            if taken is not None:
                _check_trained(taken[0])
                self._predictor = Predictor(self.spec, *taken)
                return grown.update("training" if way.part else "histories", way.why)
            way = Way(1, "ratings have values that the model has no level for")
        self.fit(grown.data, on_epoch=on_epoch)
        return grown.update("full", way.why)

    def build_index(self) -> Self:
        """Builds an index of items, by which lists are found from now on without a look at each (`aanmf[index]`).

        It answers where the model ranks as it does by default, for users by id, without new ratings and without
        conditions on items. A few of the best items may be missing from such a list; see `aanmf.item_index`.

        Raises:
            ConfigError: the model does not rank by inner products.
            MissingExtraError: Faiss is not installed.
        """
        predictor = self.predictor_
        predictor.index = index_of(predictor.spec, predictor.module, predictor.fitted)
        return self

    def save(self, path: str | Path) -> None:
        """Writes the model to a folder (replacing an older model there).

        Raises:
            ModelFolderError: something that is not a model stands there.
            BusyError: another process saves there; the message says which.
        """
        write_model(path, self.spec, self.get_params(), self.module_, self.fitted_)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Reads a model folder.

        Raises:
            ModelFolderError: the folder is incomplete, was changed, is newer than this library, or holds another model.
        """
        settings, module, fitted = read_model(path, cls.spec, device)
        model = cls(**settings)
        model._predictor = Predictor(cls.spec, module, fitted)
        return model

    @classmethod
    def load_with(
        cls,
        path: str | Path,
        read: Callable[[Fitted], Additions],
        *,
        full: bool = False,
        on_epoch: OnEpoch | None = None,
    ) -> tuple[Self, Update]:
        """Reads a model folder and learns from what came since: `load` and `add`, but faster.

        The module is built once, with the new data. If there are none, it is not built at all, and nothing was learned.

        Args:
            path: the folder, which stays as it is.
            read: gives what is new to a model that learned this.
            full, on_epoch: as for `add`.
        """
        saved = read_saved(path, cls.spec)
        model = cls(**saved.settings)
        return model, model._add(read(saved.fitted), saved.fitted, saved.config, saved.weights, full, on_epoch)


def _check_training(
    spec: ModelSpec, data: RatingDataset | StreamedDataset, checkpoints: Checkpoints | None, shard_rows: int | None
) -> None:
    """Raises ConfigError where a model cannot be trained in this way."""
    if not (data.has_ratings or spec.matches):
        raise ConfigError(
            f"{spec.name} learns from ratings, and {data.name} has none. "
            f"Available for choices without ratings: {', '.join(with_capability('matches'))}"
        )
    if not spec.processes and not Ranks.current().alone:
        raise ConfigError(f"{spec.name} does not support torchrun. {_instead('processes')}")
    if shard_rows is not None and not spec.shards:
        raise ConfigError(
            f"{spec.name} does not divide its tables (shard_rows, --spread-rows): leave it out. {_instead('shards')}"
        )
    if checkpoints is not None and not spec.checkpoints:
        raise ConfigError(
            f"{spec.name} does not support checkpoints (--resume, --checkpoint-every): leave them out. "
            f"{_instead('checkpoints')}"
        )


def _instead(capability: str) -> str:
    """The end of a message: which models can do what another one cannot."""
    return f"Models that do: {', '.join(f'--model {name}' for name in with_capability(capability))}"


def _check_trained(module: RatingModule) -> None:
    """Raises NotFiniteError where a trained weight is not finite."""
    for name, each in module.state_dict().items():
        if each.dtype.is_floating_point and not all_finite(each):
            raise NotFiniteError(
                f"training ended with a weight that is not finite ({name}): give a lower learning_rate, "
                "or look for ratings or attributes of enormous size"
            )
