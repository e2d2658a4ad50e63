"""What is wrong with a configuration, in one sentence for each finding: where, what, and what to write instead."""

import difflib
import json
from collections.abc import Collection
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mia_daemon.credentials import SECRET_KEYS
from mia_daemon.setting_types import WAIVABLE, WAIVED

_SHOWN = {"int_type", "float_type", "bool_type", "string_type", "literal_error", "string_pattern_mismatch"}
"""Findings that are clearer beside what was found."""

_MOST_FINDINGS = 5
"""Findings named in one error."""

_MOST_SHOWN = 60
"""Characters of a key or a value in an error."""


def explain(error: ValidationError, root: type[BaseModel], options: Collection[str] = ()) -> str:
    """Pydantic's findings about the settings `root`; those of the keys `options` are marked as the command line's.

    Unknown keys come first: a misspelt key is often why another counts as missing.
    """
    findings = sorted(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden")
    more = [f"and {len(findings) - _MOST_FINDINGS} more"] if len(findings) > _MOST_FINDINGS else []
    named = [
        _explain_one(finding, root) + (" (an option of the command line)" if setting_of(finding) in options else "")
        for finding in findings[:_MOST_FINDINGS]
    ]
    return "; ".join([*named, *more])


def setting_of(finding: ErrorDetails) -> str:
    """`table.key` of what a finding is about."""
    return ".".join(map(str, finding["loc"][:2]))


def _explain_one(finding: ErrorDetails, root: type[BaseModel]) -> str:
    kind, location, message = finding["type"], finding["loc"], finding["msg"]
    key = _shortened(".".join(map(str, location)))
    if kind == "missing":
        of_limits = location[0] == "risk"
        remedy = f'every limit has to be set, or to be waived by the word "{WAIVED}"' if of_limits else "set it"
        return f"{key} is missing: {remedy}"
    if kind == "extra_forbidden":
        known = _known_names(location[:-1], root)
        near = difflib.get_close_matches(str(location[-1])[:_MOST_SHOWN], known, n=1)
        return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}")
    waive = f', or "{WAIVED}" where nothing is to be limited' if _is_waivable(location, root) else ""
    if kind == "less_than_equal":
        bound = f"{finding['ctx']['le']:.15g}"
        return f"{key}: {_shown(finding['input'])} is more than can be meant: write {bound} at most{waive}"
    if kind == "finite_number":
        return f"{key}: write a number, not infinity or NaN{waive}"
    found = f", not {_shown(finding['input'])}" if kind in _SHOWN and key not in SECRET_KEYS else ""
    return f"{key + ': ' if key else ''}{message.removeprefix('Value error, ')}{found}"


def _shown(value: object) -> str:
    return _shortened(json.dumps(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _model_at(parents: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel] | None:
    """The table of this name; None where a setting is no table."""
    found: Any = root
    for name in parents:
        found = _nested(found, str(name))
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _nested(table: Any, name: str) -> Any:
    """The annotation of what a table, or a table of tables, has under a name; None where it has nothing there."""
    if get_origin(table) is dict:
        return get_args(table)[1]
    field = getattr(table, "model_fields", {}).get(name)
    if field is None or not isinstance(field.annotation, UnionType):
        return None if field is None else field.annotation
    return next((one for one in get_args(field.annotation) if one is not type(None)), None)


def _known_names(parents: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    model = _model_at(parents, root)
    return [] if model is None else sorted(model.model_fields)


def _is_waivable(location: tuple[int | str, ...], root: type[BaseModel]) -> bool:
    model = _model_at(location[:-1], root) if location else None
    field = None if model is None else model.model_fields.get(str(location[-1]))
    return field is not None and WAIVABLE[0] in field.metadata
