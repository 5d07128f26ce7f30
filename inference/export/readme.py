"""What stands beside graphs: how they are run, in words and in ten lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.runs.detectors import GLOBAL
from core.storage.text import brief, code, plain
from inference.export.detectors import PlainDetector

NOTICE = (
    "Research software, not a medical device: not for diagnosis, treatment or any decision about"
    " a patient."
)

EXAMPLE = """\
import csv, sys
import numpy as np, onnxruntime
from PIL import Image

folder, path = sys.argv[1:]  # global scan.jpg
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
images = {}
for entry in session.get_inputs():
    size = entry.shape[1]
    image = Image.open(path)
    scaling = (entry.name.split("_") + ["bilinear"])[2]  # images_224_bicubic
    if least := {"bilinear": size, "bicubic": 2 * size}.get(scaling):
        image.draft("RGB", (least, least))  # a JPEG is scaled down as it is decoded, as in training
    square = image.convert("RGB")
    if scaling == "gaussian":  # as TorchXRayVision does
        from skimage.transform import resize  # pip install scikit-image

        levels = resize(np.asarray(square) - 127.5, (size, size), mode="constant") + 127.5
        square = np.rint(levels).clip(0, 255).astype(np.uint8)
    else:
        square = square.resize((size, size), Image.Resampling[scaling.upper()])
    images[entry.name] = np.asarray(square)[None]
probabilities = session.run(["probabilities"], images)[0][0]
concepts = list(csv.DictReader(open(f"{folder}/labels.csv", encoding="utf-8")))
for column in np.argsort(-probabilities)[:10]:
    print(f"{probabilities[column]:.3f}", concepts[column]["CUI"], concepts[column]["name"])
"""


@dataclass(frozen=True, kw_only=True)
class WrittenGraph:
    """A detector that was written and checked.

    Attributes:
        detector: what was written.
        opset: of the graph.
        difference: the largest of a probability to torch.
        n_bytes: of its files.
        weights: where its networks started, and under which licence.
    """

    detector: PlainDetector
    opset: int
    difference: float
    n_bytes: int
    weights: str

    @property
    def name(self) -> str:
        """Of the detector, and of its folder."""
        return self.detector.name


def readme_of(graphs: Sequence[WrittenGraph], *, version: str, corpus: str, checked_on: str) -> str:
    """The page that is written beside graphs.

    Args:
        graphs: what lies beside it.
        version: of radfuse.
        corpus: fingerprint of the corpus that was learnt from; "" where it is not known.
        checked_on: the images on which graphs and torch were compared, in words.
    """
    rows = [
        f"| {code(g.name)} | {_asked_of(g)} | {len(g.detector.labels)} | {_looks(g)} |"
        f" {len(g.detector.heads)}{', mirrored' if g.detector.mirror else ''} |"
        f" {g.n_bytes / 1e6:.0f} | {g.difference:.1e} |"
        for g in graphs
    ]
    weights = [f"- {code(g.name)}: {plain(brief(g.weights))}" for g in graphs]
    known = f" of corpus {plain(corpus)}" if corpus else ""
    return "\n".join(
        [
            "# Concept detectors",
            "",
            f"{NOTICE}",
            "",
            f"Detectors{known} as ONNX graphs, written by radfuse {version}. A folder holds one:"
            " `model.onnx`, and `labels.csv` with the concept (CUI, name) of each column.",
            "",
            "| folder | for images of | concepts | images | networks | MB | largest difference |",
            "| :-- | :-- | --: | :-- | :-- | --: | --: |",
            *rows,
            "",
            "The last column is the largest difference of a probability between onnxruntime and"
            f" torch, on {checked_on}.",
            "",
            "## To run one",
            "",
            "    pip install onnxruntime numpy pillow",
            "",
            "```python",
            f"{EXAMPLE}```",
            "",
            "Inputs are `images_<S>`, uint8 (n, S, S, 3), RGB, one a size: the same images at each,"
            " scaled from the file; `images_<S>_<filter>` where that is not the bilinear one. Any"
            " number n goes. Normalisation, mirrors and the mean over the networks lie within the"
            " graph. The output `probabilities` is float32 (n, L), in [0, 1], a column a concept."
            " Metadata of the graph (`get_modelmeta()`) name category, concepts, corpus, scaling"
            " and the weights' licence.",
            "",
            "## Pixels",
            "",
            "Images are scaled to a square without cropping or keeping their proportions, by"
            " Pillow's bilinear filter (where the table says `bicubic` or `nearest`: by that one;"
            " `gaussian`: by scikit-image). The line with `draft` lets the JPEG decoder scale large"
            " files down first, as in training: to no less than the size, twice the size for"
            " `bicubic`, else not at all. With it the example's pixels are those of"
            " radfuse within one grey level; that moved a probability by 0.001 in the mean of the"
            " most moved of each image, 0.03 at most (200 radiology images, EfficientNet-Lite0 at"
            " 224 and 320 px)."
            " Without it, files of 1,280 px moved by 0.024 in that mean and by 0.11 at most.",
            "",
            "The example takes plain grey and RGB files of 8 bits. Values of more bits, DICOM,"
            " transparency and turned images (EXIF) are shown by radfuse through windows and rules"
            " of its own: decode those with it, or bring them to upright 8-bit RGB first.",
            "",
            "## What this is not",
            "",
            "A detector is one source among several of the ensemble. Its probabilities are not"
            " calibrated, no threshold is applied, and the image's category, similar training"
            " images and the decision rule are not heard. A specialist answers for any image, and"
            " means something for those of its category alone.",
            "",
            "## External resources",
            "",
            "What the networks started from, beside the images that they learnt from:",
            "",
            *weights,
            "",
        ]
    )


def _asked_of(graph: WrittenGraph) -> str:
    category = graph.detector.category
    return "every category" if category == GLOBAL else category


def _looks(graph: WrittenGraph) -> str:
    return ", ".join(f"{size} px {resample}" for size, resample in graph.detector.looks)
