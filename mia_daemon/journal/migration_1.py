"""From version 1 of the journal to version 2: one sequence over all tables, in which each run has its own range.

Version 1 numbered each table for itself and named no run. A row's run follows from the order or decision that it names,
else from its time; within a run rows are put in the order of their times, where a row follows what it is about and no
table changes its own order. What version 1 did not record is empty: features, verdicts, the name of the bundle.

As released: it does not follow later changes of `schema`.
"""

# ruff: noqa: S608  the statements are made of our own names

from typing import Final

from mia_daemon.journal.schema import PER_RUN

_RUN: Final = f"run INTEGER GENERATED ALWAYS AS (number / {PER_RUN})"

_TABLES_OF_2: Final = f"""\
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    mode TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    ended_ns INTEGER,
    how TEXT,
    version TEXT NOT NULL,
    config_sha256 TEXT NOT NULL,
    config TEXT NOT NULL,
    bundle_name TEXT NOT NULL,
    bundle_sha256 TEXT NOT NULL,
    catalogue_sha256 TEXT NOT NULL,
    point_value REAL NOT NULL,
    cost_per_side REAL NOT NULL,
    shown TEXT NOT NULL,
    files TEXT NOT NULL
) STRICT;

CREATE TABLE decisions (
    decision_id TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    {_RUN},
    seq INTEGER NOT NULL,
    ts_ns INTEGER NOT NULL,
    action TEXT NOT NULL,
    target INTEGER NOT NULL,
    reason TEXT NOT NULL,
    signal REAL,
    probability REAL,
    p_range REAL,
    p_trend REAL,
    p_defensive REAL,
    policy TEXT NOT NULL,
    out_of_range_share REAL,
    observation_sha256 TEXT NOT NULL,
    bid REAL,
    ask REAL,
    context TEXT NOT NULL,
    verdict TEXT,
    verdict_context TEXT,
    overtrade_risk_score REAL NOT NULL,
    trade_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE features (
    number INTEGER PRIMARY KEY,
    vector BLOB NOT NULL
) STRICT;

CREATE TABLE intents (
    number INTEGER PRIMARY KEY,
    {_RUN},
    client_order_id TEXT NOT NULL UNIQUE,
    ts_ns INTEGER NOT NULL,
    decision_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    account TEXT NOT NULL,
    side INTEGER NOT NULL CHECK (side IN (1, -1)),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    type INTEGER NOT NULL,
    role TEXT NOT NULL,
    price REAL NOT NULL,
    limit_price REAL NOT NULL,
    time_in_force INTEGER NOT NULL,
    parent_id TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT '',
    server_order_id TEXT NOT NULL DEFAULT '',
    last_quantity INTEGER NOT NULL,
    last_price REAL NOT NULL,
    worked INTEGER NOT NULL DEFAULT 0,
    reported INTEGER NOT NULL DEFAULT 0,
    booked INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE requests (
    client_order_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    {_RUN},
    ts_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    price REAL,
    quantity INTEGER,
    reason TEXT NOT NULL,
    PRIMARY KEY (client_order_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE updates (
    number INTEGER PRIMARY KEY,
    {_RUN},
    ts_ns INTEGER NOT NULL,
    client_order_id TEXT NOT NULL,
    server_order_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    account TEXT NOT NULL,
    status TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    filled INTEGER NOT NULL,
    average_fill_price REAL,
    price REAL,
    limit_price REAL,
    text TEXT NOT NULL,
    unsolicited INTEGER NOT NULL
) STRICT;

CREATE TABLE fills (
    number INTEGER PRIMARY KEY,
    {_RUN},
    execution_id TEXT NOT NULL UNIQUE,
    ts_ns INTEGER NOT NULL,
    client_order_id TEXT NOT NULL,
    server_order_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    account TEXT NOT NULL,
    side INTEGER NOT NULL CHECK (side IN (1, -1)),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    price REAL NOT NULL,
    position INTEGER NOT NULL
) STRICT;

CREATE TABLE trades (
    number INTEGER PRIMARY KEY,
    {_RUN},
    trade_id TEXT NOT NULL UNIQUE,
    fill INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    side INTEGER NOT NULL CHECK (side IN (1, -1)),
    quantity INTEGER NOT NULL,
    entry_ns INTEGER NOT NULL,
    exit_ns INTEGER NOT NULL,
    entry_price REAL NOT NULL,
    exit_price REAL NOT NULL,
    gross REAL NOT NULL,
    costs REAL NOT NULL,
    p_range REAL NOT NULL,
    p_trend REAL NOT NULL,
    p_defensive REAL NOT NULL,
    decision_id TEXT NOT NULL,
    exit_reason TEXT NOT NULL
) STRICT;

CREATE TABLE equity (
    number INTEGER PRIMARY KEY,
    {_RUN},
    ts_ns INTEGER NOT NULL,
    equity REAL NOT NULL,
    peak REAL NOT NULL,
    position INTEGER NOT NULL,
    unrealized REAL NOT NULL,
    realized_today REAL NOT NULL
) STRICT;

CREATE TABLE alerts (
    number INTEGER PRIMARY KEY,
    {_RUN},
    ts_ns INTEGER NOT NULL,
    code TEXT NOT NULL,
    priority INTEGER NOT NULL,
    text TEXT NOT NULL,
    context TEXT NOT NULL
) STRICT;

CREATE TABLE commands (
    number INTEGER PRIMARY KEY,
    {_RUN},
    ts_ns INTEGER NOT NULL,
    event_ns INTEGER NOT NULL,
    command TEXT NOT NULL,
    by TEXT NOT NULL,
    result TEXT NOT NULL
) STRICT;

CREATE TABLE latches (
    number INTEGER PRIMARY KEY,
    {_RUN},
    code TEXT NOT NULL,
    ts_ns INTEGER NOT NULL,
    context TEXT NOT NULL,
    cleared_ns INTEGER,
    cleared_by TEXT
) STRICT;
CREATE UNIQUE INDEX latches_set ON latches (code) WHERE cleared_ns IS NULL;
"""

