"""The body of `export --hub`: a bundle with what Hugging Face's hub wants beside it."""

import re
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.runs.workspace import Workspace
from core.storage.drafts import draft_folder, replace_folder
from core.storage.folders import write_json
from inference.bundle.bundle import read_bundle, write_bundle
from inference.bundle.files import FOR_HUBS, GRAPH, files_in, write_sums
from inference.bundle.write import version_of_radfuse
from inference.bundle.zips import unpacked
from inference.export.folder import refuse_foreign
from inference.loaded.ensemble import LoadedEnsemble
from inference.place import EnsemblePlace

ATTRIBUTES = ".gitattributes"

_LARGE = 5_000_000  # bytes; the hub refuses files of 10 MB that git itself would hold
_STORED_APART = ("*.safetensors", "*.npy")


def export_hub(folder: Path, place: EnsemblePlace) -> tuple[str, str]:
    """Write a bundle as a repository of Hugging Face's hub; nothing is uploaded.

    It stays a bundle, which `predict --bundle` reads. Beside the bundle's files it has
    `config.json`, with which label is which column, and `.gitattributes`, by which git keeps large
    files apart.

    Args:
        folder: to be made; an older one of this kind is replaced when all is written.
        place: of the ensemble: a bundle is copied, of a workspace one is written.

    Returns:
        The folder, and the command that would upload it.

    Raises:
        ExportError: something else lies in the folder.
        ConceptError: of what is read: see `EnsemblePlace.read` and `write_bundle`.
    """
    folder = folder.absolute()
    refuse_foreign(folder, marks=(GRAPH, ATTRIBUTES))
    with draft_folder(folder) as draft:
        home = draft / folder.name
        if place.bundle is None:
            assert place.workspace is not None
            write_bundle(Workspace(place.workspace), home)
        else:
            place.read()  # is held against its checksums
            _copy(place.bundle, home)
        write_json(home / FOR_HUBS, _config(read_bundle(home)))
        write_sums(home)
        (home / ATTRIBUTES).write_text("".join(_attributes(home)), encoding="utf-8")
        replace_folder(folder, home)
    name = re.sub("[^A-Za-z0-9]+", "-", folder.name).strip("-")[:60] or "radfuse"
    words = ("hf", "upload", f"YOUR-NAME/{name}", str(folder), ".", "--private")
    return str(folder), shlex.join(words)


def _copy(bundle: Path, home: Path) -> None:
    if bundle.is_dir():
        for name in files_in(bundle, shown=bundle):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / name, home / name)
        return
    with unpacked(bundle) as unzipped:
        shutil.copytree(unzipped, home)


def _config(ensemble: LoadedEnsemble) -> dict[str, Any]:
    cuis = ensemble.labels.cuis
    return {
        "library_name": "radfuse",
        "radfuse_version": version_of_radfuse(),
        "architecture": "ensemble",
        "members": [member.name for member in ensemble.members],
        "image_sizes": sorted({size for size, _ in ensemble.looks}),
        "problem_type": "multi_label_classification",
        "num_labels": len(cuis),
        "id2label": {str(column): cui for column, cui in enumerate(cuis)},
        "label2id": {cui: column for column, cui in enumerate(cuis)},
        "label_names": {cui: ensemble.names.get(cui, "") for cui in cuis},
    }


def _attributes(home: Path) -> Iterable[str]:
    """Lines that have git keep kinds of files, and any other large one, in its large file store."""
    kinds = {f"*{path.suffix}" for path in home.rglob("*") if path.stat().st_size > _LARGE}
    for pattern in (*_STORED_APART, *sorted(kinds - {*_STORED_APART})):
        yield f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
