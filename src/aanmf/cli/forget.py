"""`aanmf forget` and `aanmf user-data`: what is kept of a user, and its removal."""

from __future__ import annotations

from typing import Annotated

import typer

from aanmf.cli.options import AsJson, ModelFolder
from aanmf.cli.output import emit, out

UserOption = Annotated[str, typer.Option("--user", metavar="ID", help="Id of the user.")]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="Database of `aanmf serve`. [default: next to the model]")
]


def forget(folder: ModelFolder, user: UserOption, store: StoreOption = None, as_json: AsJson = False) -> None:
    """Forget a user: remove what is stored, and keep every source from bringing the user back.

    A running service answers at once as if the user had never been there. The model has learned from the user's ratings
    until the next aanmf update, which fits it again without them.
    """
    from aanmf.recommender import load_model
    from aanmf.serving.run import default_store
    from aanmf.serving.store import RatingStore

    learned = user in load_model(folder).fitted_.users.table.ids
    opened = RatingStore(store or default_store(folder))
    try:
        erased = opened.forget(user)
    finally:
        opened.close()
    if as_json:
        emit({"erased": erased, "learned": learned})
        return
    out().print(f"Removed {erased} stored ratings of user {user!r}; nothing more is taken under this id.")
    if learned:
        out().print(f"{folder} has learned from the user: `aanmf update` fits it again without the user's ratings.")


def user_data(folder: ModelFolder, user: UserOption, store: StoreOption = None) -> None:
    """Print all that is kept of a user, as JSON: ratings stored since training, and what the model has learned from."""
    from aanmf.recommender import load_model
    from aanmf.serving.model_cache import known_of
    from aanmf.serving.run import default_store
    from aanmf.serving.store import RatingStore

    fitted = load_model(folder).fitted_
    opened = RatingStore(store or default_store(folder))
    try:
        emit({"user": user, "stored": opened.stored_of(user), "learned": known_of(fitted, user)})
    finally:
        opened.close()
