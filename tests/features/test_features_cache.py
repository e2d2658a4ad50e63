"""Compiled kernels are found again by the next process, and never those of another source."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from mia_daemon.errors import StartError
from mia_daemon.features import cache, kernel_source
from mia_daemon.features.kernel_source import source_hash

LOAD = """
import json, time
from mia_daemon.features import cache, kernel_source
from mia_daemon.features.kernel_source import source_hash
said = []
cache.prepare(said.append, time.perf_counter)
from mia_daemon.features.kernels import engine
stats = engine.run.stats
print(json.dumps([said, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]))
"""


@pytest.fixture(autouse=True)
def restore(monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")


def test_another_process_loads_what_this_one_compiled(monkeypatch):
    monkeypatch.undo()
    cache.prepare(lambda _line: None, lambda: 0.0)
    answer = subprocess.run([sys.executable, "-c", LOAD], check=True, capture_output=True, text=True)
    said, hits, misses = json.loads(answer.stdout)
    assert said == []  # nothing to wait for, nothing to say
    assert (hits, misses) == (1, 0)


def test_a_base_given_stays_for_kernels_imported_later(tmp_path, monkeypatch):
    directory = cache.use_cache(tmp_path)
    assert directory.parent == tmp_path
    assert cache.use_cache() == directory
    assert str(directory) == numba.config.CACHE_DIR


def test_without_a_base_the_environment_decides_and_then_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "env"))
    assert cache.use_cache().parent == tmp_path / "env"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.use_cache().parent == tmp_path / ".cache" / "mia-daemon" / "numba"


@pytest.mark.parametrize("base", ["/proc/1/cache", "/dev/null"])
def test_a_base_that_can_not_be_written_is_refused_in_one_sentence(monkeypatch, base):
    """numba would keep kernels beside their sources instead, where stale ones are found."""
    with pytest.raises(StartError, match=f"compiled kernels can't be kept in {base}: .*; set features.cache_dir to a"):
        cache.use_cache(Path(base))


def test_what_no_start_has_used_for_long_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_compile_in_parallel", lambda: None)
    ours = cache.use_cache(tmp_path)
    used, unused, others = tmp_path / "4642a12b7c0788c0-00c0ffee", tmp_path / "6d29696fef03fe5a", tmp_path / "notes"
    for directory in (ours, used, unused, others):
        directory.mkdir()
        (directory / "kernel.nbi").touch()
    for directory, days in ((used, 80), (unused, 100), (others, 100)):
        long_ago = directory.stat().st_mtime - days * 86_400
        os.utime(directory, (long_ago, long_ago))
    cache.prepare(lambda _line: None, lambda: 0.0)
    assert {ours, used, others} == set(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [True, False])
def test_kernels_that_can_not_be_kept_are_said(tmp_path, monkeypatch, kept):
    compiled = cache.use_cache(tmp_path) / "kernels" / "engine.run-1.nbi"

    def compile_kernels():
        if kept:
            compiled.parent.mkdir(parents=True)
            compiled.touch()

    monkeypatch.setattr(cache, "_compile_in_parallel", compile_kernels)
    said = []
    cache.prepare(said.append, lambda: 0.0)
    assert [line for line in said if "compiled in" in line] == ["feature kernels compiled in 0 s"]
    assert [line for line in said if "set features.cache_dir" in line] == ([] if kept else [said[-1]])


@pytest.mark.parametrize("other", ["place", "python"])
def test_what_another_installation_compiled_is_not_taken_for_ours(tmp_path, monkeypatch, other):
    theirs = cache.use_cache(tmp_path) / "kernels" / "engine.run-1.nbi"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    if other == "place":
        monkeypatch.setattr(cache, "__file__", str(tmp_path / "elsewhere" / "cache.py"))
    else:
        monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-999")
    cache.use_cache(tmp_path)
    monkeypatch.setattr(cache, "_compile_in_parallel", lambda: None)
    said = []
    cache.prepare(said.append, lambda: 0.0)
    assert said[0].startswith("compiling the feature kernels")


def test_another_source_has_another_directory(tmp_path, monkeypatch):
    before = source_hash()
    (tmp_path / "kernels").mkdir()
    kernel, constants = tmp_path / "kernels" / "flow.py", tmp_path / "constants.py"
    constants.write_text("SPREADS = 4", encoding="utf-8")
    monkeypatch.setattr(kernel_source, "__file__", str(tmp_path / "kernel_source.py"))
    hashes = [before]
    for text in ("a = 1", "a = 2"):
        kernel.write_text(text, encoding="utf-8")
        hashes.append(source_hash())
    kernel.rename(tmp_path / "kernels" / "ofi.py")
    hashes.append(source_hash())
    constants.write_text("SPREADS = 5", encoding="utf-8")
    hashes.append(source_hash())
    assert len(set(hashes)) == 5
