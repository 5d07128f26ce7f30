r"""Text that comes from data, shown as text and nothing else: on a terminal, in Markdown, in csv.

Ids, names, cells, paths and what other programs say of them may hold anything: signs that move a
terminal's cursor, marks that turn the direction of what follows, Markdown, formulas.
"""

import re

LONGEST_CELL = 131_072
"""Characters of a cell that Python's `csv` reads; more of them cannot be read again by it."""

_SHOWN_LENGTH = 200  # characters of a text from elsewhere, in a page or a message

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters, escape and the ends of lines among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks of direction
    "\u180e\u200b\u2028\u2029\u2060-\u2064\ufeff\ufff9-\ufffb"  # without width; ends of lines
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"  # no characters
    "\U000e0000-\U000e007f"  # tags, which are never seen
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17))
    + "]"
)

_LONE = re.compile("[\ud800-\udfff]")

_MARKS = re.compile(
    r"""[\\`*\[\]|~$]              # what Markdown, its tables and mathematics give a meaning
    | <(?=[A-Za-z/!?]) | &(?=[A-Za-z#])         # elements, addresses and entities of HTML
    | (?<![A-Za-z0-9])_ | _(?![A-Za-z0-9])      # emphasis, but never within a word
    | ^(?:[-+=#:>] | \d+(?=[.)](?:\s|$)))       # blocks, at the beginning
    | (?<=\s)\#(?=\#*\s*$)                       # the end of a heading
    | (?<=[A-Za-z]):(?=/) | (?<=\bwww)\. | @    # what readers make links of by themselves
    """,
    re.VERBOSE | re.IGNORECASE,
)

_INTERVAL = re.compile(r"[-+]?\d[\d,.]*( \[[-+\d,. ]+\])?(?<!\.)")
"""A number, with its interval: in brackets that mean nothing."""

_CODE = re.compile(r"[\w ./:+,=()-]+", re.ASCII)

_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")

_NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?( ?%)?", re.ASCII | re.IGNORECASE)


def visible(text: str) -> str:
    r"""The text on one line, with a code for each sign that is not seen but does something.

    Codes are those of Python's strings. Letters of any script stay, and so do the joiners that some
    scripts need.

    Example:
        >>> print(visible("a\x1b[31mb\n\u202ec"))
        a\x1b[31mb\n\u202ec
    """
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def brief(text: str, *, longest: int = _SHOWN_LENGTH) -> str:
    """The text as `visible` shows it, cut at the end where it is too long.

    Example:
        >>> brief("computed tomography", longest=10)
        'computed…'
    """
    head = visible(text[: longest + 1])
    return head if len(head) <= longest else f"{head[: longest - 1].rstrip()}…"


def plain(text: str) -> str:
    r"""Markdown that shows this text: no emphasis, link, picture, table, element or mathematics.

    It fits into a cell of a table, a line of a list and a paragraph.

    Example:
        >>> print(plain("a|b ![x](http://x.y/z) <b> C_1"))
        a\|b !\[x\](http\://x.y/z) \<b> C_1
    """
    if _INTERVAL.fullmatch(text):
        return text

    def escaped(found: re.Match[str]) -> str:
        return f"{found[0]}\\" if found[0][0].isdigit() else f"\\{found[0]}"

    return _MARKS.sub(escaped, visible(text).strip())


def code(text: str) -> str:
    """The text as Markdown's code where it is a plain name, else as `plain` shows it."""
    return f"`{text}`" if _CODE.fullmatch(text) else plain(text)


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe stands before what could be.

    Numbers stay as they are.

    Example:
        >>> harmless("=1+1"), harmless("-0.5"), harmless("CT")
        ("'=1+1", '-0.5', 'CT')
    """
    begins = _FORMULA.match(cell.lstrip(" ")) is not None
    return f"'{cell}" if begins and not _NUMBER.fullmatch(cell) else cell


def whole(text: str) -> str:
    r"""The text with a code for each half a character: a file's name need not be UTF-8.

    Example:
        >>> print(whole("a\udcff"))
        a\udcff
    """
    return _LONE.sub(lambda found: repr(found[0])[1:-1], text)


def unwritable(text: str) -> str:
    """Why no table can hold a text so that others read it again; "" if one can.

    Example:
        >>> unwritable("x" * 200_000)
        '200,000 characters in a cell; at most 131,072 can be read again'
    """
    if len(text) > LONGEST_CELL:
        return f"{len(text):,} characters in a cell; at most {LONGEST_CELL:,} can be read again"
    if found := _LONE.search(text):
        return f"half a character ({visible(found[0])}), which is not UTF-8"
    return ""
