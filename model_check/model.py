"""The state of the whole (our orders, the server's, the messages between them), what may happen next, and what must
hold whatever happens.

What happens on our side depends on our state and one message, and what happens at the server on its own. Both are
computed once by the real code and remembered, so that a million combinations of them are cheap.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from model_check import checks
from model_check.checks import NO_EVIDENCE, Evidence
from model_check.ours import Ours, OurSide
from model_check.states import COSTS, Event, Known, Left, Numbered, State, Step, possible
from model_check.venue import (
    ENTRY,
    ORDERS,
    STOP,
    Answer,
    Habits,
    Message,
    Request,
    Server,
    ServerOrder,
    Update,
    moves,
    receive,
)

MAX_IN_FLIGHT: Final = 8

MAX_ANSWERS: Final = 2
"""Complete answers after which all must agree."""


class Model:
    """Gives the states that may follow a state.

    Attributes:
        known, servers, messages: by number.
        answers: how many complete answers it took until all agreed, and how often.
    """

    def __init__(self, habits: Habits, left: Left) -> None:
        self.known: Numbered[Known] = Numbered()
        self.servers: Numbered[Server] = Numbered()
        self.messages: Numbered[Message] = Numbered()
        self.answers: Counter[int] = Counter()
        self._habits, self._left = habits, left
        self._side = OurSide()
        self._protection: dict[int, int] = {}
        self._moved: dict[int, list[tuple[str, int, int, tuple[int, ...]]]] = {}
        self._received: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}
        self._happened: dict[tuple[int, Event], tuple[int, tuple[int, ...], str]] = {}
        self._possible: dict[int, list[Event]] = {}
        self._checked: dict[tuple[int, int], str] = {}
        self._settled: dict[tuple[int, int], str] = {}

    # Where the search starts.

    def starts(self) -> Iterator[tuple[str, State]]:
        """The bracket sent; the entry open; the entry filled by half, and whole."""
        known = self.known(Known(self._side.start(), NO_EVIDENCE))
        self._protection[known] = 0
        server = self.servers(Server((ServerOrder(),) * len(ORDERS), self._habits))
        sent = tuple(self.messages(Request("N", place)) for place in (ENTRY, STOP))
        state = State(known, server, sent, self._left)
        yield "the bracket is sent", state
        unheard = self._after_move(self._at_rest(state, deliver=False), "fills 1", ENTRY)
        yield "the entry has filled one of two contracts, and nothing was received of it", unheard
        state = self._at_rest(state)
        yield "the entry is open", state
        for text in ("one of two contracts", "both contracts"):
            state = self._at_rest(self._after_move(state, "fills 1", ENTRY))
            yield f"the entry has filled {text}, stop and target work", state

    def _at_rest(self, state: State, *, deliver: bool = True) -> State:
        """The server has received what was sent, and opened what is pending; `deliver`: we have heard of it."""
        unheard: tuple[int, ...] = ()
        while state.messages or "opens" in (what for what, *_ in self._moves(state.server)):
            if deliver:
                state, _ = self._delivered(state)
            for number in state.messages:
                if isinstance(self.messages[number], Request):
                    server, sent = self._receive(state.server, number)
                    state, unheard = state._replace(server=server), (*unheard, *sent)
            state = state._replace(messages=())
            for what, _, server, sent in self._moves(state.server):
                if what == "opens":
                    state = state._replace(server=server, messages=sent if deliver else ())
                    unheard = (*unheard, *sent)
                    break
        return state if deliver else state._replace(messages=unheard)

    def _after_move(self, state: State, what: str, order: int) -> State:
        for move, about, server, sent in self._moves(state.server):
            if (move, about) == (what, order):
                return state._replace(server=server, messages=(*state.messages, *sent))
        raise ValueError(f"{what} {order} is not possible")

    def _delivered(self, state: State) -> tuple[State, str]:
        """The state once everything in flight has arrived in order, and what was wrong on the way."""
        wrong = ""
        while state.messages:
            first, *rest = state.messages
            message = self.messages[first]
            if isinstance(message, Request):
                server, sent = self._receive(state.server, first)
                state = state._replace(server=server, messages=(*rest, *sent))
            else:
                event = Event("deliver", first)
                known, sent, undone = self._happen(state.known, event)
                state, wrong = state._replace(known=known, messages=(*rest, *sent)), wrong or undone
        return state, wrong

    # What may happen.

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that may happen next."""
        for what, about, after, wrong in self._steps(state):
            if len(after.messages) <= MAX_IN_FLIGHT:
                state_after = after._replace(messages=tuple(sorted(after.messages)))  # any of them may be the next
                yield Step(what, about, state_after, wrong or self.wrong(state_after))

    def _steps(self, state: State) -> Iterator[Step]:
        for place, message in enumerate(state.messages):
            if message not in state.messages[:place]:
                yield from self._of_message(state, place, message)
        if len(state.messages) > 1:
            after, wrong = self._delivered(state)
            yield Step("everything in flight arrives", 0, after, wrong)
        yield from self._at_server(state)
        yield from self._by_us(state)

    def _of_message(self, state: State, place: int, number: int) -> Iterator[Step]:
        rest = (*state.messages[:place], *state.messages[place + 1 :])
        message, faulty = self.messages[number], self._spent(state, "faults")
        if isinstance(message, Request):
            server, sent = self._receive(state.server, number)
            yield Step("server receives", number, state._replace(server=server, messages=rest + sent), "")
        else:
            event = Event("deliver", number)
            known, sent, wrong = self._happen(state.known, event)
            yield Step("we receive", number, state._replace(known=known, messages=rest + sent), wrong)
            if faulty and isinstance(message, Update):
                again = state._replace(known=known, messages=state.messages + sent, left=faulty)
                yield Step("we receive, and will again", number, again, wrong)
        if faulty:
            known, wrong = state.known, ""
            if isinstance(message, Answer) or message.kind == "Q":
                known, _, wrong = self._happen(known, Event("abandon"))
            yield Step("is lost", number, state._replace(known=known, messages=rest, left=faulty), wrong)

    def _at_server(self, state: State) -> Iterator[Step]:
        faulty = self._spent(state, "faults")
        for what, order, server, sent in self._moves(state.server):
            left = state.left if what not in {"rejects", "cancels by itself"} else faulty
            if left:
                after = State(state.known, server, state.messages + sent, left)
                yield Step(f"server {what}", order, after, "")

    def _by_us(self, state: State) -> Iterator[Step]:
        for event in self._events(state.known):
            left: Left | None = state.left
            if kind := COSTS.get(event.what):
                left = self._spent(state, kind)
            if left is None:
                continue
            known, sent, wrong = self._happen(state.known, event)
            messages = state.messages
            if event.what in {"restart", "disconnect"}:
                messages = tuple(one for one in messages if self.messages[one].kind not in {"A", "Q"})
                if any(self.messages[one].kind == "U" for one in messages):
                    after = State(known, state.server, messages, left)
                    yield Step(f"we {event.what}, and the server repeats itself", 0, after, wrong)
                messages = tuple(one for one in messages if self.messages[one].kind != "U")
            yield Step(f"we {event.what}", event.about, State(known, state.server, messages + sent, left), wrong)

    @staticmethod
    def _spent(state: State, kind: str) -> Left | None:
        """What is left after one more of this kind; None when none was."""
        left: int = getattr(state.left, kind)
        return state.left._replace(**{kind: left - 1}) if left else None

    # Computed once.

    def _moves(self, server: int) -> list[tuple[str, int, int, tuple[int, ...]]]:
        found = self._moved.get(server)
        if found is None:
            found = self._moved[server] = [
                (what, order, self.servers(after), tuple(map(self.messages, sent)))
                for what, order, after, sent in moves(self.servers[server])
            ]
        return found

    def _receive(self, server: int, message: int) -> tuple[int, tuple[int, ...]]:
        found = self._received.get((server, message))
        if found is None:
            request = self.messages[message]
            assert isinstance(request, Request)
            after, sent = receive(self.servers[server], request)
            found = self._received[server, message] = self.servers(after), tuple(map(self.messages, sent))
        return found

    def _happen(self, known: int, event: Event) -> tuple[int, tuple[int, ...], str]:
        """Our side after an event, what it sends, and what is wrong about the change."""
        found = self._happened.get((known, event))
        if found is None:
            before, evidence = self.known[known]
            side = self._side
            side.load(before)
            delivered = self._apply(before, event)
            after, protection = side.read(), side.protection
            evidence = _evidence(evidence, event, delivered, before, after)
            sent = tuple(map(self.messages, side.requests()))
            if event.what == "ask":
                sent = (self.messages(Request("Q", 0)),)
            wrong = checks.undone(before, after, delivered, restarted=event.what == "restart")
            number = self.known(Known(after, evidence))
            self._protection[number] = protection
            found = self._happened[known, event] = number, sent, wrong
        return found

    def _apply(self, before: Ours, event: Event) -> Update | Answer | None:
        side, about = self._side, event.about
        calls: dict[str, Callable[[], None]] = {
            "ask": side.ask,
            "abandon": side.abandon,
            "disconnect": side.disconnect,
            "restart": lambda: side.restart(before.rows, before.drift),
            "cancel again": side.cancel_again,
            "cancel": lambda: side.cancel(about),
            "replace": lambda: side.replace(about),
            "have no answer about": lambda: side.lose(about),
        }
        if event.what != "deliver":
            calls[event.what]()
            return None
        message = self.messages[about]
        if isinstance(message, Update):
            side.update(message, self._habits)
            return message
        assert isinstance(message, Answer)
        side.answer(message, self._habits)
        return message

    def _events(self, known: int) -> list[Event]:
        found = self._possible.get(known)
        if found is None:
            found = self._possible[known] = list(possible(self.known[known].ours))
        return found

    # What must hold.

    def wrong(self, state: State) -> str:
        """What is wrong in a state; "" if nothing is."""
        key = state.known, state.server
        found = self._checked.get(key)
        if found is None:
            ours, evidence = self.known[state.known]
            protection = self._protection[state.known]
            found = self._checked[key] = checks.wrong(ours, evidence, protection, self.servers[state.server])
        return found or self._unsettled(state)

    def _unsettled(self, state: State) -> str:
        """What is left in doubt once everything in flight has arrived and the server has answered in full."""
        after, _ = self._delivered(state)
        key = after.known, after.server
        found = self._settled.get(key)
        if found is None:
            found = self._settled[key] = self._ask_until_settled(after)
        return found

    def _ask_until_settled(self, state: State) -> str:
        known, _, _ = self._happen(state.known, Event("abandon"))
        state = state._replace(known=known)
        wrong = ""
        for asked in range(MAX_ANSWERS + 1):
            wrong = checks.disagreement(self.known[state.known].ours, self.servers[state.server])
            if not wrong and asked:
                self.answers[asked] += 1
                return ""
            known, sent, _ = self._happen(state.known, Event("ask"))
            state, _ = self._delivered(state._replace(known=known, messages=sent))
        return f"after {MAX_ANSWERS} complete answers: {wrong}"


def _evidence(
    evidence: Evidence, event: Event, delivered: Update | Answer | None, before: Ours, after: Ours
) -> Evidence:
    if isinstance(delivered, Update):
        return checks.told_by_update(evidence, delivered)
    if isinstance(delivered, Answer):
        return checks.told_by_answer(evidence, delivered, before, after)
    match event.what:
        case "restart":
            return NO_EVIDENCE
        case "disconnect":
            return checks.doubted(evidence, ORDERS)
        case "have no answer about":
            return checks.doubted(evidence, (event.about,))
    return evidence
