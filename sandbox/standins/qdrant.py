"""Qdrant's REST API 1.19 over qdrant-client's local mode; answers as its published description says."""

from __future__ import annotations

import hmac
import json
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from qdrant_client import models
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.people import Person
from sandbox.standins import Host
from sandbox.standins.qdrant_store import Missing, Obj, Store, missing
from sandbox.standins.qdrant_telemetry import metrics_text, telemetry

VERSION = {"title": "qdrant - vector search engine", "version": "1.19.0", "commit": "sandbox"}
OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/readyz"})

_insert: TypeAdapter[Any] = TypeAdapter(models.PointInsertOperations)
_selector: TypeAdapter[Any] = TypeAdapter(models.PointsSelector)
_operations: TypeAdapter[Any] = TypeAdapter(models.UpdateOperations)


class Bad(Exception):
    """A request Qdrant refuses, with its words."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def dump(value: Any) -> Any:
    """An answer of the client's models as plain JSON: without the fields not set, with all of a payload."""
    if isinstance(value, BaseModel):
        return {name: dump(field) for name, field in value if field is not None}
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return [dump(item) for item in value]
    return to_jsonable_python(value)


def points_of(given: Any) -> Any:
    """The points a write names, by id or by filter. Raises Bad."""
    if given.points is not None:
        return models.PointIdsList(points=given.points)
    if given.filter is not None:
        return models.FilterSelector(filter=given.filter)
    raise Bad("Wrong input: either points or filter must be given", 422)


