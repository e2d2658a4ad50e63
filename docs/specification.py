"""Checks docs/specification.md: every file, symbol and test that it names exists, and every row names a test."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mia_daemon.journal import trade_files
from mia_daemon.ops import metrics

PAGE = "specification.md"

_REFERENCE = re.compile(
    r"`((?:mia_daemon|tests|docs|etc|systemd|benchmarks|fault_simulation|requirements)/[^`:*<> ]+"
    r"|pyproject\.toml|Makefile|README\.md|CHANGELOG\.md)(?:::([\w.]+))?`"
)
_TEST = re.compile(r"`(tests/[^`:]+\.py)::(\w+)`")

COLUMNS = {
    "trades/trades_simulated.csv": trade_files.TRADES,
    "trades/trades_real.csv": trade_files.TRADES,
    "logs/trading/alpha_scores.csv": trade_files.ALPHA_SCORES,
    "logs/trading/decision_log.csv": trade_files.DECISION_LOG,
    "logs/trading/penalty_log.csv": trade_files.PENALTY_LOG,
    **{f"logs/{name}_performance.csv": metrics.COLUMNS for name in metrics.OPERATIONS},
}
"""Of each CSV file below var/ that the daemon writes row by row."""


def findings(text: str, root: Path) -> Iterator[str]:
    """What the page says and the tree at `root` does not have, a sentence each."""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        for path, name in _REFERENCE.findall(line):
            if not (root / path).exists():
                yield f"docs/{PAGE}:{number}: there is no {path}"
            elif name and name not in _names(root / path):
                yield f"docs/{PAGE}:{number}: {path} has no {name}"
    for number, row in _rows(lines):
        if "test" in row and not _TEST.search(row["test"]):
            yield f"docs/{PAGE}:{number}: the row names no test as `tests/path.py::test_name`"
    yield from _columns(dict(_files(lines)))


def _columns(stated: dict[str, str]) -> Iterator[str]:
    for path, columns in COLUMNS.items():
        wanted = ", ".join(columns)
        if stated.get(f"var/{path}") != wanted:
            yield f"docs/{PAGE}: var/{path} needs a row with the columns {wanted}"


def _files(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each file below var/ that a table lists, with its columns as the table has them."""
    for _, row in _rows(lines):
        if "columns or keys" in row:
            for path in re.findall(r"`(var/[^`]+)`", row.get("file", "")):
                yield path, row["columns or keys"].replace("`", "")


def _rows(lines: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row of each table, its cells by the table's header, with the number of its line."""
    header: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not header:
            header = cells
        elif set(line) - set("|-: "):
            yield number, dict(zip(header, cells, strict=False))


@cache
def _names(path: Path) -> frozenset[str]:
    """What a module defines, and `Class.member` of its classes; for other files nothing."""
    if path.suffix != ".py":
        return frozenset()
    return frozenset(_defined(ast.parse(path.read_text(encoding="utf-8")).body))


def _defined(body: list[ast.stmt], within: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"{within}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _defined(node.body, f"{node.name}.")
        targets: list[ast.expr] = list(node.targets) if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign) else []
        yield from (f"{within}{target.id}" for target in targets if isinstance(target, ast.Name))
