"""What happens between epochs, when no worker runs: history, verbosity, the stopping rule."""

from dataclasses import dataclass

import numpy as np


@dataclass
class EpochInfo:
    """The state of a fit after an epoch."""

    epoch: int
    samples: int
    time: float
    objective: float
    validation_score: float
    step_size: float
    rows_per_second: float


class History:
    """One entry an epoch, as a dict of arrays."""

    def __init__(self):
        self.entries = []

    def add(self, info):
        self.entries.append(dict(vars(info)))

    def end_at(self, objective):
        """Shift the objectives, estimates on one sample of the rows, so that the last is exact."""
        shift = objective - self.entries[-1]["objective"]
        for entry in self.entries:
            entry["objective"] += shift

    def arrays(self):
        keys = EpochInfo.__dataclass_fields__
        return {key: np.array([entry[key] for entry in self.entries]) for key in keys}


def mean_history(histories):
    """One history for several fits of the same rows (one-vs-rest).

    Objective and score are means over the fits; a fit that stopped early keeps its last entry.
    The times add up.
    """
    length = max(len(h["epoch"]) for h in histories)
    longest = next(h for h in histories if len(h["epoch"]) == length)

    def padded(key):
        values = np.empty((len(histories), length))
        for row, history in zip(values, histories, strict=True):
            own = history[key]
            row[: len(own)] = own
            row[len(own) :] = own[-1]
        return values

    merged = {key: padded(key).mean(axis=0) for key in longest}
    merged["epoch"], merged["samples"] = longest["epoch"], longest["samples"]
    merged["time"] = padded("time").sum(axis=0)
    return merged


class StoppingRule:
    """Stop after `patience` epochs in a row that gained less than tol (scikit-learn's rule).

    Values are losses: smaller is better. With tol=None it never stops.
    """

    def __init__(self, tol, patience):
        self.tol, self.patience = tol, patience
        self.best, self.count = np.inf, 0

    def no_more_gain(self, value):
        if self.tol is None:
            return False
        self.count = self.count + 1 if value > self.best - self.tol else 0
        self.best = min(self.best, value)
        return self.count >= self.patience

    def restart(self):
        self.count = 0


def report(info, total):
    """One line an epoch, for verbose > 0."""
    score = "" if np.isnan(info.validation_score) else f", score {info.validation_score:.4f}"
    left = info.time / info.epoch * (total - info.epoch)
    print(
        f"epoch {info.epoch}: objective {info.objective:.6f}{score}, "
        f"{info.rows_per_second:,.0f} rows/s, at most {left:.1f} s left"
    )
