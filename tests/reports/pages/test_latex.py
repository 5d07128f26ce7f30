"""Text from data in LaTeX: it stays text, and the tables are such as every engine takes."""

import re

import pytest

from reports.pages.latex import booktabs, tex


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50 % #1 $x$", r"a\_b \& 50 \% \#1 \$x\$"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("x~y^2", r"x\textasciitilde{}y\textasciicircum{}2"),
        ("[1] *", r"{[}1{]} {*}"),
        ("a--b ''", r"a-{}-b '{}'"),
        ("Röntgen, naïve, Å, ß", r"R\"{o}ntgen, na\"{i}ve, \r{A}, {\ss}"),
        ("肺 😀", "U+80BA U+1F600"),
        ("a\nb\x1b", r"a\textbackslash{}nb\textbackslash{}x1b"),
        ('<"|`>', r"\textless{}{\char34}\textbar{}\textasciigrave{}\textgreater{}"),
    ],
)
def test_text_means_nothing_to_latex(text: str, expected: str) -> None:
    assert tex(text) == expected


def test_no_text_can_leave_its_braces_or_its_line() -> None:
    everything = "".join(map(chr, range(0x250))) + "\u202e\u2028\ud800\U000e0041 ％＼"
    shown = tex(everything)
    assert shown.isascii()
    assert "\n" not in shown
    bare = re.sub(r"\\[\\{}$&#%_]", "", shown)
    assert bare.count("{") == bare.count("}")
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert not re.search(r"(?<!\\)[%&#_]", shown.replace(r"\textbackslash{}", ""))
    commands = set(re.findall(r"\\([A-Za-z]+)", shown))
    ours = {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater"}
    ours |= {"textbar", "textasciigrave", "char", "ss", "ae", "AE", "oe", "OE", "o", "O", "l", "L"}
    ours |= {"i", "u", "r", "H", "v", "c", "times", "pm", "mu", "circ"}
    assert commands <= ours


def test_a_table_has_its_rules_and_as_many_cells_as_columns() -> None:
    text = booktabs(["a", "b"], [["x", "1"], ["y", "2"]], caption="C", label="tab:c")
    assert text.splitlines()[3:12] == [
        r"  \setlength{\tabcolsep}{3pt}",
        r"  \begin{tabular}{lr}",
        r"    \toprule",
        r"    a & b \\",
        r"    \midrule",
        r"    x & 1 \\",
        r"    y & 2 \\",
        r"    \bottomrule",
        r"  \end{tabular}",
    ]
    assert r"p{0.27\linewidth}r" in booktabs(["a", "b"], [], caption="", label="x", wraps=True)
