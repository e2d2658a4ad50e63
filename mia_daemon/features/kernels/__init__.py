"""Incremental state, one module a family, O(1) amortized per event; `market` has the conventions they share."""

from mia_daemon.features.cache import use_cache

use_cache()  # before the first kernel is decorated: numba asks then where compiled code is kept
