"""Deliberately broken plugins, one thing wrong with each, by the check that is meant for it."""

from tests.checks.rogues import datasets, methods, metrics, missingness, others
from tests.checks.rogues.table import GALLERY, Rogue

__all__ = ["GALLERY", "Rogue", "datasets", "methods", "metrics", "missingness", "others"]
