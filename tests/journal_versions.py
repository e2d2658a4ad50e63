"""The tables of the journal's earlier versions, as released: never to be changed."""

TABLES_1 = """
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
    bundle_sha256 TEXT NOT NULL,
    catalogue_sha256 TEXT NOT NULL
) STRICT;

CREATE TABLE decisions (
    decision_id TEXT PRIMARY KEY,
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
    context TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE intents (
    number INTEGER PRIMARY KEY,
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
    number INTEGER PRIMARY KEY,
    client_order_id TEXT NOT NULL,
    ts_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    price REAL,
    quantity INTEGER,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX requests_of ON requests (client_order_id);

CREATE TABLE updates (
    number INTEGER PRIMARY KEY,
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
CREATE INDEX fills_of ON fills (symbol, account, number);

CREATE TABLE trades (
    number INTEGER PRIMARY KEY,
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
    ts_ns INTEGER NOT NULL,
    equity REAL NOT NULL,
    peak REAL NOT NULL,
    position INTEGER NOT NULL,
    unrealized REAL NOT NULL,
    realized_today REAL NOT NULL
) STRICT;

CREATE TABLE alerts (
    number INTEGER PRIMARY KEY,
    ts_ns INTEGER NOT NULL,
    code TEXT NOT NULL,
    priority INTEGER NOT NULL,
    text TEXT NOT NULL,
    context TEXT NOT NULL
) STRICT;

CREATE TABLE commands (
    number INTEGER PRIMARY KEY,
    ts_ns INTEGER NOT NULL,
    command TEXT NOT NULL,
    by TEXT NOT NULL,
    result TEXT NOT NULL
) STRICT;

CREATE TABLE latches (
    number INTEGER PRIMARY KEY,
    code TEXT NOT NULL,
    ts_ns INTEGER NOT NULL,
    context TEXT NOT NULL,
    cleared_ns INTEGER,
    cleared_by TEXT
) STRICT;
CREATE UNIQUE INDEX latches_set ON latches (code) WHERE cleared_ns IS NULL;
"""

TABLES_2 = """
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
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
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
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
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
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
    ts_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    price REAL,
    quantity INTEGER,
    reason TEXT NOT NULL,
    PRIMARY KEY (client_order_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE updates (
    number INTEGER PRIMARY KEY,
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
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
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
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
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
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
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
    ts_ns INTEGER NOT NULL,
    equity REAL NOT NULL,
    peak REAL NOT NULL,
    position INTEGER NOT NULL,
    unrealized REAL NOT NULL,
    realized_today REAL NOT NULL
) STRICT;

CREATE TABLE alerts (
    number INTEGER PRIMARY KEY,
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
    ts_ns INTEGER NOT NULL,
    code TEXT NOT NULL,
    priority INTEGER NOT NULL,
    text TEXT NOT NULL,
    context TEXT NOT NULL
) STRICT;

CREATE TABLE commands (
    number INTEGER PRIMARY KEY,
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
    ts_ns INTEGER NOT NULL,
    event_ns INTEGER NOT NULL,
    command TEXT NOT NULL,
    by TEXT NOT NULL,
    result TEXT NOT NULL
) STRICT;

CREATE TABLE latches (
    number INTEGER PRIMARY KEY,
    run INTEGER GENERATED ALWAYS AS (number / 10000000000),
    code TEXT NOT NULL,
    ts_ns INTEGER NOT NULL,
    context TEXT NOT NULL,
    cleared_ns INTEGER,
    cleared_by TEXT
) STRICT;
CREATE UNIQUE INDEX latches_set ON latches (code) WHERE cleared_ns IS NULL;
"""
