import numpy as np
import numpy.typing as npt

from ensembles.compiled import compiled


@compiled
def _running_sum(values: npt.NDArray[np.float64]) -> float:
    """The last of the running sums."""
    total = 0.0
    for value in values:
        total += value
    return total


def test_a_compiled_function_gives_what_it_gave_before() -> None:
    assert _running_sum(np.array([1.0, 2.0, 3.5])) == 6.5


def test_a_compiled_function_keeps_its_name_and_docstring() -> None:
    assert _running_sum.__name__ == "_running_sum"
    assert _running_sum.__doc__ == "The last of the running sums."
