"""The application: what is answered at each path."""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from core.categories import KNOWN_NAMES, UNKNOWN, category_of_name
from inference.serve.asgi import App, error_body
from inference.serve.blocks import Asked, Blocks, Told
from inference.serve.body import RAW, Held, read_body
from inference.serve.guard import IMAGES, Guard
from inference.serve.limits import ClientGone, Doors, Limits, RequestRefused, busy
from inference.serve.measures import MEDIA_TYPE, Measures
from inference.serve.pages import PAGE_HEADERS, contract_page, front_page

_GONE = 499
_MOST_TOP = 100
_OWN = ("category", "top")

_METHODS: dict[str, Literal["GET", "POST"]] = {
    "/predict": "POST",
    "/healthz": "GET",
    "/healthz/live": "GET",
    "/metrics": "GET",
    "/openapi.json": "GET",
    "/docs": "GET",
    "/": "GET",
}


class ToldConcept(BaseModel):
    """A concept of an image."""

    CUI: str
    name: str = Field(description="preferred name; empty where none is known")
    probability: float = Field(description="calibrated")
    decided: bool = Field(description="false for a candidate of `top`")
    rule: str = Field(description="what decided; empty for a candidate")


class ToldImage(BaseModel):
    """What is said of an image: its decisions, or `image` and `error` alone."""

    image: str = Field(description="name of the file without folder and ending")
    category: str | None = None
    category_from: str | None = Field(None, description="request, DICOM header, or guessed")
    expected_f1: float | None = Field(None, description="F1 that the decided set should score")
    review: float | None = Field(
        None, description="place in the order of review: share of labelled images less sure"
    )
    distance: float | None = Field(
        None, description="from what was learnt: 0 as usual, 0.7 twice as far"
    )
    nearest: float | None = Field(None, description="cosine to the nearest training image")
    nearest_image: str | None = Field(None, description="its id; empty where a bundle has none")
    concepts: list[ToldConcept] | None = None
    error: str | None = Field(None, description="why it could not be read")


class ToldImages(BaseModel):
    """An answer; its images are in the order of the files."""

    images: list[ToldImage]


class ToldError(BaseModel):
    """Why there is no other answer."""

    error: str


