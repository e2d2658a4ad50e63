"""A client that asks for N levels holds exactly the best N of the whole book, whatever happens to it."""

from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc import messages as dtc
from mia_daemon.simulator.depth_view import DepthView, DepthViews
from mia_daemon.simulator.order_book import BUY, SELL
from mia_daemon.simulator.tape import DepthEvent, QuoteEvent

SYMBOL = "ESZ26_FUT_CME"


class Book:
    """All levels of both sides."""

    def __init__(self):
        self.sides = {BUY: {}, SELL: {}}

    def depth(self, side):
        prices = sorted(self.sides[side], reverse=side == BUY)
        return [(price, *self.sides[side][price]) for price in prices]

    def set(self, side, price, quantity):
        """The event of a level that has now this quantity; None where nothing changes."""
        levels = self.sides[side]
        known = price in levels
        if not quantity:
            if not known:
                return None
            del levels[price]
        else:
            levels[price] = (quantity, 1 + quantity % 3)
        return DepthEvent(1, side, price, *levels.get(price, (0, 0)), is_new=not known, final=False)


class Reader:
    """A client's book: what is reported is applied, and has to fit what is known."""

    def __init__(self, book, levels):
        self.sides = {side: {price: state for price, *state in book.depth(side)[:levels]} for side in (BUY, SELL)}

    def apply(self, event):
        levels = self.sides[event.side]
        if not event.quantity:
            del levels[event.price]
            return
        assert event.is_new == (event.price not in levels)
        levels[event.price] = [event.quantity, event.orders]

    def depth(self, side):
        return [(price, *self.sides[side][price]) for price in sorted(self.sides[side], reverse=side == BUY)]


CHANGE = st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 12), st.integers(0, 4))
GROUPS = st.lists(st.lists(CHANGE, min_size=1, max_size=6), max_size=30)


@given(st.lists(CHANGE, max_size=20), GROUPS, st.integers(1, 5))
def test_a_client_of_some_levels_holds_the_best_of_the_whole_book_after_every_batch(before, groups, levels):
    book = Book()
    for change in before:
        book.set(*change)
    view, reader = DepthView(book, levels), Reader(book, levels)
    for group in groups:
        events = [event for change in group if (event := book.set(*change)) is not None]
        if not events:
            continue
        events[-1] = events[-1]._replace(final=True)
        shown = view.follow(events)
        for event in shown:
            reader.apply(event)
            assert len(reader.sides[event.side]) <= levels
        assert [event.final for event in shown] == [False] * (len(shown) - 1) + [True] * bool(shown)
        for side in (BUY, SELL):
            assert reader.depth(side) == book.depth(side)[:levels]


def test_a_batch_beyond_the_visible_levels_is_not_reported():
    book = Book()
    for price in (10, 9, 8):
        book.set(BUY, price, 1)
    view = DepthView(book, 2)
    quote = QuoteEvent(1, 10, 1, 11, 1)
    assert view.follow([book.set(BUY, 8, 3)._replace(final=True), quote]) == [quote]


def test_a_level_that_is_pushed_out_is_reported_as_gone_and_as_new_when_it_is_back():
    book = Book()
    for price in (10, 9):
        book.set(BUY, price, 1)
    view = DepthView(book, 2)
    came = view.follow([book.set(BUY, 11, 5)._replace(final=True)])
    assert [(e.price, e.quantity, e.is_new) for e in came] == [(9, 0, False), (11, 5, True)]
    back = view.follow([book.set(BUY, 11, 0)._replace(final=True)])
    assert [(e.price, e.quantity, e.is_new) for e in back] == [(11, 0, False), (9, 1, True)]


def test_a_view_is_shared_and_given_up_when_nobody_wants_it():
    book = Book()
    views = DepthViews(book)
    views.open(2)
    views.open(2)
    event = book.set(BUY, 10, 1)._replace(final=True)
    assert views.follow([event], {2, None}) == {2: [event]}
    assert views.follow([], {None}) == {}
    views.open(2)  # starts with the book as it is by then
    assert views.follow([], {2}) == {2: []}


async def test_clients_of_different_numbers_of_levels_each_hold_the_best_of_the_servers_book(serving):
    async with serving(speed=30) as running:
        clients = {levels: await running.connect(integer_1=0x800) for levels in (1, 3, 10, 0)}
        for levels, client in clients.items():
            client.send(dtc.MarketDepthRequest(SymbolID=3, Symbol=SYMBOL, NumLevels=levels))
        for levels, client in clients.items():
            for _ in range(200):
                await client.of(dtc.MarketDepthUpdateLevel)
            client.send(dtc.MarketDepthRequest(RequestAction=3, SymbolID=4, Symbol=SYMBOL, NumLevels=levels))
            await client.of(dtc.MarketDepthSnapshotLevelFloat, SymbolID=4, FinalUpdateInBatch=1)
            books = {3: {}, 4: {}}
            for m in client.seen:
                if isinstance(m, dtc.MarketDepthSnapshotLevelFloat):
                    books[m.SymbolID][m.Side, m.Price] = m.Quantity
                elif isinstance(m, dtc.MarketDepthUpdateLevel) and m.UpdateType == 2:
                    del books[3][m.Side, m.Price]
                elif isinstance(m, dtc.MarketDepthUpdateLevel):
                    books[3][m.Side, m.Price] = m.Quantity
            assert books[3] == books[4]
            assert len(books[3]) == 2 * levels or not levels
