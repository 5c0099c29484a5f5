"""Sums of outer products of all rows (`_kernels.products`), shared out among workers.

Small matrices are summed in spans of the rows; large ones, of which no copies are made, in parts
of their own rows, for each of which all rows of the data are read. Either way the bits do not
depend on the workers.
"""

from itertools import pairwise

import numpy as np

from skpar._kernels.products import Products, curvature_matrix, may_scatter
from skpar._objective import NUMBERS_PER_WORKER

# Multiply-adds in the time in which a pass reads one number.
MULTIPLY_ADDS = 16
MATRIX_SPANS = 8
MOST_COPIED = 200
MATRIX_PARTS = 4


def gram_work(objective, rows, center):
    """What the products of so many rows cost, in numbers read."""
    batch = objective.batch
    scattered = may_scatter(batch.rows, center)
    per_row = batch.row_numbers**2 if scattered else objective.d**2 / MULTIPLY_ADDS
    return rows * (per_row + batch.row_numbers)


def gram_matrix(objective, rows, factors, center, scale, offset=None):
    """sum_k a_k z_k z_k' over positions k, where z = ((x - center) scale, 1) of row `rows[k]`.

    `rows` counts the objective's rows, None is all; `factors` are a, None is 1 each. With
    `offset`, z ends with the target less that.
    """
    batch = objective.batch
    if batch.subset is not None:
        rows = batch.subset if rows is None else batch.subset[rows]
    count = objective.n if rows is None else len(rows)
    if factors is not None:
        factors = np.ascontiguousarray(factors)
    scattered = offset is None and may_scatter(batch.rows, center)
    products = Products(objective.d + 1 + (offset is not None))
    work = gram_work(objective, count, center)

    def add(H, lo, hi, part=None):
        given = batch.rows, rows, factors, lo, hi, center, scale, H
        curvature_matrix(*given, offset=offset, scattered=scattered, part=part)

    if objective.d > MOST_COPIED and not scattered:
        H = products.matrix()
        parts = products.parts(MATRIX_PARTS)
        objective.in_spans(lambda *part: add(H, 0, count, part), parts, work)
        return products.symmetric(H)

    def span(lo, hi):
        H = products.matrix()
        add(H, lo, hi)
        return H

    spans = [(0, count)]
    if work >= 2.0 * NUMBERS_PER_WORKER:
        spans = list(pairwise(np.linspace(0, count, MATRIX_SPANS + 1).astype(int).tolist()))
    return products.symmetric(sum(objective.in_spans(span, spans, work)))
