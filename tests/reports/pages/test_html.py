"""One HTML file from Markdown and figures."""

from reports.pages.html import html_page, inline_svg

SVG = """<?xml version="1.0"?>
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="10pt" height="5.5pt" viewBox="0 0 10 5"
 xmlns="http://www.w3.org/2000/svg">
 <metadata><a href="http://else.where"/></metadata>
 <path id="p" style="fill: #ffffff; stroke: #000000"/>
 <use xlink:href="#p" clip-path="url(#c)"/>
</svg>
"""


def test_a_figure_takes_the_colours_of_the_page_and_names_of_its_own() -> None:
    svg = inline_svg(SVG, prefix="one")
    assert svg.startswith("<svg ")
    assert 'id="one-p" style="fill: none; stroke: currentColor"' in svg
    assert 'href="#one-p" clip-path="url(#one-c)"' in svg
    assert "xlink" not in svg
    assert "else.where" not in svg
    assert "pt" not in svg.partition("viewBox")[0]


def test_a_page_has_contents_tables_that_scroll_and_figures_with_their_caption() -> None:
    text = '# T\n\n## A & b\n\n![say "it"](one.svg)\n\n| a | b |\n| :- | -: |\n| 1 | <2> |\n'
    page = html_page("T & T", text, svgs={"one": SVG})
    assert "<title>T &amp; T</title>" in page
    assert '<a href="#a-amp-b">A &amp; b</a>' in page
    assert '<h2 id="a-amp-b">A &amp; b</h2>' in page
    assert page.index("<nav") < page.index("<h2 ")
    assert 'aria-label="say &quot;it&quot;"><svg ' in page
    assert page.count('<div class="scroll"><table>') == page.count("</table></div>") == 1
    assert "&lt;2&gt;" in page  # no HTML of a concept's name gets through
