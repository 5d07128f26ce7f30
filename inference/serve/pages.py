"""The two pages for people: all of their own, nothing of them comes from elsewhere."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

PAGE_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: #f3f4f6; border-radius: 4px; }
code { padding: .1em .3em; } pre { padding: .8rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .6rem;
       border-bottom: 1px solid #d8dce1; vertical-align: top; }
.verb { color: #fff; background: #245a8d; border-radius: 4px; padding: .1em .5em; }
.warn { border-left: 4px solid #b35900; padding: .4rem .8rem; background: #fff7ed; }
form { border: 1px solid #d8dce1; border-radius: 6px; padding: .8rem; }
label { display: block; margin: .4rem 0; }
"""

_WARNING = (
    '<p class="warn">Research software, not a medical device: nothing here may decide on a'
    " person's diagnosis or treatment.</p>"
)

_FORM = """
<form action="/predict" method="post" enctype="multipart/form-data">
<label>Images <input type="file" name="images" multiple required></label>
<label>Category <input name="category" placeholder="none: told by DICOM, or guessed"></label>
<label>Candidates <input name="top" type="number" min="0" max="100" value="0"></label>
<button>Decide</button>
</form>
"""

_EXAMPLE = """curl -F images=@a.png -F images=@b.dcm -F category=CT 'http://localhost:8000/predict'
curl --data-binary @a.jpg -H 'Content-Type: image/jpeg' 'http://localhost:8000/predict?top=3'"""


def front_page(*, is_ready: bool) -> str:
    """What this is, and a form to try it."""
    state = "ready" if is_ready else "the ensemble is still being read"
    body = f"""<h1>radfuse</h1>
<p>Concepts in radiology images, decided by a trained ensemble. State: {state}.</p>
{_WARNING}
{_FORM}
<p>Images are decided and forgotten: nothing of them is kept or logged.</p>
<p><a href="/docs">What can be asked</a> · <a href="/openapi.json">OpenAPI</a> ·
<a href="/metrics">counts and times</a> · <a href="/healthz">state</a></p>"""
    return _page("radfuse", body)


def contract_page(schema: Mapping[str, Any]) -> str:
    """An OpenAPI document for reading.

    Args:
        schema: as FastAPI makes it.
    """
    info = schema["info"]
    parts = [
        f"<h1>{escape(info['title'])}: what can be asked</h1>",
        _WARNING,
        f"<pre>{escape(_EXAMPLE)}</pre>",
        "<p>Where a token is needed: <code>-H 'Authorization: Bearer TOKEN'</code>. The same as"
        ' <a href="/openapi.json">OpenAPI</a>.</p>',
    ]
    for path, verbs in schema["paths"].items():
        for verb, operation in verbs.items():
            parts += _operation(path, verb, operation)
    parts.append("<h2>Objects</h2>")
    for name, kind in schema.get("components", {}).get("schemas", {}).items():
        if not name.startswith("Told"):  # FastAPI's own kinds of error are not answered
            continue
        parts.append(f"<h3>{escape(name)}</h3><p>{escape(kind.get('description', ''))}</p>")
        rows = [
            (f"<code>{escape(field)}</code>", escape(_kind(is_a)), escape(_text(is_a)))
            for field, is_a in kind.get("properties", {}).items()
        ]
        parts.append(_table(("field", "kind", ""), rows))
    return _page(info["title"], "\n".join(parts))


def _operation(path: str, verb: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2><span class="verb">{escape(verb.upper())}</span> <code>{escape(path)}</code></h2>'
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    rows = [
        (f"<code>{escape(p['name'])}</code>", escape(p["in"]), escape(p.get("description", "")))
        for p in operation.get("parameters", ())
    ]
    content = operation.get("requestBody", {}).get("content", {})
    form = content.get("multipart/form-data", {}).get("schema", {}).get("properties", {})
    rows += [(f"<code>{escape(n)}</code>", "form", escape(_text(kind))) for n, kind in form.items()]
    if rows:
        yield _table(("field", "in", ""), rows)
    if content:
        yield f"<p>Body: {', '.join(f'<code>{escape(kind)}</code>' for kind in content)}</p>"
    answers = [
        (f"<code>{escape(status)}</code>", escape(answer.get("description", "")))
        for status, answer in operation.get("responses", {}).items()
    ]
    yield _table(("status", ""), answers)


def _text(kind: Mapping[str, Any]) -> str:
    return str(kind.get("description", ""))


def _kind(kind: Mapping[str, Any]) -> str:
    if "anyOf" in kind:
        return " or ".join(map(_kind, kind["anyOf"]))
    if "$ref" in kind:
        return str(kind["$ref"]).rpartition("/")[2]
    if kind.get("type") == "array":
        return f"list of {_kind(kind.get('items', {}))}"
    return str(kind.get("type", ""))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{head}</th>" for head in heads)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{lines}</table>"


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>"
    )
