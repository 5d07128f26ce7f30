"""What each place of an image adds to the logits of a finished detector.

    logit_c = mean over networks k of z_kc,    e_cp = mean over k of sum over layers j of e_kcjp

Layers are those of `inference.heat.places`, one for each encoder at each image size. All of them
are in logits, so none needs a weight: each counts as much as it moves the logit. A map of fewer
places is dealt out over those of the largest by the area that they share, which leaves its sum as
it was.

Where a head learnt from standardised features that are means over places, evidence is held against
the mean of its training images: an average image adds nothing. With a linear head, all places
together then add the logit less the head's bias. Where no mean is known or the way to the features
is longer, an activation of zero adds nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from backbones.networks.build import Backbone, Detector
from backbones.settings.config import BackboneConfig
from core.labels import LabelSpace
from core.runs.detectors import DetectorRun
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from inference.heat.places import PlacedNetwork, SeenImage
from inference.loaded.features import network_of
from inference.loaded.networks import FoundSpeed, Look, read_detector, settings_in
from training.heads import Standardise

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a detector says of some concepts of an image, and from where.

    Attributes:
        places: (n, s, s) signed, in logits.
        logits: (n,) mean over the networks.
        probabilities: (n,) mean over the networks, in [0, 1].
    """

    places: Floats
    logits: Floats
    probabilities: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectorSight:
    """The networks of a detector with their places.

    Attributes:
        labels: its concepts.
        networks: that look at an image: of a frozen detector one for each encoder and image size,
            of a fine-tuned one as many as heads.
        heads: logits (B, L) of features; their mean is the detector's answer.
        frozen: whether each head is given the features of all networks, side by side, as the mean
            over image and mirror; else head k those of network k, of each alone.
    """

    labels: LabelSpace
    networks: Sequence[PlacedNetwork]
    heads: Sequence[nn.Module]
    frozen: bool

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """All images that it takes, each once."""
        return tuple(dict.fromkeys(network.look for network in self.networks))

    def of(
        self, pixels: Mapping[Look, Pixels], *, concepts: Sequence[str], heads: Sequence[int]
    ) -> Evidence:
        """What some of the networks say of some concepts of one image.

        The image passes each network once, whatever the number of concepts; of each concept its
        gradient is taken back to the layer with places alone.

        Args:
            pixels: (S, S, 3) by look.
            concepts: n, of its own.
            heads: numbers of those whose mean is taken, at least one.

        Raises:
            LabelSpaceError: a concept is none of its own.
        """
        columns = self.labels.columns(concepts).tolist()
        if self.frozen:
            seen = [network.see(pixels[network.look]) for network in self.networks]
            return _told(seen, [self.heads[k] for k in heads], columns=columns, joined=True)
        told = []
        for k in heads:
            network = self.networks[k]
            seen = [network.see(pixels[network.look])]
            told.append(_told(seen, [self.heads[k]], columns=columns, joined=False))
        return Evidence(
            places=np.mean([own.places for own in told], axis=0),
            logits=np.mean([own.logits for own in told], axis=0),
            probabilities=np.mean([own.probabilities for own in told], axis=0),
        )


def _told(
    seen: Sequence[SeenImage], heads: Sequence[nn.Module], *, columns: Sequence[int], joined: bool
) -> Evidence:
    """What heads say of features seen: of their mean over image and mirror, or of each alone."""
    n_rows = len(seen[0].features)
    features = torch.cat([own.features.detach() for own in seen], dim=1)
    if joined:
        features = features.mean(dim=0, keepdim=True)
    widths = [own.features.shape[1] for own in seen]
    gradients = features.new_zeros((len(columns), *features.shape))
    offsets = features.new_zeros((len(seen), len(columns)))
    logits = features.new_zeros(len(columns))
    probabilities = torch.zeros_like(logits)
    for head in heads:
        said, slopes = _slopes(head, features, columns=columns)
        logits += said.mean(dim=0) / len(heads)
        probabilities += torch.sigmoid(said).mean(dim=0) / len(heads)
        gradients += slopes / len(heads)
        usual = _training_mean(head)
        if usual is None:
            continue
        for number, (own, slope, mean) in enumerate(
            zip(seen, torch.split(slopes, widths, dim=2), torch.split(usual, widths), strict=True)
        ):
            if own.means is not None:
                found = (slope[:, :, own.means] * mean[own.means]).sum(dim=(1, 2))
                offsets[number] += found / len(heads)
    if joined:
        gradients = gradients.expand(-1, n_rows, -1) / n_rows
    maps = [
        own.evidence(gradient, offset)
        for own, gradient, offset in zip(
            seen, torch.split(gradients, widths, dim=2), offsets, strict=True
        )
    ]
    side = max(found.shape[-1] for found in maps)
    places = torch.stack([dealt_out(found, side=side) for found in maps]).sum(dim=0)
    return Evidence(
        places=places.cpu().numpy(),
        logits=logits.cpu().numpy(),
        probabilities=probabilities.cpu().numpy(),
    )