_TABLES_OF_1: Final = (
    "runs", "decisions", "intents", "requests", "updates", "fills", "trades", "equity", "alerts", "commands", "latches",
)  # fmt: skip

# The products of version 1, in USD.
_SYMBOL: Final = "json_extract(config, '$.instrument.symbol')"
_POINT_VALUE: Final = f"""\
CASE WHEN {_SYMBOL} GLOB 'MES*' THEN 5.0 WHEN {_SYMBOL} GLOB 'MNQ*' THEN 2.0 WHEN {_SYMBOL} GLOB 'ES*' THEN 50.0
    WHEN {_SYMBOL} GLOB 'NQ*' THEN 20.0 ELSE 0.0 END"""
_COST_PER_SIDE: Final = f"CASE WHEN {_SYMBOL} GLOB 'M*' THEN 0.35 ELSE 1.0 END"

# Types of rows: those of equal time are in this order.
_DECISION, _INTENT, _REQUEST, _UPDATE, _FILL, _TRADE, _EQUITY, _ALERT, _LATCH, _COMMAND = range(10)


def _named_run(name: str) -> str:
    """The number of the run in a decision id or a client order id; NULL where it names none."""
    return f"(SELECT r.number FROM runs r WHERE r.run_id = substr({name}, 1, instr({name}, '-') - 1))"


def _run_at(time: str, which: str = "") -> str:
    """The number of the last run that had begun then."""
    return f"(SELECT MAX(b.run) FROM begun b WHERE b.event_ns <= {time} {which})"


def _place(row_type: int, table: str, run: str, after: str = "0") -> str:
    """Places the rows of a table: in a run, no earlier than `after`, in the order that they had."""
    return f"""
        INSERT INTO placed (row_type, old, run, at)
        SELECT {row_type}, old, run, MAX(MAX(ts_ns, after_ns)) OVER (PARTITION BY run ORDER BY old)
        FROM (
            SELECT t.number AS old, t.ts_ns, COALESCE({after}, 0) AS after_ns,
                COALESCE(MAX({run}) OVER (ORDER BY t.number), 1) AS run
            FROM {table}_1 t
        )"""


