"""The submitted ensemble of a workspace, read again from the runs that it was made of."""

from core.categories import CATEGORIES
from core.errors import MissingStageError
from core.progress import say
from core.runs.detectors import GLOBAL
from core.runs.ensemble import DECISION, FALLBACK, FORECAST_RULE, newest_ensemble
from core.runs.workspace import Workspace
from core.storage.folders import is_complete, read_meta
from ensembles.config import EnsembleConfig
from ensembles.decisions.rule import DecisionRule
from ensembles.distance.model import FOLDER as DISTANCE
from ensembles.distance.model import DistanceModel
from ensembles.second_stage import label_statistics_of
from ensembles.stacking.registry import load_stacker
from inference.loaded.answers import GivenPrior
from inference.loaded.ensemble import LoadedEnsemble, LoadedMember
from inference.loaded.networks import settings_in
from inference.loaded.runs import Runs


def read_ensemble(workspace: Workspace, *, device: str = "cpu") -> LoadedEnsemble:
    """The ensemble of the workspace's corpus that was last made or asked for.

    Args:
        workspace: with the runs that it was made of.
        device: where its networks are to run.

    Raises:
        MissingStageError: there is none, a run is gone or was made again, or a member cannot be
            asked of new images; the member and the command are named.
    """
    corpus = workspace.open_corpus()
    run = newest_ensemble(corpus, workspace)
    home, meta = run.folder, run.meta
    runs = Runs(corpus=corpus, workspace=workspace, device=device)
    members = [_member(runs, name, origin) for name, origin in meta["members"].items()]
    config = settings_in(home, EnsembleConfig())
    fell_back = bool(meta.get("fell_back"))
    if fell_back:
        say(f"decided as test was, by one threshold: it differed in kind ({home})")
    forecast = home / FORECAST_RULE
    distance = DistanceModel.load(home / DISTANCE) if (home / DISTANCE).is_dir() else None
    if distance is not None:
        runs.need(distance.features)
    return LoadedEnsemble(
        labels=corpus.labels,
        names=corpus.names,
        edition=corpus.edition,
        decoding=corpus.decoding,
        networks=runs.networks,
        guess=runs.newest_guess,
        members=members,
        statistics=label_statistics_of(corpus),
        candidates={"floor": config.floor, "top": config.top, "most": config.most},
        stacker=load_stacker(home / "stacker"),
        rule=DecisionRule.load(home / (FALLBACK if fell_back else DECISION)),
        calibrated_by=DecisionRule.load(forecast) if forecast.is_file() else None,
        reference=runs.reference,
        distance=distance,
        columns=tuple(dict.fromkeys(runs.columns)),
        looks=frozenset(runs.looks),
    )


def _member(runs: Runs, name: str, origin: str) -> LoadedMember:
    """A member by its name and origin, as `ensembles.members` gave them."""
    if not origin:
        return LoadedMember(name=name, answer=GivenPrior(prior=runs.corpus.prior))
    category = name.partition("/")[0]
    folder_name, _, made = origin.partition(" ")
    if folder_name == "sha256":
        raise MissingStageError(
            f"member {name}: made elsewhere, and so cannot be asked of new images; run"
            f" `{runs.workspace.command('ensemble --submit')}` without --member"
        )
    is_detector = category in (GLOBAL, *CATEGORIES)
    home = runs.workspace.backbones / category if is_detector else runs.workspace.fusion
    folder = home / folder_name
    if not is_complete(folder) or read_meta(folder).get("made") != made:
        state = "was made again since" if is_complete(folder) else "is not there any more"
        raise MissingStageError(
            f"member {name}: {folder} {state};"
            f" run `{runs.workspace.command('ensemble --submit')}` again"
        )
    if is_detector:
        return LoadedMember(name=name, answer=runs.detector(folder), category=category)
    return LoadedMember(name=name, answer=runs.fused(folder))
