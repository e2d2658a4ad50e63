"""docs/specification.md is true of the tree, and the check that says so finds what is not."""

import tomllib
from pathlib import Path

import pytest

from docs import specification

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / specification.PAGE).read_text(encoding="utf-8")


def findings(text):
    return list(specification.findings(text, PROJECT))


def test_the_page_is_true_of_the_tree():
    assert findings(PAGE) == []


ROW = "| x | `mia_daemon/stage.py::Stage` | `tests/test_specification.py::test_the_page_is_true_of_the_tree` |"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("mia_daemon/stage.py", "mia_daemon/gone.py"), "there is no mia_daemon/gone.py"),
        (("::Stage", "::Gone"), "mia_daemon/stage.py has no Gone"),
        (("::Stage", "::Stage.gone"), "mia_daemon/stage.py has no Stage.gone"),
        (("tests/test_specification.py", "tests/gone.py"), "there is no tests/gone.py"),
        (("test_the_page", "test_no_page"), "has no test_no_page_is_true_of_the_tree"),
        (("::test_the_page_is_true_of_the_tree", ""), "the row names no test"),
    ],
)
def test_what_is_not_there_is_found(changed, says):
    table = f"| asked | place | test |\n|---|---|---|\n{ROW}\n"
    files = PAGE[PAGE.index("## Files") :].partition("## live_trading")[0]
    assert findings(table + "\n" + files) == []
    (found,) = findings(table.replace(*changed) + "\n" + files)
    assert says in found
    assert "specification.md:3" in found


def test_a_member_of_a_class_and_a_constant_are_names():
    assert findings(PAGE + "\n`mia_daemon/stage.py::Stage.name` `mia_daemon/ops/metrics.py::COLUMNS`\n") == []


@pytest.mark.parametrize("path", specification.COLUMNS)
def test_another_column_is_found(path):
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `var/{path}` |")]
    (found,) = findings(PAGE.replace(line, line.replace("timestamp", "time")))
    assert f"var/{path} needs a row" in found


def test_the_libraries_that_are_named_are_dependencies():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    named = {text.partition(">")[0].partition("[")[0].partition("=")[0] for text in project["dependencies"]}
    wanted = {"uvloop", "numpy", "pandas", "onnxruntime", "aiofiles", "structlog", "tenacity", "psutil", "pydantic"}
    assert wanted <= named
    assert any(text.startswith("pytest-asyncio") for text in project["optional-dependencies"]["test"])


def test_the_top_level_is_as_named():
    for name in ("pyproject.toml", "Makefile"):
        assert (PROJECT / name).is_file()
    for name in ("mia_daemon", "tests", "etc", "var", "systemd"):
        assert (PROJECT / name).is_dir()
