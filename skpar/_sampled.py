"""A start from some of the rows: a Newton fit's first steps need not read them all.

An optimum on m rows is off by some d / 2m nats (Bottou & Bousquet 2007), after which a step or two
on all rows reach the end. Rows held out of the sample say when to stop: where few rows can be
told apart perfectly and all can not, their optimum lies far off.
"""

from dataclasses import replace

import numpy as np

from skpar._descent import Descent
from skpar._gram import gram_work
from skpar._newton import Matrix
from skpar._objective import Objective

# The share of the rows in a sample, and the fewest a column, of at most a quarter of all.
SHARE = 8
ROWS_PER_COLUMN = 20
LEAST_SHARE = 4
MOST_STEPS = 10
# A step on all rows that costs less is as soon taken as one on a sample.
LEAST_WORK = 1 << 22


def start_from_sample(objective, frame, x, l1):
    """The best of x and the points on the way to a sample's optimum, by rows held out."""
    batch, n = objective.batch, objective.n
    rows = max(n // SHARE, ROWS_PER_COLUMN * objective.d)
    if gram_work(batch, n) < LEAST_WORK or LEAST_SHARE * rows > n:
        return x
    # The penalty of the sum over all rows: what few rows say of a rare column is not trusted more.
    problem = replace(objective.problem, alpha=objective.problem.alpha * n / rows)
    sample, held_out = (Objective(problem, b, objective.team) for b in _drawn(batch, rows))
    descent = Descent(sample, x, l1 * n / rows, (frame, Matrix(sample, frame, rows)))
    best, value = x, _value(held_out, x, descent.l1)
    for _ in range(MOST_STEPS):
        descent.aim()
        # Below what the sample cannot tell there is nothing to gain.
        if descent.gap <= max(0.0, value - descent.value) or not descent.move():
            break
        there = _value(held_out, descent.point.x, descent.l1)
        if not there < value:
            break
        best, value = descent.point.x, there
    objective.passes += (sample.passes + held_out.passes) * rows / n
    return best


def _value(objective, x, l1):
    value = objective.value(x, objective.margins(x))
    return value + l1 * float(np.abs(x[: objective.d]).sum()) if l1 else value


def _drawn(batch, rows):
    """Two batches of so many rows each, one of every stretch of the data for either."""
    n = batch.n_rows
    edges = np.linspace(0, n, rows + 1)[:-1]
    at = np.random.default_rng(0).random((2, rows)) * 0.5 + np.array([[0.0], [0.5]])
    at = np.minimum((edges + at * (n / rows)).astype(np.int64), n - 1)
    subset = at if batch.subset is None else batch.subset[at]
    return [replace(batch, subset=own) for own in subset]
