"""Deviances and quantiles: which targets they take, where a fit starts, what is predicted."""

import numpy as np
from scipy.special import xlogy


def check_targets(problem, y, name="y"):
    """Raise ValueError where a target lies outside the domain of the loss, naming its row."""
    if not problem.has_log_link:
        return
    power = problem.power_in_use
    bad = y <= 0 if power >= 2 else y < 0
    if not bad.any():
        return
    at = np.unravel_index(int(np.argmax(bad)), y.shape)
    rows = bad if y.ndim == 1 else bad.any(axis=1)
    said = f"loss={problem.loss!r}"
    if problem.loss == "tweedie":
        said += f" with power={problem.power}"
    raise ValueError(
        f"{name}[{', '.join(map(str, at))}] is {float(y[at])!r}, but {said} needs targets {'>' if power >= 2 else '>='} 0 "
        f"({int(rows.sum())} of {len(y)} rows are not): drop or clip these rows, or choose another loss."
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


def own_deviance(power, y):
    """The part of half a target's Tweedie deviance that depends on the target alone."""
    if power == 1:
        return xlogy(y, y) - y
    if power == 2:
        return -np.log(y) - 1.0
    return y ** (2.0 - power) / ((1.0 - power) * (2.0 - power))


def half_deviance(power, own, y, weight, mean):
    """Half the Tweedie deviance of predicted means; summed up where own, y and weight are sums."""
    if power == 1:
        return own - y * np.log(mean) + weight * mean
    if power == 2:
        return own + weight * np.log(mean) + y / mean
    a, b = 1.0 - power, 2.0 - power
    return own - y * mean**a / a + weight * mean**b / b
