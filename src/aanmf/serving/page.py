"""The web page: server-rendered, readable without JavaScript; htmx only saves the reload of a whole page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from fastapi import FastAPI, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from aanmf.beside_lists import bestsellers, reasons
from aanmf.errors import AanmfError, ConfigError, UnknownIdError
from aanmf.profile import Profile
from aanmf.ranking import ListOptions, make_lists, ways_to_rank
from aanmf.serving.attention import AttentionMap, attention_maps
from aanmf.serving.dispatch import Backend
from aanmf.serving.model_cache import ListRequest, ModelCache, Row
from aanmf.serving.model_summary import model_summary
from aanmf.serving.page_list import LENGTHS, WORDS, ListChoice, facts, filter_fields, read_choice
from aanmf.serving.page_user import PREFIX, PageUser, address, changed, read_user
from aanmf.serving.schemas import attribute_model, fault_of

HERE = Path(__file__).parent
COVERAGE = 0.9
"""Of the intervals shown."""
SHOWN = 10
"""Items of a list of what-if."""
SIMILAR_SHOWN = 10
"""Similar items of an item."""
EXAMPLES = 5
"""Users to begin with."""
Shows = dict[str, object]
Page = Callable[[Request], Coroutine[Any, Any, tuple[str, Shows]]]


def add_page(api: FastAPI, cache: ModelCache, backend: Backend) -> None:
    """Adds the pages for one model to its routes."""
    site = Site(api, cache, backend)
    api.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    pages: list[tuple[str, Page]] = [
        ("/", site.home),
        ("/users", site.users),
        ("/why", site.why),
        ("/similar", site.similar),
        ("/what-if", site.what_if),
        ("/map", site.map),
        ("/card", site.card),
        ("/docs", site.docs),
    ]
    for path, page in pages:
        api.add_api_route(path, site.shown(page), include_in_schema=False, response_model=None)


class Site:
    """The pages of one model: each returns the name of a template and what it shows."""

    def __init__(self, api: FastAPI, cache: ModelCache, backend: Backend) -> None:
        self.api, self.cache, self.models = api, cache, backend.models
        self.predictor, self.encoder = cache.predictor, cache.fitted.users.encoder
        self.attributes = attribute_model(self.encoder)
        self.maps = attention_maps(self.predictor)
        loader = FileSystemLoader(HERE / "templates")
        self.templates = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self.ways = ways_to_rank(self.predictor)
        self.templates.globals |= {
            "model": cache.model,
            "rates": self.predictor.rates,
            "scale": cache.fitted.training.scale,
            "prefix": PREFIX,
            "address": address,
            "fields": self._fields(),
            "filters": filter_fields(cache.fitted.items),
            "ways": [(way, WORDS[way]) for way in self.ways],
            "lengths": LENGTHS,
        }

    def shown(self, page: Page) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """A handler that renders a page, or what was wrong with the request."""

        async def handle(request: Request) -> Response:
            status = 200
            try:
                name, shows = await page(request)
            except pydantic.ValidationError as error:
                status, name, shows = 422, "error.html", {"message": fault_of(error, {})}
            except AanmfError as error:
                status = 404 if isinstance(error, UnknownIdError) else 422
                name, shows = "error.html", {"message": str(error)}
            text = self.templates.get_template(name).render(path=request.url.path, **shows)
            return HTMLResponse(text, status)

        return handle

    # -------------------------------------------------------------- pages

    async def home(self, request: Request) -> tuple[str, Shows]:
        """A user's list with the bestsellers; without a user, the bestsellers and a choice of users."""
        user = read_user(request.query_params, self.cache, self.attributes)
        choice = read_choice(request.query_params)
        shows: Shows = {
            "user": user,
            "choice": choice,
            "known": dict(user.attributes) if user else {},
            "suggested": self.cache.users.search("", 50)[0],
        }
        if user is not None:
            return "home.html", shows | await self._recommended(user, choice)
        best = await self.models.call(lambda: self._bestsellers(None, choice.options(None)))
        data = self.cache.fitted.data
        return "home.html", shows | {"best": best, "data": data, "examples": self._examples()}

    async def users(self, request: Request) -> tuple[str, Shows]:
        """Users whose id contains what is being typed."""
        query = request.query_params.get("user", "")[:200]
        return "users.html", {"suggested": self.cache.users.search(query, 50)[0]}

    async def why(self, request: Request) -> tuple[str, Shows]:
        """What one prediction rests on."""
        user, item = self._user(request), request.query_params.get("item", "")
        asked = ListRequest(user.id, None if user.id is not None else user.attributes, {})
        found = await self.models.call(lambda: self.cache.explain(asked, item))
        rows = found.parts.to_dicts()
        widest = max([0.05, *(abs(each["contribution"]) for each in rows)])  # next to nothing shall look like it
        return "why.html", {"user": user, "found": found, "rows": rows, "widest": widest}

    async def similar(self, request: Request) -> tuple[str, Shows]:
        """The items most similar to one."""
        query = request.query_params
        user, item = read_user(query, self.cache, self.attributes), query.get("item", "")
        at = self.predictor.items.position(item)
        rows = await self.models.call(lambda: self.cache.similar(item, "item", SIMILAR_SHOWN))
        items = [self._item(self.predictor.items.position(str(row["id"]))) for row in rows]
        return "similar.html", {"user": user, "of": self._item(at), "items": items}

    async def what_if(self, request: Request) -> tuple[str, Shows]:
        """Two lists side by side: the user as is, and with another value of one attribute."""
        user, query = self._user(request), request.query_params
        name, value = query.get("change", ""), query.get("value", "").strip()
        if name not in self.encoder.names:
            raise ConfigError(f"change={name!r}: choose one of {', '.join(self.encoder.names)}")
        if not value:
            raise ConfigError(f"say which {name} to compare with")

        def lists() -> tuple[list[Row], list[Row], str]:
            now = self.predictor.profile(user.asked)
            then = changed(self.predictor, now, name, value)
            options = ListOptions(len(self.predictor.items))
            one, other = (found.rows() for found in make_lists(self.predictor, [now, then], options))
            return one, other, dict(self.encoder.describe(self.predictor.attributes(now))).get(name, "unknown")

        now, then, now_value = await self.models.call(lists)
        return "what_if.html", {
            "user": user,
            "name": name,
            "value": value,
            "now_value": now_value,
            "now": _moved(now, then),
            "then": _moved(then, now),
        }

    async def map(self, request: Request) -> tuple[str, Shows]:
        """The heat map: item attribute x user attribute."""
        by = request.query_params.get("by")
        names = [each.by for each in self.maps]
        if by is not None and by not in names:
            raise ConfigError(f"by={by!r}: no such map. Available: {', '.join(map(str, names)) or 'none'}")
        shown = next((each for each in self.maps if by in (None, each.by)), None)
        return "map.html", {"maps": self.maps, "shown": shown, "heat": _heat(shown) if shown else []}

    async def card(self, request: Request) -> tuple[str, Shows]:
        """The model card."""
        return "card.html", {"card": model_summary(self.cache)}

    async def docs(self, request: Request) -> tuple[str, Shows]:
        """The routes, from the OpenAPI document."""
        return "docs.html", {"document": self.api.openapi()}

    # -------------------------------------------------------------- what they show

    def _user(self, request: Request) -> PageUser:
        user = read_user(request.query_params, self.cache, self.attributes)
        if user is None:
            raise ConfigError("name a user: by id, or a new one by attributes")
        return user

    def _fields(self) -> list[Shows]:
        """What the form asks of a new user; vectors cannot be typed."""
        return [
            {"name": each.name, "many": each.is_list, "choices": each.choices}
            for each in self.encoder.fitted
            if each.size is None
        ]

    async def _recommended(self, user: PageUser, choice: ListChoice) -> Shows:
        """The user's list with a reason for each item, and the bestsellers among the same items."""
        intervals = self.predictor.rates and self.predictor.spec.intervals
        options = choice.options(COVERAGE if intervals else None)
        asked = ListRequest(user.id, None if user.id is not None else user.attributes, {}, options)
        answer = await self.models.ask(self.cache.make_lists, asked)
        position = self.predictor.items.position

        def around() -> Shows:
            profile = self.cache.profile(asked)
            listed = [position(str(row["item"])) for row in answer.items]
            because = reasons(self.predictor, profile, listed)
            best = self._bestsellers(profile, options)
            popular, own = {row["item"] for row in best}, {row["item"] for row in answer.items}
            return {
                "items": [
                    {**row, **self._item(at), "reason": reason, "shared": row["item"] in popular}
                    for row, at, reason in zip(answer.items, listed, because, strict=True)
                ],
                "best": [{**row, "shared": row["item"] in own} for row in best],
                "about": self.encoder.describe(self.predictor.attributes(profile)),
            }

        shows = await self.models.call(around)
        ranked_by = WORDS[choice.rank_by or self.ways[0]]
        return shows | {"new_ratings": answer.new_ratings, "share": COVERAGE, "ranked_by": ranked_by}

    def _bestsellers(self, profile: Profile | None, options: ListOptions) -> list[Row]:
        n_ratings = self.predictor.items.n_ratings
        found = bestsellers(self.predictor, profile, options)
        return [{**self._item(at), "n_ratings": int(n_ratings[at]), "shared": False} for at in found.tolist()]

    def _item(self, at: int) -> Row:
        """An item as lists show it."""
        items = self.predictor.items
        return {"item": items.ids[at], "title": items.label(at) or items.ids[at], "facts": facts(items, at)}

    def _examples(self) -> list[tuple[str, str]]:
        """Id and attributes of the first users with ratings, to begin with."""
        users = self.predictor.users
        first = np.flatnonzero(users.n_ratings[:-1])[:EXAMPLES].tolist()
        return [(users.ids[at], facts(users, at)) for at in first]


def _moved(rows: list[Row], others: list[Row]) -> list[dict[str, object]]:
    """The first of a list, each with the place it has in the other one."""
    place = {row["item"]: at for at, row in enumerate(others, start=1)}
    return [{**row, "other_place": place.get(row["item"])} for row in rows[:SHOWN]]


def _heat(shown: AttentionMap) -> list[list[int]]:
    """Shade 0 to 9 of every cell, from the least to the most attention in the map."""
    every = [weight for _, weights, _ in shown.rows for weight in weights]
    low, span = min(every), (max(every) - min(every)) or 1.0
    return [[min(9, int(10 * (weight - low) / span)) for weight in weights] for _, weights, _ in shown.rows]
