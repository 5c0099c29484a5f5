"""Deviances and quantiles: which targets they take, where a fit starts, what is predicted."""

import numpy as np


def check_targets(problem, y, name="y"):
    """Raise ValueError where a target lies outside the domain of the loss, naming its row."""
    if not problem.has_log_link:
        return
    power = problem.power_in_use
    bad = y <= 0 if power >= 2 else y < 0
    if not bad.any():
        return
    row = int(np.argmax(bad))
    said = f"loss={problem.loss!r}"
    if problem.loss == "tweedie":
        said += f" with power={problem.power}"
    raise ValueError(
        f"{name}[{row}] is {y[row]!r}, but {said} needs targets {'>' if power >= 2 else '>='} 0 "
        f"({int(bad.sum())} of {len(y)} are not): drop or clip these rows, or choose another loss."
    )


def typical_target(problem, y, sample_weight=None):
    """The constant prediction that costs least, in units of the target."""
    if sample_weight is None or not np.any(sample_weight > 0):
        sample_weight = None
    if problem.loss != "quantile":
        return float(np.average(y, weights=sample_weight))
    if sample_weight is None:
        return float(np.quantile(y, problem.quantile, method="inverted_cdf"))
    order = np.argsort(y, kind="stable")
    share = np.cumsum(sample_weight[order])
    at = np.searchsorted(share, problem.quantile * share[-1])
    return float(y[order[min(at, len(y) - 1)]])


def starting_intercept(problem, y, sample_weight=None):
    """The intercept that fits y alone, where 0 would be a bad start; else 0.

    scikit-learn's generalised linear models start there too: exp of a far-off prediction is
    either flat or huge.
    """
    if not problem.fit_intercept or not (problem.has_log_link or problem.loss == "quantile"):
        return 0.0
    typical = typical_target(problem, y, sample_weight)
    if not problem.has_log_link:
        return typical
    return float(np.log(typical)) if typical > 0 else 0.0
