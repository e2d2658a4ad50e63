"""What a planted bug is: what it changes, and the first seed that finds it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fault_simulation.plan import Wanted

Change = tuple[Any, str, Any]
"""A class or module, the name of a method or function in it, and what takes its place."""


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A bug of the daemon.

    Attributes:
        changes: makes what it replaces.
        seed: the first that finds it; a change of the daemon may move it.
        wanted: with this.
    """

    changes: Callable[[], list[Change]]
    seed: int
    wanted: Wanted

    @property
    def text(self) -> str:
        """What it does wrong, one sentence."""
        return " ".join((self.changes.__doc__ or "").split())
