"""Records a session: its market events, and the inputs of its account with what the account began with."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from pydantic import TypeAdapter, ValidationError

from mia_daemon import __version__
from mia_daemon.config import Mode, Settings
from mia_daemon.errors import FileFormatError
from mia_daemon.execution.inputs import TapeEntry
from mia_daemon.execution.tape_file import FILE_NAME, TapeFile, read_beginning
from mia_daemon.feed.recorder import Recorder
from mia_daemon.records import Alert, AlertSink, EventArray, Priority
from mia_daemon.trading.assembly import AccountBeginning

MACRO_EVENTS: Final = "macro_events.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBeginning:
    """What a session began with, beside the state of its features and its market memory.

    Attributes:
        run_id, mode, version: of the run, and of the program.
        settings: the effective configuration.
        bundle_sha256, catalogue_sha256: of the models, and of the feature definitions.
        cash: starting cash, account currency, before anything in the journal.
        time_scale: event seconds per real second.
        has_own_clock: whether times in the broker's reports are those of a server's clock.
        replaces: whether the broker changed working orders.
        account: as earlier runs left it.
        entered_on: the 350 values of the decision that opened the position held; empty where there is none.
    """

    run_id: str
    mode: Mode
    version: str = __version__
    settings: dict[str, Any]
    bundle_sha256: str
    catalogue_sha256: str
    cash: float
    time_scale: float
    has_own_clock: bool
    replaces: bool
    account: AccountBeginning
    entered_on: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        account, left = self.account, self.account.left
        if left is not None:  # positions of other contracts are named by pairs, and not needed
            account = replace(account, left=replace(left, account=replace(left.account, positions={})))
        return asdict(replace(self, account=account))

    @classmethod
    def read(cls, recording: Path) -> Self:
        """The beginning that the recording in this directory states. Raises FileFormatError."""
        try:
            found: Self = TypeAdapter(cls).validate_python(read_beginning(recording))
        except ValidationError as error:
            raise FileFormatError(
                f"{recording / FILE_NAME} was written by another version: replay it with that one, or with --refill"
            ) from error
        return found

    def session_settings(self, recording: Path) -> Settings:
        """The session's configuration, with the announcements that were recorded with it. Raises FileFormatError."""
        instrument = dict(self.settings["instrument"])
        symbol = instrument.pop("symbol") if instrument.get("root") is not None else None  # a file names one of both
        try:
            settings = Settings.model_validate_json(
                json.dumps({**self.settings, "instrument": instrument}), strict=True
            )
        except ValidationError as error:
            raise FileFormatError(
                f"{recording / FILE_NAME} has a configuration that this version refuses: replay it with the version "
                f"that recorded it ({self.version}), or with --refill"
            ) from error
        if symbol is not None:
            named = settings.instrument.model_copy(update={"symbol": symbol})
            settings = settings.model_copy(update={"instrument": named})
        if (announced := recording / MACRO_EVENTS).exists():
            windows = settings.windows.model_copy(update={"macro_events_csv": announced})
            return settings.model_copy(update={"windows": windows})
        return settings


def recorded_settings(settings: Settings) -> dict[str, Any]:
    """The effective configuration, with the bundle at a path that is the same from every directory."""
    effective = settings.effective()
    if settings.model.bundle is not None:
        effective["model"] = {**effective["model"], "bundle": str(settings.model.bundle.absolute())}
    return effective


class SessionRecorder:
    """Writes both files of a session's recording. When one can't be written, recording stops and trading goes on.

    Args:
        directory: of the recording, made when missing.
        symbol: of the traded instrument.
        started_ns: when the session began, wall clock.
        on_alert: receives one alert when recording stops.

    Raises:
        StartError: the files can't be made.
    """

    def __init__(self, directory: Path, symbol: str, started_ns: int, on_alert: AlertSink) -> None:
        self.directory = directory
        self._events = Recorder(directory, symbol, started_ns, on_alert)
        self._tape: TapeFile | None = None
        self._waiting: list[TapeEntry] = []  # until the file is begun
        self._on_alert = on_alert
        self._stopped = False
        self._newest_ns = started_ns

    def begin(self, beginning: SessionBeginning, macro_events: Path | None) -> None:
        """State what the session began with."""
        try:
            if macro_events is not None:
                shutil.copyfile(macro_events, self.directory / MACRO_EVENTS)
            self._tape = TapeFile(self.directory, beginning.as_dict())
        except OSError as error:
            self._stop(error)
            return
        for entry in self._waiting:
            self._tape.add(entry)
        self._waiting.clear()
        self.flush()

    # The tape.

    def add(self, entry: TapeEntry) -> None:
        """Append an input, or what happened while it was processed."""
        if self._tape is not None:
            self._tape.add(entry)
        elif not self._stopped:
            self._waiting.append(entry)

    def flush(self) -> None:
        """Write the inputs processed so far."""
        if self._tape is None:
            return
        try:
            self._tape.flush()
        except (OSError, TypeError, ValueError) as error:  # the last two: an entry that is no JSON; trading goes on
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        if self._tape is not None:
            self._tape.close()
        self._tape, self._stopped = None, True
        self._waiting.clear()
        reason = error.strerror if isinstance(error, OSError) else error
        text = (
            f"recording the inputs to {self.directory / FILE_NAME} stopped: {reason}; trading goes on, and "
            "the session can be repeated up to here"
        )
        self._on_alert(Alert(self._newest_ns, "inputs_not_recorded", Priority.ERROR, text))

    # Market events.

    def record(self, events: EventArray) -> None:
        """Write a batch that was processed, with the inputs up to it."""
        self._newest_ns = int(events["recv_ns"][-1])
        self.flush()
        self._events.append(events)

    def close(self) -> None:
        self.flush()
        self._events.close()
        if self._tape is not None:
            self._tape.close()
            self._tape = None