def new_app(blocks: Blocks, *, doors: Doors, limits: Limits, measures: Measures) -> App:
    """The application behind its door.

    Args:
        blocks: that decide.
        doors: who may ask.
        limits: of requests.
        measures: that are kept and shown.
    """
    held = Held(limits.held_bytes, measures)
    app = FastAPI(
        title="radfuse",
        description="Concepts in radiology images. Research software, not a medical device.",
        version="1",
        docs_url=None,  # FastAPI's page has its scripts come from elsewhere
        redoc_url=None,
    )

    @app.post("/predict", **_CONTRACT)
    async def predict(request: Request) -> Response:
        """Decide images: concepts, probabilities and rules of each."""
        if not blocks.is_ready:
            raise busy("loading", "the ensemble is still being read; try again in a second")
        blocks.refuse_when_full()
        with held.account() as account:
            sent = await read_body(request, limits=limits, account=account, measures=measures)
            if not sent.uploads:
                raise RequestRefused(422, "empty", text="no image in the request")
            said = {k: v for k, v in request.query_params.items() if k != "name"}
            said.update(sent.fields)
            asked = _asked(said, blocks.columns)
            told = await _unless_gone(request, blocks.tell(sent.uploads, asked))
        n_read = sum("error" not in one for one in told)
        request.scope[IMAGES] = n_read
        body: dict[str, Any] = {"images": told}
        if not n_read:
            body = {"error": f"none of {len(told)} images could be read"} | body
        return _json(body, status=200 if n_read else 422)

    @app.get("/healthz", responses={503: {"model": ToldError}})
    async def ready() -> Response:
        """Whether images can be decided: 200 once the ensemble is read, 503 before."""
        if not blocks.is_ready:
            raise busy("loading", "the ensemble is still being read")
        return _json({"status": "ready"})

    @app.get("/healthz/live")
    async def live() -> Response:
        """Whether the server answers."""
        return _json({"status": "live"})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counts and times, as Prometheus reads them."""
        return Response(measures.text(), media_type=MEDIA_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def contract() -> Response:
        return Response(contract_page(app.openapi()), headers=PAGE_HEADERS)

    @app.get("/", include_in_schema=False)
    async def front() -> Response:
        return Response(front_page(is_ready=blocks.is_ready), headers=PAGE_HEADERS)

    @app.exception_handler(RequestRefused)
    async def refuse(request: Request, error: RequestRefused) -> Response:
        if request.url.path != "/healthz":
            measures.refused.labels(error.reason).inc()
        return Response(
            error_body(error.text),
            status_code=error.status,
            headers=error.headers,
            media_type="application/json",
        )

    @app.exception_handler(ClientGone)
    async def forget(request: Request, error: ClientGone) -> Response:
        return Response(status_code=_GONE)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        measures.refused.labels("bug").inc()
        body = error_body("an error of the server; its log says where")
        return Response(body, status_code=500, media_type="application/json")

    return Guard(app, doors=doors, limits=limits, measures=measures, methods=_METHODS)


def _json(value: Mapping[str, Any], *, status: int = 200) -> Response:
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return Response(body, status_code=status, media_type="application/json")


def _asked(said: Mapping[str, str], columns: tuple[str, ...]) -> Asked:
    """What the fields of a request say.

    Raises:
        RequestRefused: there is no such field, or no such value.
    """
    if unknown := [name for name in said if name not in (*_OWN, *columns)]:
        known = ", ".join((*_OWN, *columns))
        text = f"unknown field {unknown[0][:40]!r}: expected {known}"
        raise RequestRefused(422, "fields", text=text)
    category = UNKNOWN
    if given := said.get("category", ""):
        found = category_of_name(given)
        if found is None:
            text = f"category {given[:40]!r}: expected one of {KNOWN_NAMES}"
            raise RequestRefused(422, "fields", text=text)
        category = found
    top = said.get("top", "") or "0"
    if not (top.isascii() and top.isdecimal() and len(top) < 4 and int(top) <= _MOST_TOP):
        raise RequestRefused(422, "fields", text=f"top: expected a number from 0 to {_MOST_TOP}")
    cells = {name: value for name, value in said.items() if name not in _OWN}
    return Asked(category=category, cells=cells, top=int(top))


async def _unless_gone(request: Request, work: Coroutine[Any, Any, list[Told]]) -> list[Told]:
    """What the work gives; it is given up when nobody waits for it any more.

    Raises:
        ClientGone: whoever asked has hung up.
    """
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_TOP: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": _MOST_TOP, "default": 0}
_OF_ALL: dict[str, tuple[str, dict[str, Any]]] = {
    "category": ("category of all images, a code or a plain name", {"type": "string"}),
    "top": ("candidates of an image beside what is decided", _TOP),
    "name": ("name of an image that is the whole body", {"type": "string"}),
}
_FIELDS = {k: {**v, "description": t} for k, (t, v) in _OF_ALL.items() if k != "name"}

_REFUSALS = {
    401: "no token, or a wrong one",
    408: "the request was too slow",
    413: "too many bytes, files or fields",
    415: "no form and no image",
    421: "asked under a name that is not this server's",
    422: "no image could be read, or a field is wrong",
    503: "the ensemble is not read yet, or too many images wait: try again after `Retry-After`",
    504: "not answered in time",
}

_CONTRACT: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"model": ToldImages, "description": "at least one image could be read"},
        **{n: {"model": ToldError, "description": text} for n, text in _REFUSALS.items()},
    },
    "openapi_extra": {
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": text, "schema": kind}
            for name, (text, kind) in _OF_ALL.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "images": {**_FILES, "description": "files; the field's name is free"},
                            **_FIELDS,
                        },
                    }
                },
                **{
                    f"{kind}*" if kind.endswith("/") else kind: {
                        "schema": {"type": "string", "format": "binary"}
                    }
                    for kind in RAW
                },
            },
        },
    },
}
