"""The routes under `/v1`, and the service's own: made anew for every model, so that they know its attributes."""

# without `from __future__ import annotations`: FastAPI has to see request types that are made at run time
# pyright: reportInvalidTypeForm=false

import asyncio
import dataclasses
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, get_type_hints

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from aanmf.errors import AanmfError, ConfigError, DataError, ForgottenError, UnknownIdError
from aanmf.ranking import ListOptions
from aanmf.serving.dispatch import Backend
from aanmf.serving.limits import Limits
from aanmf.serving.model_cache import ListRequest, ModelCache, PredictRequest, known_of
from aanmf.serving.model_summary import model_summary
from aanmf.serving.schemas import (
    LIST_OPTIONS,
    Erased,
    ErrorAnswer,
    Explanation,
    Found,
    ManyRecommendations,
    Predictions,
    Recommendations,
    Requests,
    Similar,
    Stored,
    UserData,
    fault_of,
    request_models,
)
from aanmf.serving.store import RatingStore, StoredRating, StoreError

STATUS: list[tuple[type[Exception], int]] = [
    (UnknownIdError, 404),
    (ForgottenError, 410),
    (StoreError, 503),
    (DataError, 422),
    (ConfigError, 422),
]
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "The token is missing or wrong"},
    403: {"model": ErrorAnswer, "description": "Called by another name, or from a page of another site"},
    404: {"model": ErrorAnswer, "description": "An id that the model does not know"},
    408: {"model": ErrorAnswer, "description": "The body took too long"},
    410: {"model": ErrorAnswer, "description": "Ratings of a user who was forgotten"},
    413: {"model": ErrorAnswer, "description": "The body is too large"},
    415: {"model": ErrorAnswer, "description": "The body is not application/json"},
    422: {"model": ErrorAnswer, "description": "A value that is not allowed; the message says which are"},
    429: {"model": ErrorAnswer, "description": "Too many requests of one client"},
    503: {"model": ErrorAnswer, "description": "Overloaded, or the ratings' database does not answer"},
}
UserId = Annotated[str, Query(min_length=1, max_length=200, description="Id of a user.")]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRoute(APIRoute):
    """A route whose `body` is checked straight from the bytes, and whose answer is written straight to them.

    What FastAPI does between (dependencies, a second check of the answer) costs more than a prediction.
    """

    def get_route_handler(self) -> Handler:
        """The handler; for routes without a `body` it is FastAPI's own."""
        body_type = get_type_hints(self.endpoint).get("body")
        if body_type is None:
            return super().get_route_handler()
        check, endpoint = TypeAdapter(body_type).validate_json, self.endpoint

        async def handle(request: Request) -> Response:
            kind = request.headers.get("content-type", "")
            if kind.partition(";")[0].strip().lower() != "application/json":
                raise HTTPException(415, "send the body as application/json")
            answer = await endpoint(body=check(request.scope["aanmf.body"]))
            return Response(to_json(answer), media_type="application/json")

        return handle


def make_api(cache: ModelCache, backend: Backend) -> FastAPI:
    """The routes for one model."""
    api = FastAPI(
        title="aanmf",
        version="1",
        description="Rating prediction that knows its users and items.",
        docs_url=None,  # FastAPI's page loads its scripts from elsewhere; ours is in `page`
        redoc_url=None,
        responses=REFUSALS,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # asked for on every request otherwise
    )
    api.router.route_class = JsonRoute
    fitted = cache.fitted
    _handle_faults(
        api,
        {
            "attributes": fitted.users.encoder.names,
            "item_attributes": fitted.items.encoder.names,
            "context": fitted.context.names,
        },
    )
    bodies = request_models(cache.fitted, backend.limits)
    _model_routes(api, cache, backend, bodies)
    _list_routes(api, cache, backend, bodies)
    _search_routes(api, cache, backend)
    if backend.store is not None:
        _rating_routes(api, cache, backend, backend.store, bodies)
    _service_routes(api, cache, backend)
    return api


