"""Searches for the hyperparameters of a training, and for s among them (M23 4.5)."""

from reluprime.search.study import SearchConfig, Space, search

__all__ = ["SearchConfig", "Space", "search"]
