"""From version 2 of the journal to version 3: fills are unique within their order; reported positions, firings.

As released: it does not follow later changes of `schema`.
"""

from typing import Final

from mia_daemon.journal.schema import PER_RUN

_RUN: Final = f"run INTEGER GENERATED ALWAYS AS (number / {PER_RUN})"

# A fill without an order of ours is a change of the position that was taken over.
_SOURCE_OF_2: Final = "CASE client_order_id WHEN '' THEN 'external' ELSE 'update' END"

_FILL_OF_2: Final = """\
number, execution_id, ts_ns, client_order_id, server_order_id, symbol, account, side, quantity, price, position"""

STATEMENTS: Final = (
    "ALTER TABLE fills RENAME TO fills_2",
    f"""
    CREATE TABLE fills (
        number INTEGER PRIMARY KEY,
        {_RUN},
        execution_id TEXT NOT NULL,
        ts_ns INTEGER NOT NULL,
        client_order_id TEXT NOT NULL,
        server_order_id TEXT NOT NULL,
        symbol TEXT NOT NULL,
        account TEXT NOT NULL,
        side INTEGER NOT NULL CHECK (side IN (1, -1)),
        quantity INTEGER NOT NULL CHECK (quantity > 0),
        price REAL NOT NULL,
        position INTEGER NOT NULL,
        source TEXT NOT NULL DEFAULT 'update',
        UNIQUE (client_order_id, execution_id)
    ) STRICT""",
    f"INSERT INTO fills ({_FILL_OF_2}, source) SELECT {_FILL_OF_2}, {_SOURCE_OF_2} FROM fills_2 ORDER BY number",  # noqa: S608  our text
    "DROP TABLE fills_2",
    "CREATE INDEX fills_of_server_order ON fills (server_order_id)",
    f"""
    CREATE TABLE positions (
        number INTEGER PRIMARY KEY,
        {_RUN},
        ts_ns INTEGER NOT NULL,
        symbol TEXT NOT NULL,
        account TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        average_price REAL,
        unsolicited INTEGER NOT NULL
    ) STRICT""",
    f"""
    CREATE TABLE firings (
        number INTEGER PRIMARY KEY,
        {_RUN},
        ts_ns INTEGER NOT NULL,
        waited_ns INTEGER NOT NULL,
        what TEXT NOT NULL,
        client_order_id TEXT NOT NULL
    ) STRICT""",
)