def _place_of_order(row_type: int, table: str) -> str:
    """Of rows about an order: after its intent. Where an order of an earlier run is meant the time decides."""
    run = f"MAX(COALESCE({_named_run('t.client_order_id')}, 1), COALESCE({_run_at('t.ts_ns', 'AND NOT b.replay')}, 1))"
    intended = f"""(SELECT p.at FROM intents_1 i JOIN placed p ON p.row_type = {_INTENT} AND p.old = +i.number
        WHERE i.client_order_id = t.client_order_id)"""
    return _place(row_type, table, run, intended)


def _copy(row_type: int, table: str, columns: str) -> str:
    """Copies a table under its new numbers."""
    return f"""
        INSERT INTO {table} (number, {columns})
        SELECT n.number, {columns} FROM {table}_1 t JOIN numbered n ON n.row_type = {row_type} AND n.old = +t.number
        ORDER BY n.number"""


_OF_DECISION: Final = """\
seq, ts_ns, action, target, reason, signal, probability, p_range, p_trend, p_defensive, policy, out_of_range_share,
    observation_sha256, bid, ask, context"""
_OF_TRADE: Final = """\
symbol, side, quantity, entry_ns, exit_ns, entry_price, exit_price, gross, costs, p_range, p_trend, p_defensive,
    decision_id, exit_reason"""

