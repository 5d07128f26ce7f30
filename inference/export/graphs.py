"""A detector as one ONNX graph, from pixels to probabilities, written and held against torch."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from core.errors import ConfigError, ExportError
from inference.export.detectors import PlainDetector
from inference.loaded.block import ImageBlock
from inference.loaded.networks import Look

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What writing and checking a graph takes; running one takes the last alone."""

OUTPUT = "probabilities"
TOLERANCE = 1e-4
"""How far a probability may lie from that of torch."""

_FEATURES = "features"
_LARGEST = 1_800_000_000  # bytes of weights within a graph; protobuf ends at 2 GB
_EXAMPLES = 2  # torch takes an axis of a single image for a fixed one


def mean_over_mirrors(network: nn.Module, images: Tensor, *, mirror: bool) -> Tensor:
    """What a network gives of (n, 3, S, S) images, or the mean over them and their mirrors."""
    if not mirror:
        given: Tensor = network(images)
        return given
    both: Tensor = network(torch.cat([images, images.flip(3)]))
    n = images.shape[0]  # a number of images that stays open; len() would fix it
    return (both[:n] + both[n:]) / 2


class FeatureGraph(nn.Module):
    """The networks that give a detector's features, one in place of those that are equal."""

    def __init__(self, detector: PlainDetector) -> None:
        """Copy them: what they are copied from stays as it is."""
        super().__init__()
        kept: list[nn.Module] = []
        for network in _contiguous(detector.networks):
            kept.append(next((other for other in kept if _equal(other, network)), network))
        self.networks = nn.ModuleList(kept)
        self.inputs = [detector.looks.index(look) for look in detector.look_of_each]
        self.mirror = detector.mirror

    def forward(self, *images: Tensor) -> Tensor:
        """(n, D) features of uint8 images (n, S, S, 3), a tensor a size."""
        upright = [batch.permute(0, 3, 1, 2) for batch in images]
        pairs = zip(self.networks, self.inputs, strict=True)
        parts = [mean_over_mirrors(net, upright[at], mirror=self.mirror) for net, at in pairs]
        return torch.cat(parts, dim=1)


class HeadGraph(nn.Module):
    """The heads of a detector on features, the mean over them included."""

    def __init__(self, detector: PlainDetector) -> None:
        """Copy them: what they are copied from stays as it is."""
        super().__init__()
        self.heads = _contiguous(detector.heads)

    def forward(self, features: Tensor) -> Tensor:
        """(n, L) probabilities of (n, D) features."""
        return _mean([torch.sigmoid(head(features)) for head in self.heads])


class FineTunedGraph(nn.Module):
    """All of a fine-tuned detector, the mean over its networks and mirrors included."""

    def __init__(self, detector: PlainDetector) -> None:
        """Copy the networks: what they are copied from stays as it is."""
        super().__init__()
        self.networks = nn.ModuleList(
            [nn.Sequential(network, nn.Sigmoid()) for network in _contiguous(detector.heads)]
        )
        self.mirror = detector.mirror

    def forward(self, images: Tensor) -> Tensor:
        """(n, L) probabilities of uint8 images (n, S, S, 3)."""
        upright = images.permute(0, 3, 1, 2)
        return _mean([mean_over_mirrors(n, upright, mirror=self.mirror) for n in self.networks])


def _mean(probs: list[Tensor]) -> Tensor:
    return (torch.stack(probs).sum(dim=0) / len(probs)).clamp(0, 1)


def _contiguous(networks: Sequence[nn.Module]) -> nn.ModuleList:
    copied = nn.ModuleList(copy.deepcopy(list(networks)))
    return copied.to(memory_format=torch.contiguous_format).eval()


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
            f"--onnx takes {', '.join(missing)}, not installed here: run `pip install"
            f" {' '.join(missing)}` (radfuse[export]) first"
        )


def input_name(look: Look) -> str:
    """What the input of images is called that are so decoded.

    Example:
        >>> input_name((224, "bilinear")), input_name((518, "bicubic"))
        ('images_224', 'images_518_bicubic')
    """
    size, scaling = look
    return f"images_{size}" if scaling == "bilinear" else f"images_{size}_{scaling}"


