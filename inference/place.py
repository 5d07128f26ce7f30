"""Where a finished ensemble lies, in plain values that mean the same on every machine."""

from dataclasses import dataclass
from pathlib import Path

from core.config import fingerprint
from core.runs.ensemble import newest_ensemble
from core.runs.workspace import Workspace
from core.storage.folders import read_meta
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.workspace import read_ensemble


@dataclass(frozen=True, kw_only=True)
class EnsemblePlace:
    """A workspace, of which the ensemble is meant that was last made or asked for.

    Attributes:
        workspace: its root.
    """

    workspace: Path

    def read(self, device: str = "cpu") -> LoadedEnsemble:
        """The ensemble, its networks on a device.

        Raises:
            ConceptError: see `inference.loaded.workspace.read_ensemble`.
        """
        return read_ensemble(Workspace(self.workspace), device=device)

    def identity(self) -> str:
        """Changes whenever the ensemble that is read does.

        Raises:
            MissingStageError: there is none.
        """
        workspace = Workspace(self.workspace)
        corpus = workspace.open_corpus()
        folder = newest_ensemble(corpus, workspace).folder
        return fingerprint(corpus.fingerprint, folder.name, read_meta(folder)["made"])
