"""Mistakes a user can mend, as one tree. The command line prints one line and exits with 2.

    ConceptError
    ├── ConfigError        a setting that does not exist or is out of range
    ├── CorpusError        files of a corpus: missing, contradictory, wrongly separated
    │   └── ImageError     one image that cannot be decoded
    │       └── HugeImageError  of more pixels than are allowed
    ├── LabelSpaceError    concepts that do not fit the label space
    ├── AlignmentError     rows that do not fit the images
    ├── PredictionsError   a predictions or embeddings folder that is not whole
    │   └── DamageError    a finished folder whose files are not those that were written
    ├── LeakageError       a model meets images that it was fitted on
    ├── MissingStageError  something an earlier command makes is not there
    ├── SubmissionError    a submission that the evaluator would refuse
    ├── BundleError        a bundle that is not whole, was changed, or is none
    └── ExportError        what was written for others does not say what was trained

Anything else that is raised is a bug and keeps its traceback.
"""

import errno
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 1000  # characters of a message: what a terminal shows without scrolling


def bounded(text: str, *, longest: int = _LONGEST) -> str:
    """A message, its middle left out where it is long: a file's name stands first, the cure last.

    Example:
        >>> bounded("a.toml: no setting 'xxxxxxxxxxxxxxxxxxxx'; remove it", longest=40)
        "a.toml: no setting 'xxx [...] remove it"
    """
    if len(text) <= longest:
        return text
    n_last = longest // 4
    return f"{text[: longest - n_last - 7]} [...] {text[-n_last:].lstrip()}"


def excerpt(value: object, *, longest: int = 80) -> str:
    """A value as a message shows it, cut short: what a file or a user gave may be of any size.

    Example:
        >>> excerpt("a" * 100, longest=10), excerpt(10**9999)
        ("'aaaaaa...", 'int too large to be shown')
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # of thousands of digits, or nested as deeply
        return f"{type(value).__name__} too large to be shown"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


class ConceptError(Exception):
    """Something the user can mend; its text is one line that says what, where and what to do."""

    def __str__(self) -> str:
        """The line; whatever it quotes, it is not too long to be read."""
        return bounded(super().__str__())


class ConfigError(ConceptError):
    """A setting that does not exist or is out of range."""


class CorpusError(ConceptError):
    """Files of a corpus that are missing, contradict each other or cannot be read."""


class ImageError(CorpusError):
    """An image that cannot be decoded."""


class HugeImageError(ImageError):
    """An image of more pixels than are allowed."""


class LabelSpaceError(ConceptError):
    """Concepts that do not fit a label space."""


class AlignmentError(ConceptError):
    """Rows that do not fit the images asked for."""


class PredictionsError(ConceptError):
    """Predictions or embeddings whose arrays, ids or files do not fit together."""


class DamageError(PredictionsError):
    """A finished folder whose files are not those that were written; its text names the cure."""


class LeakageError(ConceptError):
    """A model that would be judged, or built upon, on images it was fitted on."""


class MissingStageError(ConceptError):
    """Something that an earlier command makes is not there."""


class BundleError(ConceptError):
    """A bundle that is not whole, was changed, is of another format, or is none."""


class SubmissionError(ConceptError):
    """A submission that the edition's evaluator would refuse."""


class ExportError(ConceptError):
    """Files for others that cannot be written, or do not say what was trained."""


def repeated(names: Iterable[str]) -> list[str]:
    """The names that stand there a second time, once for each time more.

    Example:
        >>> repeated(["a", "b", "a"])
        ['a']
    """
    seen: set[str] = set()
    twice = []
    for name in names:
        if name in seen:
            twice.append(name)
        seen.add(name)
    return twice


def first_few(names: Iterable[str], *, n: int = 5) -> str:
    """The first names of many, for a message.

    Example:
        >>> first_few(["a", "b", "c"], n=2)
        "['a', 'b', ...]"
    """
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:n])
    return f"[{shown}, ...]" if len(names) > n else f"[{shown}]"


def as_typed(command: str, *, workspace: Path | None = None) -> str:
    """A command as this user types it: by the installed program, or in a checkout.

    Args:
        command: its words.
        workspace: that it works on; None where the command says it, or has none.

    Example:
        >>> as_typed("prepare SOURCE")
        'python cli.py prepare SOURCE'
        >>> as_typed("prepare SOURCE", workspace=Path("my runs"))
        "python cli.py prepare SOURCE -w 'my runs'"
    """
    installed = __name__.startswith("radfuse.")
    place = "" if workspace is None else f" -w {shlex.quote(str(workspace))}"
    return f"radfuse {command}{place}" if installed else f"python cli.py {command}{place}"


_typed: list[str] = []


@contextmanager
def typed(words: Iterable[str]) -> Iterator[None]:
    """Note the words of the command that runs, for what is made in the block."""
    before, _typed[:] = list(_typed), words
    try:
        yield
    finally:
        _typed[:] = before


def typed_words() -> tuple[str, ...]:
    """Words of the command that runs, as they were typed; () where none does."""
    return tuple(_typed)


_REFUSALS = (
    *("can't allocate memory", "not enough memory", "bad_alloc", "Cannot allocate memory"),
    *("could not create a primitive", "could not create a memory"),  # oneDNN, for its scratch
    # cuDNN and cuBLAS. Where the first is refused its scratch memory for every algorithm, torch
    # only says that it found none.
    *("unable to find an engine to execute this computation", "STATUS_ALLOC_FAILED"),
    "CUDA error: out of memory",  # what torch's own allocator does not ask for
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the system, a device, a library or an allocator had no memory left.

    Told by name and words: torch, which raises most of them, need not be loaded for it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _REFUSALS)


def first_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
