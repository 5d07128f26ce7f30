"""A finished ensemble as plain files: each of its parts once, and `bundle.json` that joins them."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.encoders.blueprints import check_blueprint, check_layout
from backbones.encoders.worlds import encoder_of
from backbones.settings.config import BackboneConfig
from core.errors import BundleError, ConfigError
from core.prior import CategoryPrior
from core.storage.folders import write_json
from core.storage.tables import write_rows
from ensembles.distance.model import FOLDER as DISTANCE
from fusion.inputs.metadata import MetadataEncoder
from inference.bundle.checks import FOREST, bare_forest
from inference.bundle.files import (
    DECISION,
    FORECAST,
    FORMAT,
    GRAPH,
    LABELS,
    NAMES,
    STACKER,
)
from inference.bundle.graph import (
    BundleGraph,
    CandidatesEntry,
    ConstrainedEntry,
    DecodingEntry,
    DetectorEntry,
    GuessEntry,
    HeadsEntry,
    MemberEntry,
    ModelEntry,
    NetworkEntry,
    PartEntry,
    PriorEntry,
    RetrievalEntry,
    RoutedEntry,
    SharesEntry,
    SpeedEntry,
    VotedEntry,
)
from inference.bundle.reference import write_references, write_statistics
from inference.loaded.answers import (
    ConstrainedAnswer,
    GivenPrior,
    HeadsAnswer,
    PriorAnswer,
    Reference,
    RetrievalAnswer,
    RoutedAnswer,
    VotedAnswer,
)
from inference.loaded.block import Answer, CategoryGuess
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.networks import FoundSpeed, LoadedDetector
from training.checkpoint import numbered, save_tensors

PARTS, NETWORKS, GUESSES, COLUMNS = "parts", "networks", "guesses", "columns"
"""Folders of a bundle."""


def write_parts(
    folder: Path, ensemble: LoadedEnsemble, *, run: str, made: str, training_ids: bool
) -> None:
    """Write all that decides new images, and `bundle.json`, into an empty folder.

    Other files that are in the folder already count as the bundle's.

    Args:
        folder: of the bundle.
        ensemble: read from a workspace, its networks on the processor.
        run: name of the ensemble's run.
        made: when it was made.
        training_ids: whether ids of the training images are written as well.
    """
    writer = _Writer(folder)
    members = tuple(
        MemberEntry(name=m.name, part=writer.part(m.answer, m.name), category=m.category)
        for m in ensemble.members
    )
    guess = writer.guess(ensemble.guess)
    reference = None if ensemble.reference is None else writer.reference(ensemble.reference)
    networks = {name: writer.network(name, network) for name, network in ensemble.networks.items()}
    references = write_references(
        folder,
        writer.references,
        widths={name: entry.n_features for name, entry in networks.items()},
        ids=training_ids,
    )
    ensemble.labels.save(folder / LABELS)
    _write_names(folder / NAMES, ensemble)
    ensemble.rule.save(folder / DECISION)
    if ensemble.calibrated_by is not None:
        ensemble.calibrated_by.save(folder / FORECAST)
    (folder / STACKER).mkdir()
    ensemble.stacker.save(folder / STACKER)
    forest = folder / STACKER / FOREST
    if forest.is_file():
        forest.write_text(bare_forest(forest.read_text(encoding="utf-8")), encoding="utf-8")
    write_statistics(folder, ensemble.statistics)
    if ensemble.distance is not None:
        (folder / DISTANCE).mkdir()
        ensemble.distance.save(folder / DISTANCE)
    graph = BundleGraph(
        format=FORMAT,
        radfuse=version_of_radfuse(),
        ensemble=run,
        made=made,
        edition=ensemble.edition,
        decoding=DecodingEntry(
            background=ensemble.decoding.background, frame=ensemble.decoding.frame
        ),
        columns=ensemble.columns,
        candidates=CandidatesEntry(
            floor=float(ensemble.candidates["floor"]),
            top=int(ensemble.candidates["top"]),
            most=int(ensemble.candidates["most"]),
        ),
        networks=networks,
        guesses=tuple(writer.guess_entries),
        guess=guess,
        references=references,
        reference=reference,
        parts=tuple(writer.entries),
        members=members,
        has_forecast=ensemble.calibrated_by is not None,
        distance=() if ensemble.distance is None else ensemble.distance.features,
        has_training_ids=training_ids and bool(references),
        files={
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    )
    write_json(folder / GRAPH, dataclasses.asdict(graph))


def version_of_radfuse() -> str:
    """Of radfuse: as it was installed, or in a checkout as it would be."""
    try:
        return metadata.version("radfuse")
    except metadata.PackageNotFoundError:
        project = Path(__file__).parents[2] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


def _write_names(path: Path, ensemble: LoadedEnsemble) -> None:
    known = ((cui, ensemble.names.get(cui)) for cui in ensemble.labels.cuis)
    write_rows(path, (row for row in known if row[1] is not None))


class _Writer:
    """Parts written so far, each once, whoever is made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[PartEntry] = []
        self.guess_entries: list[GuessEntry] = []
        self.references: list[Reference] = []
        self.detectors: dict[Path, str] = {}  # file of weights by run
        self._states: dict[str, Mapping[str, Tensor]] = {}
        self._encoders: dict[MetadataEncoder, str] = {}
        self._names: dict[int, str] = {}
        self._guesses: dict[int, int] = {}
        for name in (PARTS, NETWORKS, GUESSES, COLUMNS):
            (folder / name).mkdir()

    def part(self, answer: Answer, wanted: str) -> str:
        """Name of a part, written with all that it is made of if it was not yet."""
        if id(answer) not in self._names:
            entry = self._entry(answer, wanted)
            self._names[id(answer)] = entry.name
            self.entries.append(entry)
        return self._names[id(answer)]

    def _free(self, wanted: str) -> str:
        """A name of files that is not taken yet."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-.")[:60] or "part"
        taken = {entry.name.lower() for entry in self.entries}
        names = (plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3)))
        return next(name for name in names if name.lower() not in taken)

    def _entry(self, answer: Any, wanted: str) -> PartEntry:
        match answer:
            case LoadedDetector():
                return self._detector(answer, self._free(wanted))
            case HeadsAnswer():
                return self._heads(answer, self._free(wanted))
            case RetrievalAnswer():
                numbers = tuple(self.reference(own) for own in answer.references)
                return RetrievalEntry(
                    name=self._free(wanted),
                    strategy=answer.name,
                    references=numbers,
                    k=tuple(answer.k),
                    temperature=tuple(map(float, answer.temperature)),
                    by_category=answer.by_category,
                    guess=self.guess(answer.guess),
                )
            case PriorAnswer():
                name = self._free(wanted)
                shares = {str(k): torch.tensor(own) for k, own in enumerate(answer.shares)}
                return SharesEntry(
                    name=name,
                    weights=self._save(name, shares),
                    n_views=len(answer.shares),
                    guess=self.guess(answer.guess),
                )
            case GivenPrior():
                name = self._free(wanted)
                return PriorEntry(
                    name=name,
                    weights=self._save(name, _prior_tensors(answer.prior)),
                    n_images=dict(answer.prior.n_images),
                )
            case ConstrainedAnswer():
                base, name = self.part(answer.base, "one-hot"), self._free(wanted)
                return ConstrainedEntry(
                    name=name,
                    base=base,
                    weights=self._save(name, numbered(map(_prior_tensors, answer.priors))),
                    n_images=tuple(dict(prior.n_images) for prior in answer.priors),
                    at_least=answer.at_least,
                    guess=self.guess(answer.guess),
                )
            case VotedAnswer():
                network = self.part(answer.network, _called(answer.network))
                votes = self.part(answer.votes, _called(answer.votes))
                return VotedEntry(
                    name=self._free(wanted),
                    strategy=answer.name,
                    network=network,
                    votes=votes,
                    share=float(answer.share),
                )
            case RoutedAnswer():
                general = self.part(answer.general, _called(answer.general))
                specialists = tuple(self.part(own, _called(own)) for own in answer.specialists)
                name = self._free(wanted)
                support = {
                    category: torch.tensor(np.asarray(counts, dtype=np.int64))
                    for category, counts in answer.support.items()
                }
                return RoutedEntry(
                    name=name,
                    general=general,
                    specialists=specialists,
                    weights=self._save(name, support),
                    at_least=answer.at_least,
                    guess=self.guess(answer.guess),
                )
        raise TypeError(f"{wanted}: no bundle holds a {type(answer).__name__}")

    def _save(self, name: str, tensors: Mapping[str, Tensor]) -> str:
        """Write tensors; the name of their file."""
        file = f"{PARTS}/{name}.safetensors"
        save_tensors(self.folder / file, tensors)
        return file

    def _detector(self, answer: LoadedDetector, name: str) -> DetectorEntry:
        config, fine_tuned = answer.config, not answer.features
        states = []
        for network in answer.networks:
            state = dict(network.state_dict())
            if fine_tuned:
                scale = {f"backbone.{key}": network.backbone for key in ("mean", "std")}
                state |= {key: getattr(own, key[9:]) for key, own in scale.items()}
            states.append(state)
        weights, labels = self._save(name, numbered(states)), f"{PARTS}/{name}.labels.txt"
        answer.labels.save(self.folder / labels)
        if fine_tuned and answer.run is not None:
            self.detectors[answer.run] = weights
        return DetectorEntry(
            name=name,
            weights=weights,
            labels=labels,
            category=answer.category,
            features=answer.features,
            fine_tuned=fine_tuned,
            backbone=_blueprint(config, states[0], prefix="backbone.") if fine_tuned else "",
            size=config.image_sizes[0],
            resample=answer.look[1],
            mirror=config.mirror,
            pooling=config.pooling,
            hidden=config.hidden,
            head=config.head,
            n_queries=config.n_queries,
            query_width=config.query_width,
            n_at_once=answer.n_at_once,
            speed=_speed(answer.found),
        )

    def _heads(self, answer: HeadsAnswer, name: str) -> HeadsEntry:
        encoders = []
        for encoder in (replace(own, notes=()) for own in answer.encoders):
            if encoder not in self._encoders:
                self._encoders[encoder] = f"{COLUMNS}/{len(self._encoders)}.json"
                encoder.save(self.folder / self._encoders[encoder])
            encoders.append(self._encoders[encoder])
        states = [network.state_dict() for own in answer.networks for network in own]
        return HeadsEntry(
            name=name,
            strategy=answer.name,
            weights=self._save(name, numbered(states)),
            features=tuple(answer.features),
            encoders=tuple(encoders),
            hidden=answer.hidden,
            guess=self.guess(answer.guess),
        )

    def guess(self, guess: CategoryGuess | None) -> int | None:
        """Number of a guess, written if it was not yet; None without one."""
        if guess is None:
            return None
        if id(guess) not in self._guesses:
            number = self._guesses[id(guess)] = len(self.guess_entries)
            file = f"{GUESSES}/{number}.safetensors"
            models = dict(enumerate(guess.models))
            tensors = {
                f"{view}.{name}": torch.tensor(np.asarray(getattr(model, name)))
                for view, model in models.items()
                if model is not None
                for name in ("mean", "scale", "weights", "biases", "n_of_category")
            }
            save_tensors(self.folder / file, tensors)
            entry = GuessEntry(
                weights=file,
                features=guess.features,
                models=tuple(
                    None
                    if model is None
                    else ModelEntry(temperature=model.temperature, accuracy=model.accuracy)
                    for model in guess.models
                ),
                lacking=bool(guess.lacking),
            )
            self.guess_entries.append(entry)
        return self._guesses[id(guess)]

    def reference(self, reference: Reference) -> int:
        """Number of a reference."""
        known = [id(own) for own in self.references]
        if id(reference) not in known:
            self.references.append(reference)
            return len(known)
        return known.index(id(reference))

    def network(self, name: str, network: Any) -> NetworkEntry:
        """A network of features; one that a detector brings is not written again."""
        unfolded = network.unfolded
        assert unfolded is not None, "read from a bundle: copy that one"
        backbone = unfolded.build()
        if unfolded.run in self.detectors:
            weights, prefix = self.detectors[unfolded.run], f"{unfolded.number}.backbone."
        else:
            state = {**backbone.state_dict(), "mean": backbone.mean, "std": backbone.std}
            weights, prefix = self._network_file(name, state), ""
        config = unfolded.config
        return NetworkEntry(
            weights=weights,
            prefix=prefix,
            backbone=_blueprint(config, backbone.state_dict()),
            size=config.image_sizes[0],
            resample=network.look[1],
            mirror=config.mirror,
            pooling=backbone.pooling,
            n_features=backbone.n_features,
            speed=_speed(unfolded.speed),
        )

    def _network_file(self, name: str, state: Mapping[str, Tensor]) -> str:
        """File of these tensors: of images of another size they are mostly the same."""
        for file, known in self._states.items():
            if known.keys() == state.keys() and all(torch.equal(known[n], state[n]) for n in state):
                return file
        file = f"{NETWORKS}/{name}.safetensors"
        save_tensors(self.folder / file, state)
        self._states[file] = state
        return file


def _blueprint(config: BackboneConfig, state: Mapping[str, Tensor], *, prefix: str = "") -> str:
    """What builds a network anywhere; one that a reader would refuse is refused here.

    Args:
        config: its settings.
        state: its tensors.
        prefix: what their names begin with below the network's own.
    """
    text = encoder_of(config.backbone).blueprint()
    own = {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}
    try:
        check_blueprint(text)
        check_layout(text, own, size=config.image_sizes[0])
    except BundleError as error:
        raise ConfigError(
            f"bundle: {config.backbone}: no bundle can hold this network ({error}); leave its"
            " detectors out of the ensemble, or predict with the workspace"
        ) from None
    return text


def _speed(found: FoundSpeed) -> SpeedEntry:
    return SpeedEntry(words=found.words, device=found.device)


def _called(answer: Any) -> str:
    """What a part is called that is no member of its own."""
    return str(getattr(answer, "name", getattr(answer, "category", "part")))


def _prior_tensors(prior: CategoryPrior) -> dict[str, Tensor]:
    """Shares by category; those of all images under `all`."""
    return {category or "all": torch.tensor(own) for category, own in prior.probs.items()}