class GraphWriter:
    """Writes detectors as ONNX graphs; the part that several share is exported once.

    Inputs are uint8 images (n, S, S, 3), RGB, one a size and filter; the output `probabilities` is
    (n, L).
    """

    def __init__(self, *, opset: int | None = None) -> None:
        """Write graphs of an opset; None for the exporter's own.

        Raises:
            ConfigError: the installed onnx knows no such opset.
        """
        import onnx

        newest = onnx.defs.onnx_opset_version()
        if opset is not None and not 1 <= opset <= newest:
            raise ConfigError(f"--opset {opset}: the installed onnx knows those up to {newest}")
        self.opset = opset
        self._features: dict[tuple[str, ...], Any] = {}

    def write(self, path: Path, detector: PlainDetector, *, properties: Mapping[str, str]) -> int:
        """Write one; of more than 1.8 GB its weights lie beside it.

        Args:
            path: the file.
            detector: in float32, on the processor.
            properties: metadata of the graph.

        Returns:
            The opset that was written.

        Raises:
            ExportError: torch cannot write the network, or not in this opset.
        """
        import onnx

        names = detector.detector.features
        if names and names not in self._features:
            graph = FeatureGraph(detector)
            self._features[names] = self._exported(
                graph, _images(detector), detector, inputs=_names(detector), output=_FEATURES
            )
        if names:
            example = torch.zeros(_EXAMPLES, detector.n_features)
            head = self._exported(
                HeadGraph(detector), (example,), detector, inputs=[_FEATURES], output=OUTPUT
            )
            model = _joined(self._features[names], head)
        else:
            model = self._exported(
                FineTunedGraph(detector),
                _images(detector),
                detector,
                inputs=_names(detector),
                output=OUTPUT,
            )
        opsets = {entry.domain: int(entry.version) for entry in model.opset_import}
        del model.opset_import[:]  # merging leaves each twice
        model.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in opsets.items())
        model.graph.name, model.producer_name = "detector", "radfuse"
        onnx.helper.set_model_props(model, dict(properties))
        large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > _LARGEST
        beside = f"{path.name}.data" if large else None
        onnx.save_model(model, str(path), save_as_external_data=large, location=beside)
        return opsets[""]

    def _exported(
        self,
        graph: nn.Module,
        examples: tuple[Tensor, ...],
        detector: PlainDetector,
        *,
        inputs: list[str],
        output: str,
    ) -> Any:
        """A module as a graph whose first axis is free, without the exporter's notes."""
        batch = torch.export.Dim("batch")
        shapes: tuple[Any, ...] = tuple({0: batch} for _ in examples)
        with _silence(), torch.inference_mode():
            try:
                program = torch.onnx.export(
                    graph.eval(),
                    examples,
                    dynamo=True,
                    input_names=inputs,
                    output_names=[output],
                    dynamic_shapes=(shapes,) if isinstance(graph, FeatureGraph) else shapes,
                    opset_version=self.opset,
                    verbose=False,
                )
            except Exception as error:  # noqa: BLE001 - a network's own code is traced
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise ExportError(
                    f"detector {detector.name}: torch cannot write it as ONNX ({reason})"
                ) from None
        assert program is not None
        written = program.model.opset_imports[""]
        if self.opset is not None and written != self.opset:
            raise ExportError(f"--opset {self.opset}: torch cannot write it, only {written}")
        _clean(program.model)
        return program.model_proto


def _joined(features: Any, head: Any) -> Any:
    """The graph of features with that of a head behind it."""
    import onnx

    # Whole: before 1.19 onnx renames inputs and outputs together with what lies between them.
    head = onnx.compose.add_prefix(head, "head.")
    (start,), (end,) = head.graph.input, head.graph.output
    prefixed = end.name
    model = onnx.compose.merge_models(features, head, io_map=[(_FEATURES, start.name)])
    model.graph.output[0].name = OUTPUT
    for node in model.graph.node:
        node.output[:] = [OUTPUT if name == prefixed else name for name in node.output]
    return model


def _images(detector: PlainDetector) -> tuple[Tensor, ...]:
    sizes = [size for size, _ in detector.looks]
    return tuple(torch.zeros(_EXAMPLES, size, size, 3, dtype=torch.uint8) for size in sizes)


def _names(detector: PlainDetector) -> list[str]:
    return [input_name(look) for look in detector.looks]


def _clean(model: Any) -> None:
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


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what the exporter warns of, logs and prints off the terminal: it is checked."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(StringIO()):  # torch 2.7 prints
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def check_graph(path: Path, detector: PlainDetector, *, block: ImageBlock) -> float:
    """The largest difference of a probability between the graph and torch.

    All images are asked at once, and the first alone.

    Args:
        path: of the graph.
        detector: that it was written from.
        block: of `inference.export.detectors.block_of`.

    Raises:
        ExportError: the file is no valid graph, onnxruntime cannot run it, or it differs by more
            than `TOLERANCE`.
    """
    import onnx
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    pixels = [block.pixels[look] for look in detector.looks]
    try:
        onnx.checker.check_model(str(path), full_check=True)
        session = open_session(path)
        given = [run_graph(session, pixels), run_graph(session, [own[:1] for own in pixels])]
    except (
        *(onnx.checker.ValidationError, onnx.shape_inference.InferenceError),
        *(runtime.Fail, runtime.InvalidGraph, runtime.InvalidArgument),
        *(runtime.NotImplemented, runtime.RuntimeException),
    ) as error:
        raise ExportError(
            f"detector {detector.name}: its graph does not run in onnxruntime"
            f" ({str(error).strip().splitlines()[0]})"
        ) from None
    expected = detector.probabilities(block)
    difference = np.abs(np.concatenate(given) - np.concatenate([expected, expected[:1]]))
    largest = float(difference.max())
    if not largest <= TOLERANCE:  # NaN is refused as well
        raise ExportError(
            f"detector {detector.name}: its graph differs from torch by {largest:.2g} in a"
            f" probability, more than {TOLERANCE:g}"
        )
    return largest


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


def run_graph(session: Any, pixels: Sequence[Pixels]) -> Floats:
    """(n, L) probabilities of (n, S, S, 3) images, an array an input."""
    names = [entry.name for entry in session.get_inputs()]
    fed = dict(zip(names, pixels, strict=True))
    found: Floats = session.run([OUTPUT], fed)[0]
    return found
