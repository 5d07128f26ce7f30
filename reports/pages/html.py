"""One HTML file that needs nothing else: Markdown as HTML, figures in it, light and dark."""

import html
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from core.storage.text import visible

_CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #5b6570;
  --line: #d9dee4; --band: #f4f6f8; --link: #0061a6; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e3e7eb; --paper: #15181c;
  --faint: #9aa5b1; --line: #343b43; --band: #1e2329; --link: #7cc0f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 62rem; color: var(--ink);
  background: var(--paper); line-height: 1.55;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
p, li { max-width: 46rem; }
p:has(> .figure) { max-width: none; }
a { color: var(--link); }
code { font-size: .92em; background: var(--band); padding: .1em .3em; border-radius: 3px; }
nav { font-size: .92rem; margin: 1rem 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; padding: 0;
  margin: 0; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem .28rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
th { color: var(--faint); font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
tbody tr:hover td { background: var(--band); }
.figure { display: block; margin: 1.2rem 0; }
.figure svg { display: block; width: 100%; height: auto; max-width: 50rem; fill: currentColor; }
h3 { font-size: 1rem; margin: 2rem 0 .6rem; }
ul:has(> li > p > .photo) { display: grid; gap: 1.2rem 2rem; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
li:has(> p > .photo) { display: flow-root; font-size: .92rem; overflow-wrap: anywhere; }
p:has(> .photo) { float: left; width: 11rem; margin: .2rem 1rem .6rem 0; }
p:has(> .photo) ~ p { margin: 0; }
p:has(> .photo) ~ ul { overflow: hidden; list-style: none; padding: 0; margin: .3rem 0 0; }
.photo { display: block; max-width: 100%; height: auto; }
@media (max-width: 40rem) { .figure { overflow-x: auto; } .figure svg { min-width: 34rem; } }
@media print { nav { display: none; } body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } h2 { break-after: avoid; }
  th, td { white-space: normal; padding-right: .4rem; }
  tr, .figure, li { break-inside: avoid; } .figure svg { max-width: 100%; } }
"""


_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " form-action 'none'"
)
"""Nothing runs, and nothing is loaded from anywhere: whatever the text of a page says."""


def html_page(
    title: str,
    markdown: str,
    *,
    svgs: Mapping[str, str],
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """The page as one file: no script, and nothing that is read from elsewhere.

    Args:
        title: of the window.
        markdown: the page; its pictures are named `<name>.svg` and `<name>.jpg`.
        svgs: what the files `<name>.svg` hold.
        pictures: what the files `<name>.jpg` hold.
    """
    body = MarkdownIt("commonmark", {"html": False, "xhtmlOut": True}).enable("table")
    body.disable(["link", "autolink", "reference"])  # a page of ours has none, data may seem to
    body.add_render_rule("image", _figure, fmt="html")
    text = body.render(markdown, {"svgs": svgs, "pictures": pictures or {}})
    text = text.replace("<table>", '<div class="scroll"><table>').replace(
        "</table>", "</table></div>"
    )
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    for heading in headings:
        text = text.replace(f"<h2>{heading}</h2>", f'<h2 id="{_slug(heading)}">{heading}</h2>', 1)
    links = "\n".join(f'<li><a href="#{_slug(name)}">{name}</a></li>' for name in headings)
    contents = f'<nav aria-label="Contents"><ul>\n{links}\n</ul></nav>\n'
    text = text.replace("<h2 ", f"{contents}<h2 ", 1)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{html.escape(visible(title))}</title>\n<style>{_CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{text}</main>\n</body>\n</html>\n"
    )


def _figure(
    own: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: Mapping[str, Any]
) -> str:
    """A picture of the page as its figure; any other is shown as it was written."""
    said, address = tokens[place].content, str(tokens[place].attrs["src"])
    name, svgs = address.removesuffix(".svg"), env["svgs"]
    if (picture := env["pictures"].get(address.removesuffix(".jpg"))) and address.endswith(".jpg"):
        source = f"data:image/jpeg;base64,{b64encode(picture).decode('ascii')}"
        return f'<img class="photo" alt="{html.escape(said)}" src="{source}" />'
    if address == name or name not in svgs:
        return html.escape(f"![{said}]({address})")
    drawn = inline_svg(svgs[name], prefix=name)
    return f'<span class="figure" role="img" aria-label="{html.escape(said)}">{drawn}</span>'


def inline_svg(svg: str, *, prefix: str) -> str:
    """An SVG of matplotlib's as part of a page.

    Black becomes the colour of the page's text and white its paper, so that it reads in the dark;
    ids get a prefix, since two figures may share them.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    svg = svg.replace("xlink:href", "href")
    svg = svg.replace('id="', f'id="{prefix}-').replace('href="#', f'href="#{prefix}-')
    svg = svg.replace("url(#", f"url(#{prefix}-")
    svg = re.sub(r' (?:width|height)="[0-9.]+pt"', "", svg, count=2)
    svg = svg.replace("#000000", "currentColor").replace("fill: #ffffff", "fill: none")
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1).strip()


def _slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
