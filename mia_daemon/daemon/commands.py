"""The operator commands of a running daemon. Each is journaled with its result and its sender as the kernel states it.

Only `status` is not journaled.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mia_daemon.clock import Clock
from mia_daemon.daemon.kill_switch import KillSwitch
from mia_daemon.errors import JournalError, UsageError
from mia_daemon.ops.alert_manager import AlertManager
from mia_daemon.ops.control import Answer, Handler, Peer
from mia_daemon.ops.logs import Logger
from mia_daemon.risk.codes import LATCHING, Latch, RiskCode, lifted_by
from mia_daemon.risk.override import VALID_S, TwoSteps
from mia_daemon.trading.assembly import TradingAccount

Request = Mapping[str, Any]
Act = Callable[[Request, str], str]
"""Carries out a request; called with the request and its sender, returns one sentence on what was done."""


class Commands:
    """The commands and their handlers.

    Args:
        status: returns the answer to `status`.
        stop: ends the daemon, for this reason.
        say: shows a line at the terminal.
    """

    def __init__(
        self,
        account: TradingAccount,
        alerts: AlertManager,
        switch: KillSwitch,
        clock: Clock,
        log: Logger,
        *,
        status: Callable[[], Answer],
        stop: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._account = account
        self._operator = account.operator
        self._alerts = alerts
        self._switch = switch
        self._clock = clock
        self._log = log
        self._status = status
        self._stop = stop
        self._say = say
        self._override = TwoSteps()

    def handlers(self) -> dict[str, Handler]:
        """The handlers by command, for the control socket."""
        acts: dict[str, Act] = {
            "stop": self._end,
            "halt": self._halt,
            "resume": self._resume,
            "rearm": self._rearm,
            "flatten": self._close,
            "acknowledge": self._acknowledge,
        }
        asked: dict[str, Handler] = {name: self._on_file(name, act) for name, act in acts.items()}
        return {"status": lambda _request, _peer: self._status(), "kill": self._kill, **asked}

    def _on_file(self, name: str, act: Act) -> Handler:
        def handle(request: Request, peer: Peer) -> Answer:
            by = _who(peer)
            result = act(request, by)
            try:
                event_ns = self._account.state.market.now_ns
                self._account.journal.record_command(self._clock.now_ns(), name, by, result, event_ns=event_ns)
            except JournalError as error:  # it was carried out: the sender must know
                self._log.warning("command_not_journaled", command=name, by=by, reason=str(error))
                result = f"{result}; but this is not on file: {error}"
            self._say(f"{name} by {by}: {result}")
            return {"text": result}

        return handle

    def _kill(self, request: Request, peer: Peer) -> Answer:
        flatten = request.get("flatten")
        return {"text": self._switch.pull(_who(peer), flatten=flatten if isinstance(flatten, bool) else None)}

    def _end(self, _request: Request, by: str) -> str:
        self._stop(f"stop by {by}")
        return "stopping"

    def _halt(self, _request: Request, by: str) -> str:
        self._operator.halt(by)
        return "halted: no new positions until resume; the position keeps its stop"

    def _close(self, _request: Request, by: str) -> str:
        self._operator.halt(by)
        self._operator.flatten("operator")
        return "closing the position; halted until resume"

    def _acknowledge(self, request: Request, by: str) -> str:
        name = request.get("name")
        taken = self._alerts.acknowledge(None if name in {None, "all"} else str(name), by, self._clock.now_ns())
        return f"acknowledged {', '.join(taken)}" if taken else "no urgent alert waits to be acknowledged"

    # Lifting latches.

    def _resume(self, request: Request, by: str) -> str:
        code = self._latch_named(request.get("code"))
        if self._switch.file_is_there:
            raise UsageError(f"the kill file {self._switch.path} is there: remove it first, then resume")
        if code is not None and self._operator.still_exceeded(code):
            now_ns = self._clock.monotonic_ns()
            if not self._override.confirm(code, request.get("confirm"), now_ns):
                token = self._override.ask(code, by, now_ns)
                return (
                    f"{code} is still exceeded: to override it, for the rest of the trading day at most, say "
                    f"`mia-daemon resume {code} --confirm {token}` within {VALID_S} s"
                )
        lifted = self._operator.resume(by, code)
        said = f"lifted {', '.join(lifted)}" if lifted else "nothing was lifted"
        return f"{said}; {self._left()}"

    def _latch_named(self, name: object) -> RiskCode | None:
        """The latch to lift; None for all that need no name. Raises UsageError when none of that name is set."""
        if name is None:
            return None
        codes = [latch.code for latch in self._account.risk.latches]
        if name not in codes:
            known = ", ".join(codes) or "none"
            what = "is not set" if name in LATCHING else "is no latch"
            raise UsageError(f"{name} {what}; set now: {known}")
        code = RiskCode(str(name))
        if code is RiskCode.REPEATED_EXECUTION:
            raise UsageError(f"{code} is lifted by `{lifted_by(code)}`, after a look at what was executed")
        return code

    def _left(self) -> str:
        left = self._account.risk.latches
        if not left:
            return "entries are allowed again; orders and position are reconciled"
        return f"still set: {', '.join(map(_how, left))}"

    def _rearm(self, _request: Request, by: str) -> str:
        executed = self._operator.rearm(by)
        return f"rearmed after {executed} entries; {self._left()}"


def _who(peer: Peer) -> str:
    return f"uid {peer.uid} pid {peer.pid}"


def _how(latch: Latch) -> str:
    return f"{latch.code} (until `{lifted_by(latch.code)}`)"
