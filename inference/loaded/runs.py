"""Detectors, features, guesses and fused sources of a workspace, read again from their runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from backbones.settings.config import BackboneConfig
from core.embeddings import Embeddings, join
from core.errors import MissingStageError
from core.images import ImageTable
from core.runs.detectors import GLOBAL, DetectorRun, find_runs
from core.runs.fused import PRIOR, FusedSource
from core.runs.out_of_fold import fold_name, names_of_fold
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import asked, is_complete, read_meta, read_whole
from fusion.config import FuseConfig
from fusion.fuse import run_name
from fusion.inputs.category import N_OF_CATEGORY, CategoryModel, guess_name
from fusion.inputs.metadata import MetadataEncoder
from fusion.retrieval.votes import REFERENCE_BITS, Memory, as_references, for_neighbours
from fusion.strategies import GENERAL_ALONE, NEEDS, VOTES, prior_shares, support_of
from inference.loaded.answers import (
    OF_NAMES,
    READABLE,
    ConstrainedAnswer,
    HeadsAnswer,
    PriorAnswer,
    Reference,
    RetrievalAnswer,
    RoutedAnswer,
    StandardisedRows,
    VotedAnswer,
    read_heads,
)
from inference.loaded.block import Answer, CategoryGuess
from inference.loaded.features import network_of
from inference.loaded.networks import (
    FeatureNetwork,
    FoundSpeed,
    LoadedDetector,
    Look,
    read_detector,
    settings_in,
)
from training.checkpoint import WEIGHTS, load_networks

Names = tuple[str, ...]


def _listed(value: Any) -> list[Any]:
    """What was recorded once a view of a cross-fitted corpus, else once."""
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Runs of a workspace, each read once.

    Attributes:
        corpus: the prepared corpus.
        workspace: where runs lie.
        device: where networks are to run.
        networks: those that give features, by the features' name, as far as they were needed.
        columns: further columns that heads take.
        looks: images that anything takes.
    """

    corpus: Corpus
    workspace: Workspace
    device: str
    networks: dict[str, FeatureNetwork] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    looks: set[Look] = field(default_factory=set)
    _answers: dict[Path, Answer] = field(default_factory=dict)
    _guesses: dict[tuple[Names, ...], CategoryGuess | None] = field(default_factory=dict)
    _values: dict[Names, Embeddings] = field(default_factory=dict)
    _rounded: dict[Names, npt.NDArray[np.float16]] = field(default_factory=dict)
    _references: dict[tuple[Names, int], Reference] = field(default_factory=dict)

    @cached_property
    def detectors(self) -> list[DetectorRun]:
        """All finished detectors of the corpus, the newest last."""
        return find_runs(self.workspace, self.corpus.fingerprint)

    def detector(self, folder: Path) -> LoadedDetector:
        """A detector from its run folder."""
        if folder not in self._answers:
            meta, config = read_meta(folder), settings_in(folder, BackboneConfig())
            frozen = config.regime == "frozen"
            features = tuple(meta["embeddings"]) if frozen else ()
            self.need(features)
            detector = read_detector(
                folder,
                config,
                category=meta["category"],
                features=features,
                speed=FoundSpeed(words=meta["speed"], device=meta["device"]),
                device=self.device,
            )
            if not frozen:
                self.looks.add(detector.look)
            self._answers[folder] = detector
        found = self._answers[folder]
        assert isinstance(found, LoadedDetector)
        return found

    def need(self, names: Sequence[str]) -> None:
        """Read the networks that give these features."""
        for name in names:
            if name not in self.networks:
                self.networks[name] = network_of(
                    name,
                    self.detectors,
                    corpus=self.corpus,
                    workspace=self.workspace,
                    device=self.device,
                )
                self.looks.add(self.networks[name].look)

    def values(self, names: Names) -> Embeddings:
        """Features of the corpus' images, side by side."""
        if names not in self._values:
            self._values[names] = join(
                [Embeddings.load(self.workspace.embeddings / name) for name in names]
            )
        return self._values[names]

    def _in_16_bits(self, names: Names) -> npt.NDArray[np.float16]:
        """The same as references, once for all views."""
        if names not in self._rounded:
            self._rounded[names] = as_references(self.values(names).values)
        return self._rounded[names]

    def guess(self, names: Names) -> CategoryGuess | None:
        """What these features say of the category, by view; None where nothing was guessed."""
        views = self.corpus.views
        by_view = tuple(names_of_fold(names, view) for view in range(len(views)))
        if by_view not in self._guesses:
            folders = [
                self.workspace.fusion / guess_name(view.fingerprint, own)
                for view, own in zip(views, by_view, strict=True)
            ]
            self._guesses[by_view] = self._read_guess(by_view, folders)
        return self._guesses[by_view]

    def _read_guess(
        self, names: tuple[Names, ...], folders: Sequence[Path]
    ) -> CategoryGuess | None:
        there = [folder for folder in folders if folder.is_dir()]
        if not there:
            return None
        for own in names:
            self.need(own)
        if old := [folder for folder in there if N_OF_CATEGORY not in read_meta(folder)]:
            lacking = (
                f"{old[0]}: made by an earlier version, which did not keep all that guessing the"
                f" category of a new image takes; run `{self.workspace.command('fuse')}` again, or"
                " say it with --category"
            )
            return CategoryGuess(features=names, models=(None,) * len(names), lacking=lacking)
        models = [CategoryModel.load(f) if f in there else None for f in folders]
        return CategoryGuess(features=names, models=tuple(models))

    @cached_property
    def newest_guess(self) -> CategoryGuess | None:
        """The guess that decisions go by: as for test images, that of the last view with one."""
        newest: dict[str, tuple[tuple[int, str], Names]] = {}
        candidates = dict.fromkeys(
            [tuple(read_meta(folder)["embeddings"]) for folder in self._fused_folders()]
        )
        for names in candidates:
            own = names_of_fold(names, len(self.corpus.views) - 1)
            folder = self.workspace.fusion / guess_name(self.corpus.views[-1].fingerprint, own)
            if folder.is_dir():
                newest[folder.name] = (asked(read_meta(folder)), names)
        if not newest:
            return None
        return self.guess(max((when, name, names) for name, (when, names) in newest.items())[2])

    def _fused_folders(self) -> list[Path]:
        runs = self.workspace.runs_on(
            self.workspace.fusion, self.corpus.fingerprint, "strategy", "embeddings"
        )
        return [folder for folder, _ in runs]

    def fused(self, folder: Path) -> Answer:
        """A fused source from its run folder.

        Raises:
            MissingStageError: it cannot be asked of new images, or a run that it is made of is
                gone.
        """
        if folder not in self._answers:
            run = FusedSource.read(folder)
            read_whole(folder)
            self._answers[folder] = self._read_fused(run)
        return self._answers[folder]

    def _read_fused(self, run: FusedSource) -> Answer:
        name, names = run.strategy, tuple(run.meta["embeddings"])
        if name in READABLE:
            return self._heads(run, names)
        if name in ("retrieval", "retrieval-global"):
            return self._retrieval(run, names)
        if name == PRIOR:
            return PriorAnswer(
                name=name,
                labels=self.corpus.labels,
                shares=[prior_shares(view.prior) for view in self.corpus.views],
                guess=self.guess(names),
            )
        if name == "constrained":
            return ConstrainedAnswer(
                base=self.fused(self._part(run, "one-hot")),
                priors=[view.prior for view in self.corpus.views],
                at_least=settings_in(run.folder, FuseConfig()).constant_from,
                guess=self.guess(names),
            )
        if name in NEEDS:
            network, votes = (self.fused(self._part(run, part)) for part in NEEDS[name])
            share = run.meta["chosen"][VOTES]
            return VotedAnswer(name=name, network=network, votes=votes, share=share)
        if name == "routed":
            return self._routed(run, names)
        raise MissingStageError(
            f"member {name}: keeps no classifier that could be asked of new images; move"
            f" {run.folder} out of the workspace and run"
            f" `{self.workspace.command('ensemble --submit')}` again"
        )

    def _heads(self, run: FusedSource, names: Names) -> HeadsAnswer:
        config, n_views = settings_in(run.folder, FuseConfig()), len(self.corpus.views)
        by_view = [names_of_fold(names, view) for view in range(n_views)]
        for own in by_view:
            self.need(own)
        paths = [
            run.folder
            / (
                f"{fold_name('metadata', view, n_parts=n_views)}.json"
                if n_views > 1
                else "metadata.json"
            )
            for view in range(n_views)
        ]
        encoders = [MetadataEncoder.load(path) for path in paths]
        self.columns.extend(column.name for encoder in encoders for column in encoder.columns)
        states = load_networks(run.folder / WEIGHTS)
        n_each = len(states) // n_views
        networks = [
            read_heads(
                run.strategy,
                states[view * n_each : (view + 1) * n_each],
                config=config,
                n_features=self.values(by_view[view]).values.shape[1],
                n_metadata=encoders[view].width,
                n_concepts=len(self.corpus.labels),
            )
            for view in range(n_views)
        ]
        return HeadsAnswer(
            name=run.strategy,
            labels=self.corpus.labels,
            features=by_view,
            networks=networks,
            encoders=encoders,
            guess=self.guess(names),
            device=self.device,
            hidden=() if run.strategy in OF_NAMES else config.hidden,
        )

    def _retrieval(self, run: FusedSource, names: Names) -> RetrievalAnswer:
        config, chosen = settings_in(run.folder, FuseConfig()), run.meta["chosen"]
        n_views, (bits, *_) = len(self.corpus.views), _listed(chosen.get(REFERENCE_BITS, 32))
        k, temperature = (_listed(value) for value in (chosen["k"], chosen["temperature"]))
        return RetrievalAnswer(
            name=run.strategy,
            labels=self.corpus.labels,
            references=[
                self._reference(names_of_fold(names, view), view, config=config, bits=bits)
                for view in range(n_views)
            ],
            k=k,
            temperature=temperature,
            by_category=run.strategy == "retrieval",
            guess=self.guess(names),
        )

    def _reference(self, names: Names, view: int, *, config: FuseConfig, bits: int) -> Reference:
        key = (names, view)
        if key not in self._references:
            train = self.corpus.views[view].training_images()
            self._references[key] = self._memory(names, train, config=config, bits=bits)
        return self._references[key]

    def _memory(
        self, names: Names, train: ImageTable, *, config: FuseConfig, bits: int
    ) -> Reference:
        self.need(names)
        embeddings = self.values(names)
        known = {image_id: row for row, image_id in enumerate(embeddings.image_ids)}
        numbers = np.array([known[image_id] for image_id in train.image_ids], dtype=np.intp)
        standardise = for_neighbours(
            torch.from_numpy(embeddings.values[numbers]), embeddings.widths
        )
        values = embeddings.values if bits == 32 else self._in_16_bits(names)
        rows = StandardisedRows(values, numbers, standardise=standardise)
        memory = Memory(
            cast(npt.NDArray[np.float32], rows),  # gives rows as an array does
            train.targets(self.corpus.labels).matrix,
            categories=train.categories,
            approximate_from=config.approximate_from,
            seed=config.seed,
            device=self.device,
        )
        return Reference(features=names, rows=rows, memory=memory, image_ids=train.image_ids)

    @cached_property
    def reference(self) -> Reference | None:
        """All training images by the features that retrieval takes; None without retrieval."""
        views = self._references
        if not views:
            return None
        names, view = next(iter(views))
        if len(self.corpus.views) == 1:
            return views[names, view]
        return self._memory(names, self.corpus.training_images(), config=FuseConfig(), bits=16)

    def _part(self, run: FusedSource, part: str, *, detectors: Sequence[str] = ()) -> Path:
        """The folder of a strategy that a run was made of."""
        folder = self.workspace.fusion / self._name_of(run, part, detectors)
        if not is_complete(folder):
            raise MissingStageError(
                f"member {run.strategy}: {folder}, which it is made of, is not there any more; run"
                f" `{self.workspace.command('fuse')}`, then `ensemble --submit` again"
            )
        return folder

    def _name_of(self, run: FusedSource, strategy: str, detectors: Sequence[str]) -> str:
        """What a strategy's folder is called with the settings of a run."""
        config = settings_in(run.folder, FuseConfig())
        columns: list[tuple[str, ...]] = []
        if config.metadata:
            images = self.corpus.labelled_images("train")
            encoder = MetadataEncoder.fitted(images, config.metadata)
            columns = [self.corpus.table.metadata[column.name] for column in encoder.columns]
        return run_name(
            strategy,
            config,
            corpus_fingerprint=self.corpus.fingerprint,
            embeddings=tuple(run.meta["embeddings"]),
            detectors=detectors,
            columns=columns,
        )

    def _routed(self, run: FusedSource, names: Names) -> RoutedAnswer:
        folders = self._detectors_of(run)
        general: Answer
        if GLOBAL in folders:
            general = self.detector(folders.pop(GLOBAL))
        else:
            general = self.fused(self._part(run, "one-hot", detectors=run.contains))
        support = run.meta["chosen"]["support"]
        return RoutedAnswer(
            general=general,
            specialists=[self.detector(folder) for folder in folders.values()],
            support=support_of(self.corpus),
            at_least=None if support == GENERAL_ALONE else int(support),
            guess=self.guess(names),
        )

    def _detectors_of(self, run: FusedSource) -> dict[str, Path]:
        """Run folders of the detectors that a routed run was made of, by category.

        The specialists stand in its meta; the global one is that with which its folder has its
        name.
        """
        generals = [other for other in reversed(self.detectors) if other.category == GLOBAL]
        for general in (*generals, None):
            all_names = [*([general.name] if general else []), *run.contains]
            if self._name_of(run, "routed", all_names) == run.folder.name:
                found = {GLOBAL: general.folder} if general else {}
                for name in run.contains:
                    found[name.partition("/")[0]] = self.workspace.backbones / name
                if gone := [folder for folder in found.values() if not is_complete(folder)]:
                    raise MissingStageError(
                        f"member routed: {gone[0]}, which it is made of, is not there any more;"
                        f" run `{self.workspace.command('fuse')}`, then `ensemble --submit` again"
                    )
                return found
        raise MissingStageError(
            f"member routed: {run.folder}: the global detector that it was made of is not there"
            f" any more; run `{self.workspace.command('fuse')}`, then `ensemble --submit` again"
        )