def _model_routes(api: FastAPI, cache: ModelCache, backend: Backend, bodies: Requests) -> None:
    @api.post("/v1/predict", response_model=Predictions, tags=["model"])
    async def predict(body: bodies.predict) -> object:
        """Predicted ratings of pairs; unknown users and items count as average ones, and are marked."""
        cache.predictor.check_rates()
        if body.interval is not None:
            cache.predictor.check_interval(body.interval)
        asked = PredictRequest(body.pairs, body.interval, _given(body.context))
        answer = await backend.models.ask(cache.predict, asked)
        backend.metrics.predictions.inc(len(body.pairs))
        return answer

    @api.post("/v1/explain", response_model=Explanation, tags=["model"])
    async def explain(body: bodies.explain) -> object:
        """What one prediction rests on: what each rated item, attribute and part of the model adds to it.

        Ratings stored under the user's id count, as they do in lists.
        """
        if body.user is None and body.attributes is None and not body.ratings:
            raise ConfigError("give a user's id, or the attributes or ratings of a new one")
        asked = _about(body, ListOptions())
        found = await backend.models.call(lambda: cache.explain(asked, body.item, body.top, body.of, body.against))
        against = None if found.against is None else found.against[0]
        return {**dataclasses.asdict(found), "against": against, "parts": found.parts.to_dicts()}

    @api.get("/v1/model", tags=["model"])
    async def model() -> dict[str, object]:
        """The model card: data, splits, figures, settings, attributes with their values."""
        return model_summary(cache)


def _list_routes(api: FastAPI, cache: ModelCache, backend: Backend, bodies: Requests) -> None:
    @api.post("/v1/recommend", response_model=Recommendations, tags=["lists"])
    async def recommend(body: bodies.recommend) -> object:
        """The items that suit a user best; what the user has rated is left out unless `seen`.

        A new user is known by attributes, by ratings, or both. Ratings stored under the id count at once.
        """
        (asked,) = _list_requests(cache, backend.limits, body, [body])
        return await backend.models.ask(cache.make_lists, asked)

    @api.post("/v1/recommend-many", response_model=ManyRecommendations, tags=["lists"])
    async def recommend_many(body: bodies.recommend_many) -> object:
        """Lists for many users at once, known or new, in their order; all are made with the same options."""
        asked = _list_requests(cache, backend.limits, body, body.users)
        return {"lists": await backend.models.ask(cache.make_many_lists, asked)}

    @api.post("/v1/similar", response_model=Similar, tags=["lists"])
    async def similar(body: bodies.similar) -> object:
        """The items most similar to an item, or the users most similar to a user, by id or new by attributes.

        Similar are items that the same users rated, and items with the same attributes.
        """
        given = [name for name in ("item", "item_attributes", "user", "attributes") if getattr(body, name) is not None]
        if len(given) != 1:
            raise ConfigError("give one of: item, item_attributes (of a new item), user, attributes (of a new user)")
        of = getattr(body, given[0])
        wanted = _given(of) or {} if isinstance(of, BaseModel) else of
        side = "item" if given[0].startswith("item") else "user"
        return {"similar": await backend.models.call(lambda: cache.similar(wanted, side, body.n))}


def _list_requests(cache: ModelCache, limits: Limits, body: Any, users: list[Any]) -> list[ListRequest]:
    """One per user, by the options of a request's body.

    Raises:
        ConfigError: a user who is neither named nor described, or a diverse list that is too long.
        UnknownIdError: a rated item that the model does not know.
    """
    options = ListOptions(**{name: getattr(body, name) for name in LIST_OPTIONS})
    if body.diversity and body.n > limits.diverse:
        raise ConfigError(f"n={body.n} with diversity: a diverse list has at most {limits.diverse} items")
    for user in users:
        if user.user is None and user.attributes is None and not user.ratings:
            raise ConfigError("give a user's id, or the attributes or ratings of a new one")
        for item in user.ratings:
            cache.fitted.items.position(item)
    return [_about(each, options) for each in users]


def _search_routes(api: FastAPI, cache: ModelCache, backend: Backend) -> None:
    Text = Annotated[str, Query(max_length=200, description="Part of an id or title; empty: any.")]
    Many = Annotated[int, Query(ge=1, le=backend.limits.found)]

    @api.get("/v1/users", response_model=Found, tags=["search"])
    async def users(query: Text = "", n: Many = 20) -> dict[str, object]:
        """Users whose id contains the query."""
        found, more = await asyncio.to_thread(cache.search_users, query, n)
        return {"found": found, "more": more}

    @api.get("/v1/items", response_model=Found, tags=["search"])
    async def items(query: Text = "", n: Many = 20) -> dict[str, object]:
        """Items whose id or title contains the query."""
        found, more = await asyncio.to_thread(cache.items.search, query, n)
        return {"found": found, "more": more}


