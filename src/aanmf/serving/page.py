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
from aanmf.serving.attention import AttentionMap, attention_maps, attention_on
from aanmf.serving.card import model_card
from aanmf.serving.desk import Desk
from aanmf.serving.people import Person, changed, ranked, read_person
from aanmf.serving.schemas import attribute_model, fault_of
from aanmf.serving.served import Row, ServedModel, Wish

HERE = Path(__file__).parent
SHARE = 0.9
"""Of ratings that shall lie within the interval shown."""
SHOWN = 10
"""Items of a list."""
Page = Callable[[Request], Coroutine[Any, Any, tuple[str, dict[str, object]]]]


def add_page(api: FastAPI, served: ServedModel, desk: Desk) -> None:
    """Adds the pages for one model to its routes."""
    site = Site(api, served, desk)
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

    def __init__(self, api: FastAPI, served: ServedModel, desk: Desk) -> None:
        self.api, self.served, self.desk = api, served, desk
        self.encoder = served.model.fitted_.user_encoder
        self.attributes = attribute_model(self.encoder)
        self.maps = attention_maps(served)
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals |= {"model": served.model, "scale": served.scale, "prefix": "a."}

    def shown(self, page: Page) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """A handler that renders a page, or what was wrong with the request."""

        async def handle(request: Request) -> Response:
            status = 200
            try:
                name, shows = await page(request)
            except pydantic.ValidationError as error:
                status, name, shows = 422, "error.html", {"message": fault_of(error, self.encoder.names)}
            except AanmfError as error:
                status = 404 if isinstance(error, UnknownIdError) else 422
                name, shows = "error.html", {"message": str(error)}
            text = self.templates.get_template(name).render(path=request.url.path, **shows)
            return HTMLResponse(text, status)

        return handle

    # -------------------------------------------------------------- pages

    async def home(self, request: Request) -> tuple[str, dict[str, object]]:
        """Choose or describe a user; and what is recommended to them."""
        person = read_person(request.query_params, self.served, self.attributes)
        shows: dict[str, object] = {
            "person": person,
            "fields": self._fields(),
            "known": dict(person.attributes) if person else {},
            "suggested": self.served.users.search("", 50)[0],
        }
        if person is not None:
            shows |= await self._recommended(person)
        return "home.html", shows

    async def users(self, request: Request) -> tuple[str, dict[str, object]]:
        """Users whose id holds what is being typed."""
        query = request.query_params.get("user", "")[:200]
        return "users.html", {"suggested": self.served.users.search(query, 50)[0]}

    async def why(self, request: Request) -> tuple[str, dict[str, object]]:
        """What one prediction looked at."""
        person, item = self._person(request), request.query_params.get("item", "")
        found = await self.desk.call(lambda: self.served.explain(person.who, item))
        rows = sorted(found["attributes"], key=lambda each: -abs(each["contribution"]))  # type: ignore[call-overload]
        widest = max([0.05, *(abs(each["contribution"]) for each in rows)])  # next to nothing shall look like it
        return "why.html", {"person": person, "found": found, "rows": rows, "widest": widest}

    async def what_if(self, request: Request) -> tuple[str, dict[str, object]]:
        """Two lists side by side: the user as is, and with another value of one attribute."""
        person, query = self._person(request), request.query_params
        name, value = query.get("change", ""), query.get("value", "").strip()
        if name not in self.encoder.names:
            raise ConfigError(f"change={name!r}: choose one of {', '.join(self.encoder.names)}")
        if not value:
            raise ConfigError(f"say which {name} to compare with")

        def lists() -> tuple[list[Row], list[Row], list[tuple[str, str]]]:
            at, sets = self.served.sets_of(person.who)
            other = changed(self.served, sets, name, value)
            n = len(self.served.items)
            many = [ranked(self.served, person.user, at, each, n) for each in (sets, other)]
            return many[0], many[1], self.encoder.describe(sets)

        now, then, known = await self.desk.call(lists)
        return "what_if.html", {
            "person": person,
            "name": name,
            "value": value,
            "now_value": dict(known).get(name, "unknown"),
            "now": _moved(now, then),
            "then": _moved(then, now),
            "choosable": self._fields(),
        }

    async def map(self, request: Request) -> tuple[str, dict[str, object]]:
        """The heat map: item attribute x user attribute."""
        by = request.query_params.get("by")
        names = [each.by for each in self.maps]
        if by is not None and by not in names:
            raise ConfigError(f"by={by!r}: there are {', '.join(map(str, names)) or 'no maps'}")
        shown = next((each for each in self.maps if by in (None, each.by)), None)
        return "map.html", {"maps": self.maps, "shown": shown, "heat": _heat(shown) if shown else []}

    async def card(self, request: Request) -> tuple[str, dict[str, object]]:
        """The model card."""
        return "card.html", {"card": model_card(self.served)}

    async def docs(self, request: Request) -> tuple[str, dict[str, object]]:
        """The routes, from the OpenAPI document."""
        return "docs.html", {"document": self.api.openapi()}

    # -------------------------------------------------------------- what they show

    def _person(self, request: Request) -> Person:
        person = read_person(request.query_params, self.served, self.attributes)
        if person is None:
            raise ConfigError("say whom: a user's id, or the attributes of a new one")
        return person

    def _fields(self) -> list[dict[str, object]]:
        """What the form asks of a new user; vectors cannot be typed."""
        return [
            {"name": each.name, "many": each.is_list, "choices": each.choices}
            for each in self.encoder.fitted
            if each.size is None
        ]

    async def _recommended(self, person: Person) -> dict[str, object]:
        interval = SHARE if self.served.has_interval else None
        attributes = None if person.user is not None else person.attributes
        listed = await self.desk.recommend(self.served, Wish(person.user, attributes, {}, SHOWN, interval))

        def looked_at() -> tuple[list[tuple[str, str]], object]:
            at, sets = self.served.sets_of(person.who)
            weights = attention_on(self.served, at, sets, [str(row["item"]) for row in listed.items])
            return self.encoder.describe(sets), None if weights is None else weights.tolist()

        known, weights = await self.desk.call(looked_at)
        names = [name for name, _ in known]
        rows: list[dict[str, object]] = []
        for place, row in enumerate(listed.items):
            bars = None
            if weights is not None:
                by_name = dict(zip(self.encoder.names, weights[place], strict=True))  # type: ignore[index]
                bars = [(name, by_name[name]) for name in names]
            rows.append({**row, "attention": bars})
        return {
            "items": rows,
            "about": known,
            "new_ratings": listed.new_ratings,
            "choosable": self._fields(),
            "share": SHARE,
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
