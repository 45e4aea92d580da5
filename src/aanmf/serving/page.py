"""The web page: server-rendered, readable without JavaScript; htmx saves the reload of a whole page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pydantic
from fastapi import FastAPI, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from aanmf.errors import AanmfError, ConfigError, UnknownIdError
from aanmf.explanation import Explained
from aanmf.serving.bodies import attribute_model
from aanmf.serving.charts import SHADES, fixed, shade, signed, tick
from aanmf.serving.dispatch import Backend
from aanmf.serving.examples import as_command
from aanmf.serving.model_cache import ModelCache
from aanmf.serving.model_summary import model_summary
from aanmf.serving.page_context import CONTEXT, context_fields
from aanmf.serving.page_list import LENGTHS, WORDS, filter_fields, read_choice
from aanmf.serving.page_user import ATTRIBUTE, RATING, PageUser, address, described, form_fields, read_change, read_user
from aanmf.serving.schemas import fault_of
from aanmf.serving.views import Shows, Views

HERE = Path(__file__).parent
Page = Callable[[Request], Coroutine[Any, Any, tuple[str, Shows]]]


def add_page(api: FastAPI, cache: ModelCache, backend: Backend) -> None:
    """Adds the pages for one model to its routes."""
    site = Site(api, cache, backend)
    api.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    pages: list[tuple[str, Page]] = [
        ("/", site.home),
        ("/describe", site.describe),
        ("/users", site.users),
        ("/item", site.item),
        ("/what-if", site.what_if),
        ("/map", site.map),
        ("/card", site.card),
        ("/docs", site.docs),
    ]
    for path, page in pages:
        api.add_api_route(path, site.shown(page), include_in_schema=False, response_model=None)


class Site:
    """The pages of one model: each reads a request and returns the name of a template and what it shows."""

    def __init__(self, api: FastAPI, cache: ModelCache, backend: Backend) -> None:
        self.api, self.cache, self.models, self.views = api, cache, backend.models, Views(cache)
        self.attributes = attribute_model(cache.fitted.users.encoder)
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters |= {"signed": signed, "fixed": fixed, "tick": tick, "command": as_command}
        self.templates.globals |= {
            "model": cache.model,
            "data": cache.fitted.data,
            "rates": cache.predictor.rates,
            "has_ratings": cache.fitted.training.has_ratings,
            "scale": cache.predictor.scale,
            "attribute": ATTRIBUTE,
            "rating": RATING,
            "address": address,
            "shade": shade,
            "shades": SHADES,
            "fields": form_fields(cache.fitted.users),
            "filters": filter_fields(cache.fitted.items),
            "contexts": context_fields(cache.model),
            "context_of": CONTEXT,
            "ways": [(way, WORDS[way]) for way in self.views.ways],
            "lengths": LENGTHS,
        }

    def shown(self, page: Page) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """A handler that renders a page, or what was wrong with the request and the forms to correct it.

        Fields that a form left empty are taken out of the address.
        """

        async def handle(request: Request) -> Response:
            query, status, message = request.query_params, 200, ""
            kept = [(field, value) for field, value in query.multi_items() if value]
            if len(kept) < len(query.multi_items()) and page != self.users:
                return RedirectResponse(f"{request.url.path}?{urlencode(kept)}", 303)
            name, shows = "error.html", dict[str, Any]()
            try:
                name, shows = await page(request)
            except pydantic.ValidationError as error:
                status, message = 422, fault_of(error, {})
            except AanmfError as error:
                status, message = 404 if isinstance(error, UnknownIdError) else 422, str(error)
            if status != 200:
                shows = {"message": message, **await self.models.call(lambda: self.views.form(query))}
            text = self.templates.get_template(name).render(path=request.url.path, **shows)
            return HTMLResponse(text, status)

        return handle

    async def home(self, request: Request) -> tuple[str, Shows]:
        """A user's list; without a user, what this is, and how to begin."""
        user, choice = self._user(request), read_choice(request.query_params)
        if user is None:
            return "welcome.html", await self.models.call(lambda: self.views.welcome(request.query_params))
        answer = await self.models.ask(self.cache.make_lists, user.asked(self.views.options(choice)))
        return "list.html", await self.models.call(lambda: self.views.listed(user, choice, answer))

    async def describe(self, request: Request) -> tuple[str, Shows]:
        """The form for a new user, with the items that a search found."""
        return "describe.html", await self.models.call(lambda: self.views.form(request.query_params))

    async def users(self, request: Request) -> tuple[str, Shows]:
        """Users whose id contains what is being typed."""
        query = request.query_params.get("user", "")[:200]
        return "users.html", {"suggested": self.cache.search_users(query, 50)[0]}

    async def item(self, request: Request) -> tuple[str, Shows]:
        """One item: why it is predicted what it is, if there is a user, and the items similar to it."""
        query, user = request.query_params, self._user(request)
        item, against = query.get("item", ""), query.get("against")
        of = cast("Explained | None", query.get("of"))  # checked where it is used
        return "item.html", await self.models.call(lambda: self.views.item(user, item, of, against))

    async def what_if(self, request: Request) -> tuple[str, Shows]:
        """The rating of an item and the list, as they are and as they would be."""
        user, item = self._user(request), request.query_params.get("item")
        if user is None:
            raise ConfigError("name a user: by id, or a new one by attributes or ratings")
        change = read_change(request.query_params, self.cache, described(user, self.cache))
        return "what_if.html", await self.models.call(lambda: self.views.compared(user, change, item))

    async def map(self, request: Request) -> tuple[str, Shows]:
        """The heat map: item attribute x user attribute."""
        by, maps = request.query_params.get("by"), self.views.maps
        names = [each.by for each in maps]
        if by is not None and by not in names:
            raise ConfigError(f"by={by!r}: no such map. Available: {', '.join(map(str, names)) or 'none'}")
        return "map.html", {"maps": maps, "map": next((each for each in maps if by in (None, each.by)), None)}

    async def card(self, request: Request) -> tuple[str, Shows]:
        """The model card."""
        return "card.html", {"card": model_summary(self.cache)}

    async def docs(self, request: Request) -> tuple[str, Shows]:
        """The routes, from the OpenAPI document."""
        return "docs.html", {"document": self.api.openapi(), "base": str(request.base_url).rstrip("/")}

    def _user(self, request: Request) -> PageUser | None:
        return read_user(request.query_params, self.cache, self.attributes)
