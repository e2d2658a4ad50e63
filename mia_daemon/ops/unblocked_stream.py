"""A stream for people and for the service manager's journal: a reader that does not read never holds up trading."""

import os
import select


class UnblockedStream:
    """Writes to a file descriptor whole texts or nothing, and never waits.

    Attributes:
        open: False once the terminal, or the reader of the pipe, is gone for good.
    """

    def __init__(self, fd: int) -> None:
        self.open = True
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, text: str) -> bool:
        """Whether the text was taken."""
        if not self.open or not any(events & select.POLLOUT for _, events in self._poll.poll(0)):
            return False
        try:
            os.write(self._fd, text.encode(errors="replace"))
        except BlockingIOError:
            return False
        except OSError:
            self.open = False
            return False
        return True
