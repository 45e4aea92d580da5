"""The web page: server-rendered, readable without JavaScript; htmx only saves the reload of a whole page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pydantic
from fastapi import FastAPI, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from aanmf.errors import AanmfError, ConfigError, UnknownIdError
from aanmf.explanation import attention
from aanmf.ranking import ListOptions, make_lists
from aanmf.serving.attention import AttentionMap, attention_maps
from aanmf.serving.dispatch import Backend
from aanmf.serving.model_cache import ListRequest, ModelCache, Row
from aanmf.serving.model_summary import model_summary
from aanmf.serving.page_user import PREFIX, PageUser, changed, read_user
from aanmf.serving.schemas import attribute_model, fault_of

HERE = Path(__file__).parent
COVERAGE = 0.9
"""Of the intervals shown."""
SHOWN = 10
"""Items of a list."""
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
        scale = cache.fitted.training.scale
        self.templates.globals |= {"model": cache.model, "scale": scale, "prefix": PREFIX}

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
        """Choose or describe a user; and what is recommended to them."""
        user = read_user(request.query_params, self.cache, self.attributes)
        shows: Shows = {
            "user": user,
            "fields": self._fields(),
            "known": dict(user.attributes) if user else {},
            "suggested": self.cache.users.search("", 50)[0],
        }
        return "home.html", shows if user is None else shows | await self._recommended(user)

    async def users(self, request: Request) -> tuple[str, Shows]:
        """Users whose id contains what is being typed."""
        query = request.query_params.get("user", "")[:200]
        return "users.html", {"suggested": self.cache.users.search(query, 50)[0]}

    async def why(self, request: Request) -> tuple[str, Shows]:
        """What one prediction rests on."""
        user, item = self._user(request), request.query_params.get("item", "")
        found = await self.models.call(lambda: self.cache.model.explain_rating(user.asked, item))
        rows = sorted(found.attributes.to_dicts(), key=lambda each: -abs(each["contribution"]))
        widest = max([0.05, *(abs(each["contribution"]) for each in rows)])  # next to nothing shall look like it
        return "why.html", {"user": user, "found": found, "rows": rows, "widest": widest}

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
            "choosable": self._fields(),
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

    async def _recommended(self, user: PageUser) -> Shows:
        options = ListOptions(SHOWN, interval=COVERAGE if self.predictor.spec.intervals else None)
        asked = ListRequest(user.id, None if user.id is not None else user.attributes, {}, options)
        answer = await self.models.ask(self.cache.make_lists, asked)

        def attended() -> tuple[list[tuple[str, str]], list[dict[str, float]] | None]:
            profile = self.predictor.profile(user.asked)
            about = self.encoder.describe(self.predictor.attributes(profile))
            if not self.predictor.spec.attention:
                return about, None
            items = self.predictor.items.table.ids.index(row["item"] for row in answer.items)
            position, attributes = self.predictor.repeated(profile, len(items))
            weights = attention(self.predictor, position, items, attributes).tolist()
            return about, [dict(zip(self.encoder.names, row, strict=True)) for row in weights]

        about, weights = await self.models.call(attended)
        bars = [weights and [(name, weights[place][name]) for name, _ in about] for place in range(len(answer.items))]
        return {
            "items": [{**row, "attention": own} for row, own in zip(answer.items, bars, strict=True)],
            "about": about,
            "new_ratings": answer.new_ratings,
            "choosable": self._fields(),
            "share": COVERAGE,
        }


def _moved(rows: list[Row], others: list[Row]) -> list[dict[str, object]]:
    """The first of a list, each with the place it has in the other one."""
    place = {row["item"]: at for at, row in enumerate(others, start=1)}
    return [{**row, "other_place": place.get(row["item"])} for row in rows[:SHOWN]]


def _heat(shown: AttentionMap) -> list[list[int]]:
    """Shade 0 to 9 of every cell, from the least to the most attention in the map."""
    every = [weight for _, weights, _ in shown.rows for weight in weights]
    low, span = min(every), (max(every) - min(every)) or 1.0
    return [[min(9, int(10 * (weight - low) / span)) for weight in weights] for _, weights, _ in shown.rows]
