"""What the sections of the GPU benchmark find: one line each, written as soon as it is known."""

import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

Verdict = Literal["ok", "failed", "skipped", "measured"]

MARK = "FINDING "
"""What a line of a section's output begins with that holds a finding."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of the table.

    Attributes:
        what: that was looked at.
        verdict: `ok` or `failed` where something was wanted, `measured` where nothing was,
            `skipped` where it could not be looked at.
        result: for a reader; the reason of what was skipped or failed.
        wanted: the tolerance or aim, for a reader.
        seconds: that it took.
        values: numbers behind the result.
    """

    what: str
    verdict: Verdict
    result: str
    wanted: str = ""
    seconds: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a check gives.

    Attributes:
        ok: whether it is as wanted; None where nothing is wanted.
        result: for a reader.
        values: numbers behind it.
    """

    ok: bool | None
    result: str
    values: dict[str, Any] = field(default_factory=dict)


class SkippedError(Exception):
    """The check cannot be made here; the message says why."""


def check(
    what: str,
    measure: Callable[[], Outcome],
    *,
    wanted: str = "",
    needs: tuple[str, ...] = (),
) -> None:
    """Make a check and print what it found; one that breaks does not end the others.

    Args:
        what: that is looked at.
        measure: the check.
        wanted: the tolerance or aim, for a reader.
        needs: packages without which it is skipped.
    """
    print(f"{what} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    verdict: Verdict
    values: dict[str, Any] = {}
    try:
        if lacking := [name for name in needs if find_spec(name) is None]:
            raise SkippedError(f"not installed: {', '.join(lacking)}")
        outcome = measure()
    except SkippedError as reason:
        verdict, result = "skipped", str(reason)
    except Exception as error:  # noqa: BLE001 - whatever breaks here is a finding
        traceback.print_exc()
        text = next(iter(str(error).splitlines()), "")
        verdict, result = "failed", f"{type(error).__name__}: {text}"[:300]
    else:
        verdict = "measured" if outcome.ok is None else "ok" if outcome.ok else "failed"
        result, values = outcome.result, outcome.values
    finding = Finding(
        what=what,
        verdict=verdict,
        result=result,
        wanted=wanted,
        seconds=round(time.perf_counter() - began, 2),
        values=values,
    )
    print(MARK + json.dumps(asdict(finding)), flush=True)
