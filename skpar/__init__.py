"""Parallel stochastic gradient descent for linear models, compatible with scikit-learn."""

from importlib.metadata import version

from skpar import sources
from skpar._show_versions import show_versions
from skpar.display import ConvergenceDisplay
from skpar.estimators import (
    HogwildClassifier,
    HogwildRegressor,
    ParallelSGDClassifier,
    ParallelSGDRegressor,
)
from skpar.stream import fit_stream

__version__ = version("skpar")
__all__ = [
    "ConvergenceDisplay",
    "HogwildClassifier",
    "HogwildRegressor",
    "ParallelSGDClassifier",
    "ParallelSGDRegressor",
    "fit_stream",
    "show_versions",
    "sources",
]