def _rating_routes(api: FastAPI, cache: ModelCache, backend: Backend, store: RatingStore, bodies: Requests) -> None:
    @api.post("/v1/ratings", response_model=Stored, tags=["ratings"])
    async def ratings(body: bodies.ratings) -> object:
        """Stores ratings: when this has answered they are on disk, and count in the user's next list.

        Without `rating` a row says that the user chose the item (clicked, bought) and leaves an earlier rating as it
        is.
        """
        for each in body.ratings:
            cache.fitted.items.position(each.item)
        rows = [StoredRating(each.user, each.item, each.rating) for each in body.ratings]
        stored = await backend.writes.ask(store.add_all, rows)
        backend.metrics.stored.inc(stored)
        return {"stored": stored}

    @api.get("/v1/user-data", response_model=UserData, tags=["ratings"])
    async def user_data(user: UserId) -> object:
        """All that is known of a user: ratings stored since training, and what the model has learned from."""
        kept = await asyncio.to_thread(store.stored_of, user)
        return {"user": user, "stored": kept, "learned": known_of(cache.fitted, user)}

    @api.delete("/v1/user-data", response_model=Erased, tags=["ratings"])
    async def forget(user: UserId) -> object:
        """Forgets a user: removes what is stored, and answers as if the user had never been there.

        `learned` says that the model has learned from the user's ratings: they leave its folder with the next
        `aanmf update`, which fits it again without them.
        """
        removed = await backend.writes.call(lambda: store.forget(user))
        await backend.models.call(cache.lists.clear)
        return {"erased": removed, "learned": user in cache.fitted.users.table.ids}


def _service_routes(api: FastAPI, cache: ModelCache, backend: Backend) -> None:
    @api.get("/healthz", tags=["service"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @api.get("/readyz", tags=["service"])
    async def readyz(request: Request) -> dict[str, object]:
        """The model and the ratings' database answer; with the token, if one is set: which model, and its age."""
        if backend.store is not None:
            await asyncio.to_thread(backend.store.check)
        await backend.models.call(lambda: None)
        if not request.scope["aanmf.trusted"]:
            return {"status": "ready"}
        return {"status": "ready", "version": cache.version, "age_seconds": round(time.time() - cache.saved)}

    @api.get("/metrics", tags=["service"], response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        backend.metrics.list_bytes.set(cache.lists.bytes)
        return Response(backend.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _about(user: Any, options: ListOptions) -> ListRequest:
    """Who is asked about, from the body of a request."""
    attributes, context = _given(user.attributes), _given(user.context)
    return ListRequest(user.user, attributes, user.ratings, options, tuple(user.without), context)


def _given(attributes: BaseModel | None) -> dict[str, object] | None:
    """Attributes that were given, by their own names; None where there are none."""
    return None if attributes is None else attributes.model_dump(by_alias=True, exclude_none=True)


def _handle_faults(api: FastAPI, names: Mapping[str, Sequence[str]]) -> None:
    def answer(status: int, kind: str, message: str) -> Response:
        headers = {"retry-after": "1"} if status == 503 else None
        body = to_json({"error": {"kind": kind, "message": message}})
        return Response(body, status, headers, "application/json")

    @api.exception_handler(ValidationError)
    async def invalid(_: Request, error: ValidationError) -> Response:
        return answer(422, "InvalidRequest", fault_of(error, names))

    @api.exception_handler(RequestValidationError)
    async def invalid_query(_: Request, error: RequestValidationError) -> Response:
        fault = error.errors()[0]
        return answer(422, "InvalidRequest", f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")

    @api.exception_handler(AanmfError)
    async def refused(_: Request, error: AanmfError) -> Response:
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
        return answer(status, type(error).__name__, str(error))

    @api.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        message = (
            f"there is no {request.url.path[:100]!r} here; see /docs" if error.status_code == 404 else error.detail
        )
        response = answer(error.status_code, "Refused", str(message))
        response.headers.update(error.headers or {})
        return response