STATEMENTS: Final = (
    *(f"ALTER TABLE {table} RENAME TO {table}_1" for table in _TABLES_OF_1),
    "DROP INDEX latches_set",
    *(statement for statement in _TABLES_OF_2.split(";") if statement.strip()),
    f"""
    INSERT INTO runs
    SELECT number, run_id, mode, started_ns, ended_ns, how, version, config_sha256, config, '', bundle_sha256,
        catalogue_sha256, {_POINT_VALUE}, {_COST_PER_SIDE}, '{{}}', '{{}}'
    FROM runs_1 ORDER BY number""",
    # The place of every row: `old` is its number, of a decision its id. It has no type, and is compared with what has
    # none (+): else SQLite converts it, and can't look it up.
    """
    CREATE TEMP TABLE placed (
        row_type INTEGER, old, run INTEGER, at INTEGER, PRIMARY KEY (row_type, old)) WITHOUT ROWID""",
    f"""
    INSERT INTO placed (row_type, old, run, at)
    SELECT {_DECISION}, decision_id, run, MAX(ts_ns) OVER (PARTITION BY run ORDER BY seq)
    FROM (SELECT decision_id, seq, ts_ns, COALESCE({_named_run("decision_id")}, 1) AS run FROM decisions_1)""",
    _place(
        _INTENT,
        "intents",
        _named_run("t.client_order_id"),
        f"(SELECT p.at FROM placed p WHERE p.row_type = {_DECISION} AND p.old = +t.decision_id)",
    ),
    # When each run began, in event time: of a simulated run that is not the time of its start.
    f"""
    CREATE TEMP TABLE begun AS
    SELECT r.number AS run, r.mode = 'replay' AS replay,
        COALESCE(
            (SELECT MIN(p.at) FROM placed p WHERE p.row_type IN ({_DECISION}, {_INTENT}) AND p.run = r.number),
            CASE WHEN json_extract(r.config, '$.feed.source') <> 'simulator' AND r.mode <> 'replay'
                THEN r.started_ns END
        ) AS event_ns
    FROM runs r""",
    _place_of_order(_REQUEST, "requests"),
    _place_of_order(_UPDATE, "updates"),
    _place_of_order(_FILL, "fills"),
    f"""
    INSERT INTO placed (row_type, old, run, at)
    SELECT {_TRADE}, old, run, MAX(at) OVER (PARTITION BY run ORDER BY old)
    FROM (
        SELECT t.number AS old, COALESCE(MAX(p.run) OVER (ORDER BY t.number), 1) AS run, COALESCE(p.at, 0) AS at
        FROM trades_1 t LEFT JOIN placed p ON p.row_type = {_FILL} AND p.old = +t.fill
    )""",
    _place(_EQUITY, "equity", _run_at("t.ts_ns")),
    # A fill may have the server's time, later than that of events: a run's last row comes after what made its position.
    f"""
    UPDATE placed SET at = MAX(at, COALESCE((
        SELECT p.at FROM placed p JOIN fills_1 f ON f.number = p.old
        WHERE p.row_type = {_FILL} AND p.run = placed.run
            AND f.position = (SELECT e.position FROM equity_1 e WHERE e.number = placed.old)
        ORDER BY p.old DESC LIMIT 1), 0))
    WHERE row_type = {_EQUITY}
        AND old IN (SELECT MAX(l.old) FROM placed l WHERE l.row_type = {_EQUITY} GROUP BY l.run)""",
    _place(_ALERT, "alerts", _run_at("t.ts_ns")),
    _place(_LATCH, "latches", _run_at("t.ts_ns")),
    # A command has the wall clock's time: in a simulated run its place among the other rows is not known.
    _place(_COMMAND, "commands", "(SELECT MAX(r.number) FROM runs r WHERE r.started_ns <= t.ts_ns)"),
    """
    CREATE TEMP TABLE numbered (row_type INTEGER, old, number INTEGER, PRIMARY KEY (row_type, old)) WITHOUT ROWID""",
    f"""
    INSERT INTO numbered
    SELECT p.row_type, p.old,
        p.run * {PER_RUN} + ROW_NUMBER() OVER (PARTITION BY p.run ORDER BY p.at, p.row_type, d.seq, p.old)
    FROM placed p LEFT JOIN decisions_1 d ON p.row_type = {_DECISION} AND d.decision_id = p.old""",
    f"""
    INSERT INTO decisions
        (decision_id, number, {_OF_DECISION}, verdict, verdict_context, overtrade_risk_score, trade_id)
    SELECT decision_id, n.number, {_OF_DECISION}, NULL, NULL, 0.0, ''
    FROM decisions_1 t JOIN numbered n ON n.row_type = {_DECISION} AND n.old = +t.decision_id ORDER BY decision_id""",
    _copy(
        _INTENT,
        "intents",
        "client_order_id, ts_ns, decision_id, symbol, account, side, quantity, type, role, price, limit_price,"
        " time_in_force, parent_id, status, server_order_id, last_quantity, last_price, worked, reported, booked",
    ),
    _copy(_REQUEST, "requests", "client_order_id, ts_ns, kind, price, quantity, reason"),
    _copy(
        _UPDATE,
        "updates",
        "ts_ns, client_order_id, server_order_id, symbol, account, status, quantity, filled, average_fill_price, price,"
        " limit_price, text, unsolicited",
    ),
    _copy(
        _FILL,
        "fills",
        "execution_id, ts_ns, client_order_id, server_order_id, symbol, account, side, quantity, price, position",
    ),
    f"""
    INSERT INTO trades (number, trade_id, fill, {_OF_TRADE})
    SELECT n.number, trade_id, COALESCE(f.number, 0), {_OF_TRADE}
    FROM trades_1 t JOIN numbered n ON n.row_type = {_TRADE} AND n.old = +t.number
    LEFT JOIN numbered f ON f.row_type = {_FILL} AND f.old = +t.fill
    ORDER BY n.number""",
    _copy(_EQUITY, "equity", "ts_ns, equity, peak, position, unrealized, realized_today"),
    _copy(_ALERT, "alerts", "ts_ns, code, priority, text, context"),
    _copy(_LATCH, "latches", "code, ts_ns, context, cleared_ns, cleared_by"),
    f"""
    INSERT INTO commands (number, ts_ns, event_ns, command, by, result)
    SELECT n.number, ts_ns, 0, command, by, result
    FROM commands_1 t JOIN numbered n ON n.row_type = {_COMMAND} AND n.old = +t.number ORDER BY n.number""",
    *(f"DROP TABLE {table}" for table in ("placed", "begun", "numbered")),
    *(f"DROP TABLE {table}_1" for table in _TABLES_OF_1),
)