def _slopes(head: nn.Module, features: Tensor, *, columns: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(R, n) logits of the features (R, D), and (n, R, D) gradients of their means over R."""
    leaf = features.clone().requires_grad_()
    with torch.enable_grad():
        said = head(leaf)[:, list(columns)]
    slopes = features.new_zeros((len(columns), *features.shape))
    for number in range(len(columns)):
        mean = said[:, number].mean()
        (slopes[number],) = torch.autograd.grad(mean, leaf, retain_graph=True)
    return said.detach(), slopes


def _training_mean(head: nn.Module) -> Tensor | None:
    """(D,) mean features of the images that a head learnt from, where it keeps them."""
    first = head[0] if isinstance(head, nn.Sequential) else None
    return first.mean if isinstance(first, Standardise) else None


def dealt_out(maps: Tensor, *, side: int) -> Tensor:
    """Maps (n, s, s) over a square of `side` places a side, by shared area; sums stay.

    Example:
        >>> dealt_out(torch.tensor([[[4.0]]]), side=2).tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """
    own = maps.shape[-1]
    if own == side:
        return maps
    edges = torch.arange(side + 1, dtype=torch.float64) / side * own
    starts = torch.arange(own, dtype=torch.float64)
    high = torch.minimum(edges[1:, None], starts + 1)
    low = torch.maximum(edges[:-1, None], starts)
    share = (high - low).clamp_min(0).to(maps)  # (side, own), a column sums to 1
    return share @ maps @ share.mT


def read_sight(
    run: DetectorRun, *, workspace: Workspace, corpus: Corpus, device: str
) -> DetectorSight:
    """A finished detector, read again to be looked through.

    Args:
        run: the detector.
        workspace: that it lies in.
        corpus: that it was trained on.
        device: where its networks are to run.

    Raises:
        MissingStageError: a frozen network cannot be had any more.
        DamageError: the run's files are not those that were written.
        ConfigError: a network has no layer with places that its features depend on.
    """
    meta, config = read_meta(run.folder), settings_in(run.folder, BackboneConfig())
    frozen = config.regime == "frozen"
    names = tuple(meta["embeddings"]) if frozen else ()
    detector = read_detector(
        run.folder,
        config,
        category=run.category,
        features=names,
        speed=FoundSpeed(words=meta["speed"], device=meta["device"]),
        device=device,
    )
    placed: list[PlacedNetwork] = []
    if frozen:
        for name in names:
            own = network_of(name, [run], corpus=corpus, workspace=workspace, device=device)
            assert isinstance(own.network, Backbone)
            placed.append(
                PlacedNetwork(own.network, look=own.look, mirror=own.mirror, compute=own.compute)
            )
        heads = [_ready(head, device) for head in detector.networks]
        return DetectorSight(labels=detector.labels, networks=placed, heads=heads, frozen=True)
    heads = []
    for network in detector.networks:
        assert isinstance(network, Detector)
        placed.append(
            PlacedNetwork(
                network.backbone,
                look=detector.look,
                mirror=detector.mirror,
                compute=detector.compute,
            )
        )
        heads.append(_ready(network.head, device))
    return DetectorSight(labels=detector.labels, networks=placed, heads=heads, frozen=False)


def _ready(head: nn.Module, device: str) -> nn.Module:
    return head.to(device).eval().requires_grad_(False)
