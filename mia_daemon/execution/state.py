"""How we stand with the server: whether it can be reached, what it last said, and what it is to be asked."""

from dataclasses import dataclass


@dataclass(slots=True)
class BrokerSync:
    """Told by what the broker says, looked at before anything is sent.

    Attributes:
        link_up: the order connection stands.
        agreed: the books were compared with the server's and agree; no new risk before.
        question: why its books are to be asked for; "" when there is no reason to.
        position: contracts, signed, as it last said; None before it has said so.
    """

    link_up: bool = True
    agreed: bool = False
    question: str = "the start"
    position: int | None = None

    def ask(self, why: str) -> None:
        """The books are to be compared; a reason already given stays."""
        self.question = self.question or why
