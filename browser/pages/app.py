"""The addresses of the pages, and how they are answered."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from browser.library import CATEGORY_NAMES
from browser.pages import compared, concept, grid, image
from browser.review import MARKS
from browser.search import Query, QueryError, complete
from browser.state import State
from core.categories import CATEGORIES
from core.errors import ConceptError, ImageError
from core.images import SPLITS
from core.progress import say
from core.storage.text import visible
from inference.heat.paint import colour_layer

_HOME = Path(__file__).parents[1]
_STATIC = {"style.css": "text/css", "browse.js": "text/javascript"}

Page = Callable[[State, Mapping[str, str]], dict[str, Any]]

_PAGES: Mapping[str, tuple[str, Page]] = {
    "/": ("grid.html", grid.images),
    "/image": ("image.html", image.one_image),
    "/concepts": ("concepts.html", concept.table),
    "/concept": ("concept.html", concept.one_concept),
    "/categories": ("categories.html", concept.categories),
    "/category": ("category.html", concept.one_category),
    "/compare": ("compare.html", compared.compare),
    "/help": ("help.html", lambda state, given: {}),
}
"""Template of each address, and what gives its values."""


def new_app(state: State) -> Starlette:
    """The application of a workspace; `BrowserGuard` stands before it."""
    templates = _templates(state)
    static = {name: (_HOME / "static" / name).read_bytes() for name in _STATIC}

    def html(name: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        text = templates.get_template(name).render(values)
        return Response(text, status_code=status, media_type="text/html")

    def refused(text: str, status: int, *, kept: str = "") -> Response:
        values = {"text": text, "candidates": [], "has_form": False, "kept": kept}
        return html("refused.html", values, status=status)

    def page(template: str, view: Page) -> Callable[[Request], Response]:
        def show(request: Request) -> Response:
            try:
                return html(template, view(state, request.query_params))
            except QueryError as error:
                values = grid.refusal(
                    state, request.query_params, error=error, path=request.url.path
                )
                return html("refused.html", values, status=400)
            except LookupError:
                return refused("there is nothing of this name here", 404)

        return show

    def picture(request: Request) -> Response:
        row = _row(state, request)
        size = request.path_params["size"]
        if row is None or size not in ("small", "large") or not state.shows_images:
            return Response("no such picture\n", status_code=404)
        try:
            made = state.pictures.jpeg(row, size)
        except ImageError as error:
            return Response(f"{error}\n", status_code=404, media_type="text/plain")
        kept = {"cache-control": "private, max-age=3600"}
        return Response(made, media_type="image/jpeg", headers=kept)

    def heat(request: Request) -> Response:
        row = _row(state, request)
        if row is None or not state.shows_images:
            return Response("no such picture\n", status_code=404)
        try:
            layer, prob = state.heat_map(row, request.query_params.get("cui", ""))
        except QueryError as error:
            return Response(f"{error}\n", status_code=409, media_type="text/plain")
        told = {"cache-control": "private, max-age=3600", "x-probability": f"{prob:.4f}"}
        return Response(layer, media_type="image/png", headers=told)

    def scale(request: Request) -> Response:
        rising = np.linspace(0, 1, 256, dtype=np.float32)[None]
        kept = {"cache-control": "private, max-age=3600"}
        layer = colour_layer(rising, width=256, height=8)
        return Response(layer, media_type="image/png", headers=kept)

    def completion(request: Request) -> Response:
        found = complete(request.query_params.get("q", "")[:200], state.library)
        body = json.dumps([{"cui": cui, "name": visible(name)} for cui, name in found])
        return Response(body, media_type="application/json")

    async def mark(request: Request) -> Response:
        body = (await request.body()).decode("utf-8", "replace")
        given = dict(parse_qsl(body, keep_blank_values=True))
        if given.get("id") not in state.library.row_of:
            return refused("there is no such image here", 404)
        try:
            state.review.set(given["id"], mark=given.get("mark", ""), note=given.get("note", ""))
        except ConceptError as error:
            return refused(str(error), 400, kept=given.get("note", ""))
        back = given.get("back", "")
        place = back if back.startswith("/image?") else Query().url("/image", id=given["id"])
        return Response(status_code=303, headers={"location": f"{place}#review"})

    def review(request: Request) -> Response:
        table = state.library.corpus.table
        row_of, marks = state.library.row_of, state.review.marks
        known = [name for name in marks if name in row_of]
        columns = {
            "split": {name: table.splits[row_of[name]] for name in known},
            "category": {name: state.library.categories[row_of[name]] for name in known},
            "true_cuis": {name: ";".join(table.concepts[row_of[name]] or ()) for name in known},
            "true_concepts": {
                name: "; ".join(map(state.library.name_of, table.concepts[row_of[name]] or ()))
                for name in known
            },
        }
        attached = {"content-disposition": 'attachment; filename="review.csv"'}
        return Response(state.review.as_csv(columns), media_type="text/csv", headers=attached)

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in static:
            return Response("no such file\n", status_code=404)
        return Response(static[name], media_type=_STATIC[name])

    async def nothing(request: Request, error: Exception) -> Response:
        return refused("there is nothing here", 404)

    async def failed(request: Request, error: Exception) -> Response:
        say(f"{request.url.path}: {type(error).__name__}; the page was not made")
        return refused("this page could not be made; the terminal says more", 500)

    routes = [Route(path, page(*given)) for path, given in _PAGES.items()]
    routes += [
        Route("/picture/{size}/{row:int}.jpg", picture),
        Route("/heat/{row:int}.png", heat),
        Route("/heat/scale.png", scale),
        Route("/complete", completion),
        Route("/mark", mark, methods=["POST"]),
        Route("/review.csv", review),
        Route("/static/{name}", file),
    ]
    return Starlette(routes=routes, exception_handlers={404: nothing, 500: failed})


def _row(state: State, request: Request) -> int | None:
    row = int(request.path_params["row"])
    return row if row < len(state.library) else None


def _templates(state: State) -> Environment:
    """Templates in which whatever comes from data is text, control characters as codes."""

    def shown(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    made = Environment(
        loader=FileSystemLoader(_HOME / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def lines(text: str) -> Markup:
        return Markup("\n").join(escape(visible(line)) for line in text.splitlines())

    made.filters |= {
        "lines": lines,
        "percent": lambda value: "–" if value != value else f"{100 * value:.0f} %",
        "f1": lambda value: "–" if value != value else f"{value:.3f}",
        "prob": lambda value: "–" if value != value else f"{value:.2f}",
        "count": lambda value: f"{int(value):,}",
        "times": lambda value: "–" if value != value else f"{value:.1f}×",
    }
    made.globals |= {
        "state": state,
        "corpus": state.library.corpus,
        "category_names": CATEGORY_NAMES,
        "marks": MARKS,
        "name_of": state.library.name_of,
        "titled": state.library.titled,
        "no_query": Query(),
        "category_options": [
            *((str(name), f"{CATEGORY_NAMES[name]} ({name})") for name in CATEGORIES),
            ("none", "no category"),
        ],
        "split_options": [(name, name) for name in SPLITS],
    }
    return made
