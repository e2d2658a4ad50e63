"""Which 150 of the 350 the policy sees: the first of feature_importance.csv."""

import csv
import io
import math

from mia_daemon.errors import UsageError
from mia_daemon.features import catalogue

HEADER = ("feature", "shap_value")


def select(content: bytes, file: str, n: int = 150) -> list[str]:
    """The names of the `n` most important features, in the file's order.

    Args:
        content: CSV with the columns feature, shap_value; highest value first.
        file: its name, for the message.
        n: how many.

    Raises:
        UsageError: it is no CSV, or a row is bad, unknown, repeated or out of order, or rows are missing.
    """
    names: list[str] = []
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        if missing := [name for name in HEADER if name not in (reader.fieldnames or ())]:
            raise UsageError(f"{file}, line 1: no column {', '.join(missing)}; the header is {','.join(HEADER)}")
        previous = math.inf
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            previous = _check_value(row["shap_value"], previous, where)
            names.append(_check_name(row["feature"], names, where))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"feature importance {file} is not a UTF-8 CSV file: {error}") from error
    if len(names) < n:
        raise UsageError(f"{file} names {len(names)} features, {n} are needed: compute the importance of all 350")
    return names[:n]


def _check_name(name: str | None, known: list[str], where: str) -> str:
    if not name:
        raise UsageError(f"{where}: the feature's name is missing")
    if name in known:
        raise UsageError(f"{where}: {name} is named a second time; keep one row of it")
    try:
        catalogue.index(name)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return name


def _check_value(text: str | None, previous: float, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise UsageError(f"{where}: shap_value {text or 'missing'} is not a number") from None
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"{where}: shap_value {text} must be finite and not negative (it is a mean of |SHAP|)")
    if value > previous:
        raise UsageError(f"{where}: shap_value {text} is above the row before; sort the file, highest first")
    return value
