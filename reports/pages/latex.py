r"""Tables for a paper: LaTeX with booktabs, pure ASCII, and text from data that stays text.

Every engine typesets it with its usual fonts: accents are commands, and letters of other scripts
are shown as their code point.
"""

import re
import unicodedata
from collections.abc import Sequence

from core.storage.text import visible

# A bracket or a star at the beginning of a line would be an argument of the end of the one before.
_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    '"': r"{\char34}", "[": "{[}", "]": "{]}", "*": "{*}", "\u00a0": "~",
    "ß": r"{\ss}", "æ": r"{\ae}", "Æ": r"{\AE}", "œ": r"{\oe}", "Œ": r"{\OE}", "ø": r"{\o}",
    "Ø": r"{\O}", "ł": r"{\l}", "Ł": r"{\L}", "ı": r"{\i}", "–": r"{\textendash}",
    "—": r"{\textemdash}", "…": r"\ldots{}",
    "→": r"$\rightarrow$", "−": r"$-$", "×": r"$\times$", "±": r"$\pm$", "µ": r"$\mu$",
    "°": r"$^\circ$",
}  # fmt: skip

_ACCENTS = {
    "\u0300": r"\`", "\u0301": r"\'", "\u0302": r"\^", "\u0303": r"\~", "\u0304": r"\=",
    "\u0306": r"\u", "\u0307": r"\.", "\u0308": r"\"", "\u030a": r"\r", "\u030b": r"\H",
    "\u030c": r"\v", "\u0327": r"\c",
}  # fmt: skip


def tex(text: str) -> str:
    r"""The text as LaTeX shows it: no command, mathematics, comment, cell or argument in it.

    Example:
        >>> print(tex("a_1 & 50 % \\input{x} Röntgen 肺"))
        a\_1 \& 50 \% \textbackslash{}input\{x\} R\"{o}ntgen U+80BA
    """
    return re.sub(r"([-,'])(?=\1)", r"\1{}", "".join(map(_sign, visible(text))))  # no ligature


def _sign(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    if " " <= sign <= "~":
        return sign
    parts = unicodedata.normalize("NFD", sign)
    base, mark = parts[0], parts[1:]
    if mark in _ACCENTS and base.isascii() and base.isalpha():
        return f"{_ACCENTS[mark]}{{{base}}}"
    return f"U+{ord(sign):04X}"


def booktabs(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
    label: str,
    wraps: bool = False,
) -> str:
    """A table that floats, its first column to the left, the others to the right.

    Args:
        header: cells of the first line, LaTeX.
        rows: cells of the others, LaTeX: text goes through `tex`.
        caption: below it, LaTeX.
        label: to refer to it by.
        wraps: whether the first column is held to a quarter of the page, its text in lines.
    """
    first = r"p{0.27\linewidth}" if wraps else "l"
    lines = [" & ".join(cells) + r" \\" for cells in rows]
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"  \centering",
            r"  \footnotesize",
            r"  \setlength{\tabcolsep}{3pt}",
            rf"  \begin{{tabular}}{{{first}{'r' * (len(header) - 1)}}}",
            r"    \toprule",
            f"    {' & '.join(header)} " + r"\\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            rf"  \caption{{{caption}}}",
            rf"  \label{{{label}}}",
            r"\end{table}",
        ]
    )