class Qdrant:
    """The handlers. Each takes the request and its parsed body, and returns the ``result``."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def name(self, request: Request) -> str:
        return self.store.name_of(request.path_params["name"])

    def done(self, request: Request) -> Obj:
        waited = request.query_params.get("wait") in ("true", None)
        return {"operation_id": self.store.operation(), "status": "completed" if waited else "acknowledged"}

    # Collections

    def collections(self, request: Request, body: Any) -> Any:
        return {"collections": [{"name": name} for name in self.store.names()]}

    def info(self, request: Request, body: Any) -> Any:
        return self.store.info(self.name(request))

    def exists(self, request: Request, body: Any) -> Any:
        return {"exists": self.store.client.collection_exists(request.path_params["name"])}

    def create(self, request: Request, body: Any) -> Any:
        name = request.path_params["name"]
        if name in self.store.names():
            raise Bad(f"Wrong input: Collection `{name}` already exists!", 409)
        self.store.create(name, models.CreateCollection.model_validate(body))
        return True

    def update(self, request: Request, body: Any) -> Any:
        self.store.update(self.name(request), models.UpdateCollection.model_validate(body))
        return True

    def delete(self, request: Request, body: Any) -> Any:
        return self.store.delete(request.path_params["name"])

    def aliases(self, request: Request, body: Any) -> Any:
        if "name" in request.path_params:
            return dump(self.store.client.get_collection_aliases(self.name(request)))
        return dump(self.store.client.get_aliases())

    def change_aliases(self, request: Request, body: Any) -> Any:
        given = models.ChangeAliasesOperation.model_validate(body)
        return self.store.client.update_collection_aliases(given.actions)

    def cluster_info(self, request: Request, body: Any) -> Any:
        points = self.store.client.count(self.name(request)).count
        shard = {"shard_id": 0, "points_count": points, "state": "Active"}
        return {"peer_id": 1, "shard_count": 1, "local_shards": [shard], "remote_shards": [], "shard_transfers": []}

    def index(self, request: Request, body: Any) -> Any:
        given = models.CreateFieldIndex.model_validate(body)
        if given.field_schema is None:
            raise Bad("Wrong input: field_schema is required")
        self.store.index(self.name(request), given.field_name, body["field_schema"])
        return self.done(request)

    def drop_index(self, request: Request, body: Any) -> Any:
        self.store.drop_index(self.name(request), request.path_params["field"])
        return self.done(request)

    # Points

    def upsert(self, request: Request, body: Any) -> Any:
        given = _insert.validate_python(body)
        points = given.batch if isinstance(given, models.PointsBatch) else given.points
        self.store.client.upsert(
            self.name(request), points, update_filter=given.update_filter, update_mode=given.update_mode
        )
        return self.done(request)

    def retrieve(self, request: Request, body: Any) -> Any:
        given = models.PointRequest.model_validate(body)
        return dump(
            self.store.client.retrieve(
                self.name(request),
                given.ids,
                with_payload=True if given.with_payload is None else given.with_payload,
                with_vectors=given.with_vector or False,
            )
        )

    def point(self, request: Request, body: Any) -> Any:
        given = request.path_params["id"]
        found = self.store.client.retrieve(
            self.name(request), [int(given) if given.isdigit() else given], with_vectors=True
        )
        if not found:
            raise Missing(f"Not found: Point with id {given} does not exists!")
        return dump(found[0])

    def scroll(self, request: Request, body: Any) -> Any:
        given = models.ScrollRequest.model_validate(body)
        points, following = self.store.client.scroll(
            self.name(request),
            scroll_filter=given.filter,
            limit=10 if given.limit is None else given.limit,
            order_by=given.order_by,
            offset=given.offset,
            with_payload=True if given.with_payload is None else given.with_payload,
            with_vectors=given.with_vector or False,
        )
        return {"points": dump(list(points)), "next_page_offset": following}

    def count(self, request: Request, body: Any) -> Any:
        given = models.CountRequest.model_validate(body)
        return dump(self.store.client.count(self.name(request), count_filter=given.filter))

    def facet(self, request: Request, body: Any) -> Any:
        given = models.FacetRequest.model_validate(body)
        return dump(
            self.store.client.facet(self.name(request), given.key, facet_filter=given.filter, limit=given.limit or 10)
        )

    def _query(self, name: str, given: models.QueryRequest) -> Any:
        return self.store.client.query_points(
            name,
            query=given.query,
            using=given.using,
            prefetch=given.prefetch,
            query_filter=given.filter,
            search_params=given.params,
            limit=10 if given.limit is None else given.limit,
            offset=given.offset,
            with_payload=given.with_payload or False,
            with_vectors=given.with_vector or False,
            score_threshold=given.score_threshold,
            lookup_from=given.lookup_from,
        )

    def query(self, request: Request, body: Any) -> Any:
        return dump(self._query(self.name(request), models.QueryRequest.model_validate(body)))

    def query_batch(self, request: Request, body: Any) -> Any:
        given = models.QueryRequestBatch.model_validate(body)
        return [dump(self._query(self.name(request), one)) for one in given.searches]

    def query_groups(self, request: Request, body: Any) -> Any:
        given = models.QueryGroupsRequest.model_validate(body)
        return dump(
            self.store.client.query_points_groups(
                self.name(request),
                group_by=given.group_by,
                query=given.query,
                using=given.using,
                prefetch=given.prefetch,
                query_filter=given.filter,
                limit=given.limit or 10,
                group_size=given.group_size or 3,
                with_payload=given.with_payload or False,
                with_vectors=given.with_vector or False,
                score_threshold=given.score_threshold,
            )
        )

    def search(self, request: Request, body: Any) -> Any:
        """The older search, which servers before 1.19 answer and old clients ask for."""
        given = {key: value for key, value in body.items() if key not in ("vector", "top")}
        vector = body.get("vector")
        if isinstance(vector, dict):
            given |= {"using": vector.get("name"), "query": vector.get("vector")}
        else:
            given["query"] = vector
        found = self._query(self.name(request), models.QueryRequest.model_validate(given))
        return dump(found)["points"]

    def delete_points(self, request: Request, body: Any) -> Any:
        self.store.client.delete(self.name(request), _selector.validate_python(body))
        return self.done(request)

    def update_vectors(self, request: Request, body: Any) -> Any:
        given = models.UpdateVectors.model_validate(body)
        self.store.client.update_vectors(self.name(request), given.points)
        return self.done(request)

    def delete_vectors(self, request: Request, body: Any) -> Any:
        given = models.DeleteVectors.model_validate(body)
        self.store.client.delete_vectors(self.name(request), given.vector, points_of(given))
        return self.done(request)

    def set_payload(self, request: Request, body: Any) -> Any:
        given = models.SetPayload.model_validate(body)
        if request.method == "PUT":
            self.store.client.overwrite_payload(self.name(request), given.payload, points_of(given))
        else:
            self.store.client.set_payload(self.name(request), given.payload, points_of(given), key=given.key)
        return self.done(request)

    def delete_payload(self, request: Request, body: Any) -> Any:
        given = models.DeletePayload.model_validate(body)
        self.store.client.delete_payload(self.name(request), given.keys, points_of(given))
        return self.done(request)

    def clear_payload(self, request: Request, body: Any) -> Any:
        self.store.client.clear_payload(self.name(request), _selector.validate_python(body))
        return self.done(request)

    def batch(self, request: Request, body: Any) -> Any:
        given = _operations.validate_python(body)
        self.store.client.batch_update_points(self.name(request), given.operations)
        return [self.done(request) for _ in given.operations]

    # Snapshots and the server

    def snapshots(self, request: Request, body: Any) -> Any:
        return self.store.snapshots_of(self.name(request))

    def create_snapshot(self, request: Request, body: Any) -> Any:
        return self.store.snapshot(self.name(request))

    def delete_snapshot(self, request: Request, body: Any) -> Any:
        self.store.snapshot_path(self.name(request), request.path_params["snapshot"]).unlink()
        return True

    def full_snapshots(self, request: Request, body: Any) -> Any:
        return []

    def cluster(self, request: Request, body: Any) -> Any:
        return {"status": "disabled"}

    def issues(self, request: Request, body: Any) -> Any:
        return {"issues": []}

    def telemetry(self, request: Request, body: Any) -> Any:
        level = request.query_params.get("details_level", "0")
        whole = request.query_params.get("per_collection") == "true"
        return telemetry(self.store, VERSION["version"], int(level) if level.isdigit() else 0, per_collection=whole)


Handler = Callable[[Request, Any], Any]


READING = ("/scroll", "/count", "/facet", "/query", "/query/batch", "/query/groups", "/search")
"""What is asked by POST and changes nothing."""


def _routes(qdrant: Qdrant, key: str | None) -> list[Route]:
    store = qdrant.store

    def refused(request: Request) -> Response | None:
        given = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if key is None or request.url.path in OPEN_PATHS or hmac.compare_digest(given.encode(), key.encode()):
            return None
        return error("Must provide an API key or an Authorization bearer token", 401, 0.0)

    def error(text: str, status: int, seconds: float) -> Response:
        return JSONResponse({"status": {"error": text}, "time": seconds}, status_code=status)

    def call(handler: Handler, request: Request, raw: bytes, endpoint: str) -> Response:
        """Answer in a thread, one request at a time, and count it."""
        start = time.perf_counter()
        with store.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store.written |= request.method != "GET" and not endpoint.endswith(READING)
            result, wrong, status = attempt(handler, request, raw)
            seconds = time.perf_counter() - start
            collection = request.path_params.get("name")
            store.count(endpoint, status, seconds, collection if collection in store.state["configs"] else None)
            if status != 200:
                return error(wrong, status, seconds)
            return JSONResponse({"result": result, "status": "ok", "time": seconds})

    def attempt(handler: Handler, request: Request, raw: bytes) -> tuple[Any, str, int]:
        """Result, error text and status of a handler."""
        try:
            return handler(request, json.loads(raw) if raw else {}), "", 200
        except ValidationError as wrong:
            first = wrong.errors()[0]
            where = ".".join(map(str, first["loc"]))
            return None, f"Format error in JSON body: {first['msg']} at {where}", 400
        except json.JSONDecodeError as wrong:
            return None, f"Format error in JSON body: {wrong}", 400
        except Missing as wrong:
            return None, str(wrong), 404
        except Bad as wrong:
            return None, str(wrong), wrong.status
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError, NotImplementedError) as wrong:
            # Local mode raises plain errors for what the server calls wrong input.
            text = str(wrong).removeprefix("Wrong input: ")
            if text.startswith("Collection") and "not found" in text:
                return None, str(missing(text.split()[1])), 404
            return None, f"Wrong input: {text}", 400

    def route(method: str, path: str, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            denied = refused(request)
            if denied is not None:
                return denied
            raw = await request.body()
            return await run_in_threadpool(call, handler, request, raw, f"{method} {path}")

        return Route(path, answer, methods=[method])

    def text(path: str, content: Callable[[], str]) -> Route:
        async def answer(request: Request) -> Response:
            return refused(request) or PlainTextResponse(await run_in_threadpool(content))

        return Route(path, answer)

    async def version(request: Request) -> Response:
        return JSONResponse(VERSION)

    async def download(request: Request) -> Response:
        try:
            path = store.snapshot_path(request.path_params["name"], request.path_params["snapshot"])
        except Missing as wrong:
            return error(str(wrong), 404, 0.0)
        return refused(request) or FileResponse(path, media_type="application/octet-stream", filename=path.name)

    one = "/collections/{name}"
    return [
        Route("/", version),
        text("/healthz", lambda: "healthz check passed"),
        text("/livez", lambda: "healthz check passed"),
        text("/readyz", lambda: "all shards are ready"),
        text("/metrics", lambda: metrics_text(store, VERSION["version"])),
        route("GET", "/telemetry", qdrant.telemetry),
        route("GET", "/cluster", qdrant.cluster),
        route("GET", "/issues", qdrant.issues),
        route("GET", "/aliases", qdrant.aliases),
        route("GET", "/snapshots", qdrant.full_snapshots),
        route("GET", "/collections", qdrant.collections),
        route("POST", "/collections/aliases", qdrant.change_aliases),
        route("GET", one, qdrant.info),
        route("PUT", one, qdrant.create),
        route("PATCH", one, qdrant.update),
        route("DELETE", one, qdrant.delete),
        route("GET", f"{one}/exists", qdrant.exists),
        route("GET", f"{one}/aliases", qdrant.aliases),
        route("GET", f"{one}/cluster", qdrant.cluster_info),
        route("PUT", f"{one}/index", qdrant.index),
        route("DELETE", f"{one}/index/{{field}}", qdrant.drop_index),
        route("GET", f"{one}/snapshots", qdrant.snapshots),
        route("POST", f"{one}/snapshots", qdrant.create_snapshot),
        route("DELETE", f"{one}/snapshots/{{snapshot}}", qdrant.delete_snapshot),
        Route(f"{one}/snapshots/{{snapshot}}", download),
        route("PUT", f"{one}/points", qdrant.upsert),
        route("POST", f"{one}/points", qdrant.retrieve),
        route("POST", f"{one}/points/scroll", qdrant.scroll),
        route("POST", f"{one}/points/count", qdrant.count),
        route("POST", f"{one}/points/search", qdrant.search),
        route("POST", f"{one}/points/query", qdrant.query),
        route("POST", f"{one}/points/query/batch", qdrant.query_batch),
        route("POST", f"{one}/points/query/groups", qdrant.query_groups),
        route("POST", f"{one}/points/delete", qdrant.delete_points),
        route("POST", f"{one}/points/batch", qdrant.batch),
        route("PUT", f"{one}/points/vectors", qdrant.update_vectors),
        route("POST", f"{one}/points/vectors/delete", qdrant.delete_vectors),
        route("POST", f"{one}/points/payload", qdrant.set_payload),
        route("PUT", f"{one}/points/payload", qdrant.set_payload),
        route("POST", f"{one}/points/payload/delete", qdrant.delete_payload),
        route("POST", f"{one}/points/payload/clear", qdrant.clear_payload),
        route("GET", f"{one}/points/{{id}}", qdrant.point),
        route("POST", f"{one}/facet", qdrant.facet),
    ]


def create(state_dir: Path, seed: int | None, people: list[Person], *, host: Host, **_: object) -> Starlette:
    """The Qdrant stand-in. It asks for a key when the host has one for it."""
    store = Store(state_dir, seed)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        store.close()

    app = Starlette(routes=_routes(Qdrant(store), host.secrets.get("qdrant_api_key") or None), lifespan=lifespan)
    app.state.standin = store
    return app
