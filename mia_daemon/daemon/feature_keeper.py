"""Saves and restores the state of the features, off the hot path, and alerts of missing inputs.

The state of the regime, which is updated with each decision, is saved with it.

A restart continues from the state that the last run of the same mode, source and contract saved, and from the events
that the feed delivers after it. A file's feed delivers everything that happened meanwhile, so nothing is lost. A DTC
server delivers no past events: up to `features.state_max_gap_s` of trading time may be missing, in which windows of
minutes lose a part and the day's levels perhaps an extreme. After a longer gap the state is out of date, and features
warm up again. A state is copied to the recording that begins with it, so that a replay begins with it too.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mia_daemon.clock import iso_utc
from mia_daemon.errors import StartError, StateRefused
from mia_daemon.features import catalogue, state_file
from mia_daemon.features.catalogue import Inputs, Quality
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.features.state_file import FeatureState
from mia_daemon.model.inference import Inference
from mia_daemon.ops.logs import Logger
from mia_daemon.records import Alert, AlertSink, Priority


@dataclass(slots=True)
class FeatureKeeper:
    """Keeps the state of `pipeline` and of the regime in `path`, and watches the inputs.

    Args:
        path: of the state's file; None neither saves nor resumes.
        max_gap_s: see `FeatureState`; None for a feed that delivers what happened meanwhile.
        selected: names of the features that the model uses.
        now_ns: time of alerts.
    """

    pipeline: FeaturePipeline
    inference: Inference
    path: Path | None
    max_gap_s: float | None
    selected: Sequence[str]
    log: Logger
    tell: AlertSink
    now_ns: Callable[[], int]
    resumed: FeatureState | None = None
    _missing: Inputs = field(default=Inputs(0))

    def resume(self) -> None:
        """Restore the saved state where there is one that fits; otherwise report why not."""
        if self.path is None:
            return
        try:
            state = replace(state_file.read(self.path), max_gap_s=self.max_gap_s)
            self.pipeline.resume(state)
        except StateRefused as refusal:
            self.log.info("features_begin_anew", reason=str(refusal))
        else:
            self.resumed = state
            regime = self.inference.resume(state.regime)
            self.log.info("features_resumed", newest=iso_utc(state.newest_ns), path=str(self.path), regime=regime)

    def copy_to(self, recording: Path) -> None:
        """Put the state that was resumed beside a recording's events. Raises StartError when it can't be written."""
        if self.resumed is not None:
            state_file.write(recording / state_file.FILE_NAME, self.resumed)

    async def keep(self, every_s: float) -> None:
        """Save the state every `every_s` seconds, in a thread that mostly waits for the disk; until cancelled."""
        if self.path is None:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(every_s)
            self._report(await asyncio.to_thread(self._write, self._state()))

    def save(self) -> None:
        """Save the state as of the last event."""
        self._report(self._write(self._state()))

    def _state(self) -> FeatureState:
        return replace(self.pipeline.state(), regime=self.inference.regime)

    def _write(self, state: FeatureState) -> str:
        """Write the file; returns why it could not be written, or ""."""
        if self.path is None or not state.newest_ns:
            return ""
        try:
            state_file.write(self.path, state)
        except StartError as error:
            return str(error)
        return ""

    def _report(self, problem: str) -> None:
        """In the event loop's thread: an alert goes to the journal, which is used by no other."""
        if problem:
            self.tell(Alert(self.now_ns(), "features_not_saved", Priority.WARNING, problem))

    def expect(self, missing: Inputs) -> None:
        """Report at the start which inputs the feed will not deliver."""
        self._missing = missing
        if missing:
            self._tell_missing(missing)

    def look(self) -> None:
        """Alert when an expected input is missing, and when it is back; costs a microsecond."""
        quality = self.pipeline.quality
        if not self.pipeline.decisions or quality & (Quality.COLD | Quality.STALE | Quality.GAP):
            return
        missing = catalogue.missing(quality)
        if missing == self._missing:
            return
        self._missing = missing
        if missing:
            self._tell_missing(missing)
        else:
            self.log.info("inputs_complete")

    def _tell_missing(self, missing: Inputs) -> None:
        neutral = catalogue.neutral_without(missing)
        used = [name for name in self.selected if name in neutral]
        inputs = ", no ".join(catalogue.inputs_text(missing).split("+"))
        self.tell(
            Alert(
                self.now_ns(),
                "inputs_missing",
                Priority.WARNING if used else Priority.INFO,
                f"the feed brings no {inputs}: {len(neutral)} features keep their neutral value, {len(used)} of them "
                f"among the model's {len(self.selected)}",
                {"features": list(neutral), "of_the_model": used},
            )
        )
