"""The body of `export --onnx`: a folder of graphs that onnxruntime alone can run."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.networks.carriers import file_sha256
from core.errors import ExportError, ImageError, MissingStageError
from core.labels import LabelSpace
from core.progress import progress, say
from core.runs.workspace import Workspace
from core.storage.drafts import draft_folder, replace_folder
from core.storage.folders import write_json
from core.storage.tables import write_rows
from inference.bundle.write import version_of_radfuse
from inference.export.detectors import block_of, detectors_of, weights_of
from inference.export.graphs import GraphWriter, check_graph, need_packages
from inference.export.readme import NOTICE, WrittenGraph, readme_of
from inference.images import NewImage
from inference.loaded.ensemble import LoadedEnsemble
from inference.place import EnsemblePlace
from inference.stream import Pixels, decoded
from training.devices.speed import drawn_images

GRAPH, LABELS, EXPORT, README = "model.onnx", "labels.csv", "export.json", "README.md"

_N_CHECKED = 16  # images on which a graph and torch are compared


def export_onnx(folder: Path, place: EnsemblePlace, *, opset: int | None = None) -> Path:
    """Write the detectors of an ensemble as ONNX graphs, each held against torch.

    Args:
        folder: to be made; an older export there is replaced, when all is written and checked.
        place: of the ensemble.
        opset: of the graphs; None for the exporter's own.

    Returns:
        The folder.

    Raises:
        ConfigError: a package is missing, or no such opset is known.
        ExportError: something else lies in the folder; or a graph cannot be written, is not valid,
            or differs from torch: then nothing is left behind.
        MissingStageError: the ensemble asks no detector.
        ConceptError: of what is read: see `EnsemblePlace.read`.
    """
    need_packages()
    writer = GraphWriter(opset=opset)
    folder = folder.absolute()
    refuse_foreign(folder, marks=(EXPORT,))
    ensemble = place.read("cpu")
    detectors = detectors_of(ensemble)
    if not detectors:
        raise MissingStageError("--onnx: no member of the ensemble is a detector, or made of one")
    pixels, checked_on = _images(place, ensemble)
    block = block_of(detectors, pixels)
    version, corpus = version_of_radfuse(), _fingerprint(place)
    graphs = []
    with (
        draft_folder(folder) as draft,
        progress("writing graphs", total=len(detectors), unit="detectors") as advance,
    ):
        for detector in detectors:
            home = draft / detector.name
            home.mkdir()
            weights = weights_of(detector)
            properties = {
                "radfuse_version": version,
                "corpus": corpus,
                "detector": detector.name,
                "category": detector.category,
                "concepts": json.dumps(detector.labels.cuis),
                "scaling": ", ".join(dict.fromkeys(scaling for _, scaling in detector.looks)),
                "weights": weights,
                "notice": NOTICE,
            }
            written = writer.write(home / GRAPH, detector, properties=properties)
            difference = check_graph(home / GRAPH, detector, block=block)
            _write_labels(home / LABELS, detector.labels, ensemble.names)
            graph = WrittenGraph(
                detector=detector,
                opset=written,
                difference=difference,
                n_bytes=sum(path.stat().st_size for path in home.iterdir()),
                weights=weights,
            )
            graphs.append(graph)
            advance(1)
        text = readme_of(graphs, version=version, corpus=corpus, checked_on=checked_on)
        (draft / README).write_text(text, encoding="utf-8")
        write_json(draft / EXPORT, {"radfuse": version, "corpus": corpus, **_listed(draft, graphs)})
        replace_folder(folder, draft)
    worst = max(graph.difference for graph in graphs)
    counted = "1 detector" if len(graphs) == 1 else f"{len(graphs)} detectors"
    say(f"{counted} as ONNX, at most {worst:.1e} from torch on {checked_on}")
    return folder


def refuse_foreign(folder: Path, *, marks: Sequence[str]) -> None:
    """Refuse to replace what was not made by the same command.

    Args:
        folder: that is to be made.
        marks: names of files that all have whom the command made.

    Raises:
        ExportError: a file, or a folder with something else in it, is there.
    """
    is_own = all((folder / mark).is_file() for mark in marks)
    if folder.is_dir() and not folder.is_symlink() and (is_own or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise ExportError(
            f"{folder}: something else is there already; name another folder, or remove it"
        )


def _images(place: EnsemblePlace, ensemble: LoadedEnsemble) -> tuple[list[Pixels], str]:
    """Images to compare graphs with torch on: of the corpus, or drawn where none can be read."""
    found: list[Pixels] = []
    for path in _some_paths(place):
        with suppress(ImageError):
            found.append(decoded(ensemble, NewImage(image_id=str(path), path=path)))
    if found:
        n = len(found)
        return found, f"{n} {'image' if n == 1 else 'images'} of the corpus"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        drawn = {
            look: drawn_images(_N_CHECKED, look[0]).permute(0, 2, 3, 1).contiguous().numpy()
            for look in sorted(ensemble.looks)
        }
    rows = range(_N_CHECKED)
    return [{look: own[row] for look, own in drawn.items()} for row in rows], (
        f"{_N_CHECKED} drawn images"
    )


def _fingerprint(place: EnsemblePlace) -> str:
    """Of the corpus that was learnt from; a bundle does not say."""
    if place.workspace is None:
        return ""
    return Workspace(place.workspace).open_corpus().fingerprint


def _some_paths(place: EnsemblePlace) -> list[Path]:
    """Files of some test images, or of others where the corpus has none, from all over it.

    A bundle knows of none.
    """
    if place.workspace is None:
        return []
    corpus = Workspace(place.workspace).open_corpus()
    paths = corpus.images("test").paths or corpus.table.paths
    chosen = np.linspace(0, len(paths) - 1, num=min(_N_CHECKED, len(paths))).astype(int)
    return [Path(paths[row]) for row in chosen]


def _write_labels(path: Path, labels: LabelSpace, names: Mapping[str, str]) -> None:
    rows = ((column, cui, names.get(cui, "")) for column, cui in enumerate(labels.cuis))
    write_rows(path, [("column", "CUI", "name"), *rows])


def _listed(draft: Path, graphs: Sequence[WrittenGraph]) -> dict[str, Any]:
    """What `export.json` says of the detectors, checksums of their files among it."""
    return {
        "notice": NOTICE,
        "detectors": [
            {
                "folder": graph.name,
                "category": graph.detector.category,
                "n_concepts": len(graph.detector.labels),
                "images": [
                    {"size": size, "scaling": scaling} for size, scaling in graph.detector.looks
                ],
                "opset": graph.opset,
                "largest_difference": graph.difference,
                "weights": graph.weights,
                "sha256": {
                    path.name: file_sha256(path) for path in sorted((draft / graph.name).iterdir())
                },
            }
            for graph in graphs
        ],
    }
