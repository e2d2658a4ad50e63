"""What the specification wants gone is nowhere: the input `obs_t`, the data service dxFeed, 320 or 81 features."""

import io
import re
import tokenize
from pathlib import Path

import pytest

from mia_daemon.features import catalogue
from mia_daemon.model import bundle
from mia_daemon.model.manifest import SELECTED

PROJECT = Path(__file__).resolve().parent.parent
TEXTS = {".py", ".md", ".toml", ".csv", ".json", ".service", ".txt", ""}
SAYS_SO = PROJECT / "docs" / "specification.md"  # the one place that names them: as what must be absent

GONE = re.compile(r"\bobs_t\b|dx[\s_-]?feed", re.IGNORECASE)
COUNTS = re.compile(r"\b(?:320|81)[\s_-]*(?:shap[\s_-]*)?(?:feature|value|input|column|dimension)s?\b", re.IGNORECASE)


def program_files():
    """Text files of the program, its configuration and its documents; not requirements, whose hashes are no words."""
    places = ["mia_daemon", "etc", "docs", "systemd", "benchmarks", "fault_simulation", "model_check"]
    single = ["README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "SECURITY.md", "var/README.md"]
    below = [path for place in places for path in (PROJECT / place).rglob("*")]
    files = [*below, *(PROJECT / name for name in single)]
    return [
        path
        for path in files
        if path.is_file() and path.suffix in TEXTS and "__pycache__" not in path.parts and path != SAYS_SO
    ]


def lines_with(pattern):
    return [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()}"
        for path in program_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize(
    ("pattern", "found", "passed"),
    [
        (GONE, ("obs_t = row", "from dxFeed", "dx_feed"), ("obs_template", "jobs_to_do")),
        (COUNTS, ("320 features", "81-feature", "the 81 SHAP features"), ("350 features", "320 ms", "81.5")),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, found, passed):
    assert all(map(pattern.search, found))
    assert not any(map(pattern.search, passed))


def test_no_obs_t_and_no_dxfeed():
    assert lines_with(GONE) == []


def test_no_320_and_no_81_features():
    assert lines_with(COUNTS) == []


def test_the_program_has_no_number_320_or_81():
    """Not even without a word beside it: no size of an array, no bound of a loop."""
    sources = {path: path.read_text(encoding="utf-8") for path in (PROJECT / "mia_daemon").rglob("*.py")}
    found = [
        f"{path.relative_to(PROJECT)}:{token.start[0]}"
        for path, source in sources.items()
        if re.search(r"3_?20|8_?1", source)  # taking all of them apart would take seconds
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NUMBER and token.string.replace("_", "") in {"320", "81"}
    ]
    assert found == []


def test_it_is_350_features_of_which_150_are_used():
    assert (catalogue.COUNT, len(catalogue.FEATURES), SELECTED) == (350, 350, 150)
    assert len(bundle.load(bundle.shipped()).selected) == 150


def test_the_files_that_are_looked_at_are_the_program():
    names = {str(path.relative_to(PROJECT)) for path in program_files()}
    assert {"mia_daemon/model/inference.py", "etc/mia.toml", "docs/features.md", "README.md", "Makefile"} <= names
    assert len(names) > 300
