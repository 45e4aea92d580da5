"""What the pages of one model show. All of it is computed in the thread that uses models."""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.datastructures import QueryParams

from aanmf.beside_lists import bestsellers, reasons
from aanmf.explanation import Explained, explain_pair
from aanmf.predictor import Predictor
from aanmf.profile import Profile
from aanmf.ranking import ListOptions, make_lists, ways_to_rank
from aanmf.serving.attention import attention_maps
from aanmf.serving.model_cache import ListAnswer, ModelCache, Row
from aanmf.serving.page_item import hardly_mattered, sides, steps, weights
from aanmf.serving.page_list import WORDS, ListChoice, facts, item_row
from aanmf.serving.page_rate import RateForm
from aanmf.serving.page_user import RATING, Change, PageUser, described, read_attributes

COVERAGE = 0.9
"""Of the intervals shown."""
SHOWN = 10
"""Items of a list beside another, similar items, and rated items of a user."""
EXAMPLES = 6
"""Users to begin with."""
ALL = 1_000_000
"""Parts of an account: every one."""
Shows = dict[str, Any]


class Views:
    """What the pages of one model show, by the names that the templates use."""

    def __init__(self, cache: ModelCache) -> None:
        self.cache, self.fitted = cache, cache.fitted
        self.predictor: Predictor = cache.predictor
        self.rate, self.maps = RateForm(cache), attention_maps(cache.predictor)
        self.ways = ways_to_rank(cache.predictor)

    def welcome(self, query: QueryParams) -> Shows:
        """What this is, users to begin with, and the bestsellers."""
        users = self.fitted.users
        first = np.flatnonzero(users.n_ratings[:-1])[:EXAMPLES].tolist()
        best = self._bestsellers(None, ListOptions(SHOWN))
        return {
            "user": None,
            "examples": [(users.ids[at], facts(users, at), int(users.n_ratings[at])) for at in first],
            "sample": self._sample(PageUser(users.ids[first[0]])),
            "best": best,
            **self.form(query),
        }

    def form(self, query: QueryParams) -> Shows:
        """The forms to choose or describe a user, filled in as the address says, right or wrong."""
        given = {key.removeprefix(RATING): value for key, value in query.items() if key.startswith(RATING)}
        search = query.get("query", "")[:200]
        return {
            "typed": query.get("user", ""),
            "known": read_attributes(query, self.cache),
            "search": search,
            "to_rate": self.rate.rows(given, search),
            "values": self.rate.values,
            "suggested": self.cache.search_users("", 50)[0],
        }

    def options(self, choice: ListChoice) -> ListOptions:
        """Of a user's list: with intervals, where the model has them."""
        return choice.options(COVERAGE if self.predictor.rates and self.predictor.spec.intervals else None)

    def listed(self, user: PageUser, choice: ListChoice, answer: ListAnswer) -> Shows:
        """A user's list with a reason for each item, and the bestsellers among the same items."""
        options = self.options(choice)
        profile = self.cache.profile(user.asked(options))
        because = reasons(self.predictor, profile, [self._position(str(row["item"])) for row in answer.items])
        best = self._bestsellers(profile, options)
        popular, own = {row["item"] for row in best}, {row["item"] for row in answer.items}
        return {
            "user": user,
            "choice": choice,
            "items": [
                {**row, **self._item(str(row["item"])), "reason": reason, "shared": row["item"] in popular}
                for row, reason in zip(answer.items, because, strict=True)
            ],
            "best": [{**row, "shared": row["item"] in own} for row in best],
            "stored": answer.new_ratings - len(user.ratings),
            "share": COVERAGE,
            "ranked_by": WORDS[choice.rank_by or self.ways[0]],
            **self._about(user, profile, list(dict.fromkeys(reason.item for reason in because if reason))),
        }

    def item(self, user: PageUser | None, item: str, of: Explained | None, against: str | None) -> Shows:
        """One item: for a user why it is predicted what it is, and for everybody what is similar to it."""
        shows: Shows = {"user": user, "of": self._item(item)}
        if user is not None:
            shows |= self._why(user, item, of, against)
        return {**shows, "similar": [self._item(str(row["id"])) for row in self.cache.similar(item, "item", SHOWN)]}

    def compared(self, user: PageUser, change: Change, item: str | None) -> Shows:
        """The rating of an item and the list, as they are and as they would be."""
        now = self.cache.profile(user.asked())
        shows: Shows = {
            "user": user,
            "change": change,
            "of": self._item(item) if item else None,
            "left_out": [self._item(each)["title"] for each in change.without],
            **self._about(user, now, list(change.without)),
        }
        if not change:
            return shows
        then = change.profile(user, self.cache)
        lists = make_lists(self.predictor, [now, then], ListOptions(len(self.predictor.items)))
        if item and self.predictor.rates:
            at = np.array([self._position(item)])
            shows["moved"] = [float(self.predictor.ratings_for(each, at)[0]) for each in (now, then)]
        return {**shows, **self._moved(*(found.rows() for found in lists))}

    # -------------------------------------------------------------- pieces

    def _why(self, user: PageUser, item: str, of: Explained | None, against: str | None) -> Shows:
        """The account of one prediction."""
        profile = self.cache.profile(user.asked())
        found = explain_pair(self.predictor, profile, item, ALL, of, against)
        scale = self.predictor.scale if found.of == "rating" else None
        axis, lines = steps(found, user.title, scale)
        mean = dict(zip(self.maps[0].attributes, self.maps[0].mean, strict=True)) if self.maps else {}
        weighed = weights(found, mean) if against is None else []
        history = self.predictor.profiles.history(profile)
        at = {self._item(self.predictor.items.ids[place])["title"]: place for place in history}
        places = [at[each.what] for each in lines if each.kind == "rated item" and each.what in at]
        named = [self.predictor.items.ids[place] for place in dict.fromkeys([*places, *profile.item.tolist()])]
        others = [row for row in self._bestsellers(profile, ListOptions(SHOWN + 1)) if row["item"] != item][:SHOWN]
        return {
            "found": found,
            "axis": axis,
            "lines": lines,
            "sides": sides(found),
            "weights": weighed,
            "hardly": scale is not None and hardly_mattered(weighed, scale),
            "own": history.get(self._position(item)),
            "others": others,
            **self._about(user, profile, named),
        }

    def _about(self, user: PageUser, profile: Profile, named: list[str]) -> Shows:
        """The user as is: attributes, and what was rated; of `named` the items whose rating can be left out."""
        ids, history = self.predictor.items.ids, self.predictor.profiles.history(profile)
        rated = {ids[at]: history[at] for at in sorted(history, key=lambda at: -history[at])}
        new = {ids[at] for at in profile.item.tolist()}
        leavable = [each for each in named if each in (rated if self.predictor.spec.retracts else new)]
        return {
            "about": described(user, self.cache),
            "n_rated": len(rated),
            "rated": [{**self._item(each), "given": rated[each]} for each in list(rated)[:SHOWN]],
            "given": [{**self._item(each), "given": rated[each]} for each in user.ratings],
            "leavable": [{**self._item(each), "given": rated[each]} for each in leavable[:SHOWN]],
        }

    def _sample(self, user: PageUser) -> Shows | None:
        """The first item of a user's list that has a reason, with it; None if none has."""
        (answer,) = self.cache.make_lists([user.asked()])
        if isinstance(answer, Exception):
            return None
        listed = [self._position(str(row["item"])) for row in answer.items]
        because = reasons(self.predictor, self.cache.profile(user.asked()), listed)
        pairs = zip(listed, because, strict=True)
        found = next(((at, reason) for at, reason in pairs if reason is not None), None)
        return found and {"user": user, "item": item_row(self.predictor.items, found[0]), "reason": found[1]}

    def _bestsellers(self, profile: Profile | None, options: ListOptions) -> list[Row]:
        items, found = self.predictor.items, bestsellers(self.predictor, profile, options).tolist()
        return [{**item_row(items, at), "n_ratings": int(items.n_ratings[at]), "shared": False} for at in found]

    def _moved(self, now: list[Row], then: list[Row]) -> Shows:
        """The first of a list as it would be, with the places and ratings they have now, and those that drop out."""
        before = {row["item"]: {**row, "place": at} for at, row in enumerate(now, start=1)}
        old, new = ([row["item"] for row in rows[:SHOWN]] for rows in (now, then))
        return {
            "then": [
                {**row, **self._item(str(row["item"])), "before": before.get(row["item"])} for row in then[:SHOWN]
            ],
            "added": len(set(new) - set(old)),
            "gone": [self._item(str(item))["title"] for item in old if item not in new],
            "same_order": old == new,
            "shown": SHOWN,
        }

    def _item(self, item: str) -> Row:
        return item_row(self.predictor.items, self._position(item))

    def _position(self, item: str) -> int:
        return self.predictor.items.position(item)
