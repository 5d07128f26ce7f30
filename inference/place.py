"""Where a finished ensemble lies, in plain values that mean the same on every machine."""

from dataclasses import dataclass
from pathlib import Path

from core.config import fingerprint
from core.errors import ConfigError
from core.runs.ensemble import newest_ensemble
from core.runs.workspace import Workspace
from core.storage.folders import read_meta
from inference.bundle.bundle import bundle_identity, read_bundle
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.workspace import read_ensemble


@dataclass(frozen=True, kw_only=True)
class EnsemblePlace:
    """A bundle, or a workspace, of which the ensemble is meant that was last made or asked for.

    Attributes:
        workspace: its root; None for a bundle.
        bundle: its folder or zip; None for a workspace.

    Raises:
        ConfigError: both are named, or neither.
    """

    workspace: Path | None = None
    bundle: Path | None = None

    def __post_init__(self) -> None:
        if (self.workspace is None) == (self.bundle is None):
            raise ConfigError("an ensemble lies in a workspace or in a bundle: name one of them")

    def read(self, device: str = "cpu") -> LoadedEnsemble:
        """The ensemble, its networks on a device.

        Raises:
            ConceptError: see `inference.loaded.workspace.read_ensemble` and
                `inference.bundle.bundle.read_bundle`.
        """
        if self.bundle is not None:
            return read_bundle(self.bundle, device=device)
        assert self.workspace is not None
        return read_ensemble(Workspace(self.workspace), device=device)

    def identity(self) -> str:
        """Changes whenever the ensemble that is read does.

        Raises:
            BundleError: there is no bundle.
            MissingStageError: there is no ensemble.
        """
        if self.bundle is not None:
            return bundle_identity(self.bundle)
        assert self.workspace is not None
        workspace = Workspace(self.workspace)
        corpus = workspace.open_corpus()
        folder = newest_ensemble(corpus, workspace).folder
        return fingerprint(corpus.fingerprint, folder.name, read_meta(folder)["made"])
