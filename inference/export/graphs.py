"""A detector as one ONNX graph, from pixels to probabilities, written and held against torch."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from core.errors import ConfigError, ExportError
from inference.export.detectors import PlainDetector
from inference.loaded.networks import Look

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What writing and checking a graph takes; running one takes the last alone."""

OUTPUT = "probabilities"
TOLERANCE = 1e-4
"""How far a probability may lie from that of torch."""

_LARGEST = 1_800_000_000  # bytes of weights within a graph; protobuf ends at 2 GB
_EXAMPLES = 2  # torch takes an axis of a single image for a fixed one


class DetectorGraph(nn.Module):
    """All of a detector, the mean over its networks and mirrors included."""

    def __init__(self, detector: PlainDetector) -> None:
        """Copy the networks of a detector; what they are copied from stays as it is."""
        super().__init__()
        own = copy.deepcopy(
            nn.ModuleList([nn.ModuleList(detector.networks), nn.ModuleList(detector.heads)])
        ).to(memory_format=torch.contiguous_format)
        networks, heads = own
        assert isinstance(networks, nn.ModuleList)
        assert isinstance(heads, nn.ModuleList)
        self.networks, self.heads = _shared(networks), heads
        self.inputs = [detector.looks.index(look) for look in detector.look_of_each]
        self.mirror = detector.mirror

    def forward(self, *images: Tensor) -> Tensor:
        """(n, L) probabilities of uint8 images (n, S, S, 3), a tensor a size."""
        upright = [batch.permute(0, 3, 1, 2) for batch in images]
        if len(self.networks):
            features = torch.cat(
                [
                    self._mean(network, upright[number])
                    for network, number in zip(self.networks, self.inputs, strict=True)
                ],
                dim=1,
            )
            probs = [torch.sigmoid(head(features)) for head in self.heads]
        else:
            probs = [
                self._mean(nn.Sequential(network, nn.Sigmoid()), upright[0])
                for network in self.heads
            ]
        return (torch.stack(probs).sum(dim=0) / len(probs)).clamp(0, 1)

    def _mean(self, network: nn.Module, images: Tensor) -> Tensor:
        """What a network gives, or the mean over images and mirrors."""
        given: Tensor = network(images)
        return (given + network(images.flip(3))) / 2 if self.mirror else given


def _shared(networks: nn.ModuleList) -> nn.ModuleList:
    """The networks, one in place of those that are equal: its weights are written once."""
    kept: list[nn.Module] = []
    for network in networks:
        kept.append(next((other for other in kept if _equal(other, network)), network))
    return nn.ModuleList(kept)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    if repr(one) != repr(other):
        return False
    ours, theirs = (
        {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for network in (one, other)
    )
    return ours.keys() == theirs.keys() and all(
        torch.equal(tensor, theirs[name]) for name, tensor in ours.items()
    )


def need_packages() -> None:
    """Refuse before any work where a package is missing.

    Raises:
        ConfigError: one is; the command that installs it is named.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(
            f"--onnx: {', '.join(missing)} not installed: run `pip install {' '.join(missing)}`"
            " (or 'radfuse[export]') first"
        )


def input_name(size: int) -> str:
    """What the input of images of a size is called."""
    return f"images_{size}"


def write_graph(
    path: Path, detector: PlainDetector, *, opset: int | None, properties: Mapping[str, str]
) -> int:
    """Write a detector as an ONNX graph; of more than 1.8 GB its weights lie beside it.

    Inputs are uint8 images (n, S, S, 3), RGB, one a size; the output `probabilities` is (n, L).

    Args:
        path: the file.
        detector: in float32, on the processor.
        opset: of the graph; None for the exporter's own.
        properties: metadata of the graph.

    Returns:
        The opset that was written.

    Raises:
        ExportError: torch cannot write the network, or not in this opset.
    """
    graph = DetectorGraph(detector).eval()
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in detector.looks)
    examples = tuple(
        torch.zeros(_EXAMPLES, size, size, 3, dtype=torch.uint8) for size, _ in detector.looks
    )
    with _silence(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                graph,
                examples,
                dynamo=True,
                input_names=[input_name(size) for size, _ in detector.looks],
                output_names=[OUTPUT],
                dynamic_shapes=(shapes,),
                opset_version=opset,
                verbose=False,
            )
        except RuntimeError as error:  # the exporter's own errors are among them
            raise ExportError(
                f"detector {detector.name}: torch cannot write it as ONNX"
                f" ({str(error).strip().splitlines()[0]})"
            ) from None
        assert program is not None
        _clean(program.model, properties)
        n_bytes = sum(tensor.nbytes for tensor in graph.state_dict().values())
        program.save(path, external_data=n_bytes > _LARGEST)
    written: int = program.model.opset_imports[""]
    if opset is not None and written != opset:
        raise ExportError(f"--opset {opset}: torch cannot write it, only {written}")
    return written


def _clean(model: Any, properties: Mapping[str, str]) -> None:
    """Leave the exporter's notes out, the paths of this machine's files among them."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props.update(properties)
    model.graph.name, model.producer_name = "detector", "radfuse"


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what the exporter warns of and logs off the terminal: what it made is checked."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def check_graph(
    path: Path, detector: PlainDetector, *, pixels: Sequence[Mapping[Look, Pixels]]
) -> float:
    """The largest difference of a probability between the graph and torch.

    All images are asked at once, and the first alone.

    Args:
        path: of the graph.
        detector: that it was written from.
        pixels: (S, S, 3) of each image by its look.

    Raises:
        ExportError: the file is no valid graph, onnxruntime cannot run it, or it differs by more
            than `TOLERANCE`.
    """
    import onnx
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    refused = (
        *(runtime.Fail, runtime.InvalidGraph, runtime.InvalidArgument),
        *(runtime.NotImplemented, runtime.RuntimeException),
    )
    try:
        onnx.checker.check_model(str(path), full_check=True)
        session = open_session(path)
        given = np.concatenate([_run(session, detector, some) for some in (pixels, pixels[:1])])
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, *refused) as error:
        raise ExportError(
            f"detector {detector.name}: its graph does not run in onnxruntime"
            f" ({str(error).strip().splitlines()[0]})"
        ) from None
    expected = detector.probabilities(pixels)
    difference = float(np.abs(given - np.concatenate([expected, expected[:1]])).max())
    if not difference <= TOLERANCE:  # NaN is refused as well
        raise ExportError(
            f"detector {detector.name}: its graph differs from torch by {difference:.2g} in a"
            f" probability, more than {TOLERANCE:g}"
        )
    return difference


def open_session(path: Path, *, n_threads: int = 0) -> Any:
    """A graph on the processor.

    Args:
        path: of the graph.
        n_threads: 0 for as many as onnxruntime takes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = n_threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_graph(session: Any, pixels: Mapping[Look, Pixels]) -> Floats:
    """(n, L) probabilities of (n, S, S, 3) images by their look."""
    fed = {input_name(size): images for (size, _), images in pixels.items()}
    found: Floats = session.run([OUTPUT], fed)[0]
    return found


def _run(session: Any, detector: PlainDetector, images: Sequence[Mapping[Look, Pixels]]) -> Floats:
    stacked = {look: np.stack([image[look] for image in images]) for look in detector.looks}
    return run_graph(session, stacked)
