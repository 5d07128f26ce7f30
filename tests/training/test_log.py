"""What is seen of a training."""

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.log import watched


def epoch(number: int, *, seconds: float = 1.0) -> dict[str, Any]:
    return {
        "epoch": number, "loss": 0.5 / number, "stop_loss": 0.6, "f1": 0.25 * number, "rate": 1e-3,
        "lowest_rate": 1e-4, "f1_by_category": {"DRCT": 0.1 * number, "DRXR": 0.3},
        "seconds": seconds, "images_per_s": 40.0,
    }  # fmt: skip


def test_each_entry_is_a_line_as_it_comes(tmp_path: Path) -> None:
    with watched(tmp_path, "DRCT", n_images=10, writes=True, tensorboard=None) as training_log:
        for number in (1, 2):
            training_log.watch.log(epoch(number))
            lines = (tmp_path / "log.jsonl").read_text().splitlines()
            assert [json.loads(line)["epoch"] for line in lines] == list(range(1, number + 1))
    assert training_log.seconds == 2.0


def test_a_training_that_goes_on_tells_its_epochs_again(tmp_path: Path) -> None:
    for _ in range(2):
        with watched(tmp_path, "DRCT", n_images=10, writes=True, tensorboard=None) as training_log:
            training_log.watch.log(epoch(1))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_other_processes_than_the_first_write_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    with watched(tmp_path, "DRCT", n_images=10, writes=False, tensorboard=folder) as training_log:
        training_log.watch.log(epoch(1))
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_long_epochs_are_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with watched(tmp_path, "DRCT", n_images=10, writes=True, tensorboard=None) as training_log:
        training_log.watch.log(epoch(1, seconds=19.0))
        training_log.watch.log({"epoch": 2, "event": "out of memory", "micro_batch": 8})
        training_log.watch.log(epoch(2, seconds=21.0))
    assert capsys.readouterr().err == "DRCT: epoch 2: loss 0.25, F1 0.500, 40.0 images/s\n"


def test_tensorboard_shows_losses_rates_and_f1_by_category(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard" / "0"
    for _ in range(2):  # one that goes on begins the file anew
        with watched(
            tmp_path, "DRCT", n_images=10, writes=True, tensorboard=folder
        ) as training_log:
            training_log.watch.log(epoch(1))
            training_log.watch.log(epoch(2))
    events = EventAccumulator(str(folder)).Reload()
    names = {"loss", "stop_loss", "f1", "rate", "lowest_rate", "images_per_s"}
    assert set(events.Tags()["scalars"]) == {
        *names, "f1 by category/DRCT", "f1 by category/DRXR"
    }  # fmt: skip
    loss = [(event.step, event.value) for event in events.Scalars("loss")]
    assert loss == [(1, 0.5), (2, 0.25)]
    assert [e.value for e in events.Scalars("f1 by category/DRCT")] == pytest.approx([0.1, 0.2])
