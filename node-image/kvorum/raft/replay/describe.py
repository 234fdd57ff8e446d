"""How etcd's raft writes its values as text: members, configurations, progress."""

from collections.abc import Iterable

from kvorum.raft.config_change import Configuration
from kvorum.raft.progress import Progress, ProgressState

PROGRESS_STATES = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}


def members(ids: Iterable[int]) -> str:
    return f"({' '.join(map(str, sorted(ids)))})"


def configuration(config: Configuration) -> str:
    """`voters=(1 2)&&(1) learners=(3) learners_next=(4) autoleave`, without what is empty."""
    text = f"voters={'&&'.join(map(members, config.halves))}"
    if config.learners:
        text += f" learners={members(config.learners)}"
    if config.learners_next:
        text += f" learners_next={members(config.learners_next)}"
    return text + " autoleave" * config.auto_leave


def progress(value: Progress) -> str:
    """`StateReplicate match=14 next=15`, then what is remarkable: learner, paused, pendingSnap, inactive, inflight."""
    text = f"{PROGRESS_STATES[value.state]} match={value.match} next={value.next}"
    text += " learner" * value.is_learner + " paused" * value.is_paused
    if value.pending_snapshot:
        text += f" pendingSnap={value.pending_snapshot}"
    text += " inactive" * (not value.active)
    if value.inflight:
        text += f" inflight={len(value.inflight)}"
        text += "[full]" * (len(value.inflight) >= value.inflight_max)
    return text
