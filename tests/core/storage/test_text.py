"""Text from data, shown as text: on a terminal, in Markdown, in csv."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from core.storage.text import LONGEST_CELL, brief, code, harmless, plain, unwritable, visible, whole

ANY = st.text(st.characters(codec=None, categories=None))
MARKED = st.text("[](){}<>!*_`#|~$&;:/\\\"'=+-.0123456789 \t\nwxhttps@\u202e\x1b", max_size=40)


@given(ANY)
@settings(max_examples=100, deadline=None)
@example("\x1b]0;title\x07\u202e\u2066\ufeff\u2028\x85\ud800")
def test_what_is_shown_is_one_line_without_commands_or_turned_text(text: str) -> None:
    shown = visible(text)
    assert shown.splitlines() in ([], [shown])
    assert not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(s) for s in shown} & {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    }
    shown.encode()  # it can be written


def test_what_is_seen_stays_as_it_is() -> None:
    text = "Röntgen μ 肺 نص می\u200cخواهم 👩\u200d⚕️ a=b {x} [y] \\"
    assert visible(text) == text


def test_a_text_from_elsewhere_is_cut() -> None:
    assert len(brief("x" * 10_000)) == 200
    assert brief("\x1b" * 10_000).startswith("\\x1b")
    assert brief("short") == "short"


PLACES = ("{}", "- {}", "# {}", "a {}", "{} b", "| h |\n| :-- |\n| {} |", "1. {}", "> {}")


@given(MARKED | ANY)
@settings(max_examples=100, deadline=None)
@example("![x](http://a.b/c.png)")
@example("[x]: http://a.b")
@example("<http://a.b> <script>alert(1)</script> &lt;b&gt; &#60;")
@example("http://a.b www.a.b a@b.c https://a.b")
@example("a|b\\|c")
@example("$x^2$ ~~y~~ **z** _z_ `z`")
@example("- x")
@example("2) x")
@example("a ##")
@example("===")
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    reader = MarkdownIt("js-default", {"html": True, "linkify": False, "typographer": False})
    for place in PLACES if visible(text).strip() else ():
        tokens = reader.parse(place.format(plain(text)))
        assert {t.type for t in tokens} == {t.type for t in reader.parse(place.format("x"))}
        inline = [part for token in tokens for part in token.children or ()]
        assert {part.type for part in inline} <= {"text", "text_special"}
        assert visible(text).strip() in "".join(part.content for part in inline)


def test_a_name_is_code_and_anything_else_is_not() -> None:
    assert code("global/quick-0a1b") == "`global/quick-0a1b`"
    assert code("a`b") == "a\\`b"


@pytest.mark.parametrize("cell", ["=1+1", "+A1", "-A1", "@SUM(1)", "\t=1", "\r=1", " =1", "＝1"])
def test_a_formula_is_made_harmless(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "-1", "+0.5", "-1e-05", "1,234", "-12.5 %", "CT", "a=b"])
def test_numbers_and_words_stay(cell: str) -> None:
    assert harmless(cell) == cell


def test_half_a_character_gets_a_code_and_is_refused() -> None:
    assert whole("a\udcff") == "a\\udcff"
    assert "half a character" in unwritable("a\ud800")
    assert not unwritable("x" * LONGEST_CELL)
    assert "131,073 characters" in unwritable("x" * (LONGEST_CELL + 1))
