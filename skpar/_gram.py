"""Sums of outer products of all rows (`_kernels.products`), shared out among workers.

Small matrices are summed in spans of the rows; large ones, of which no copies are made, in parts
of their own rows, for each of which all rows of the data are read. Either way the bits do not
depend on the workers.
"""

from itertools import pairwise

import numpy as np

from skpar._kernels.products import Products, curvature_matrix, may_scatter
from skpar._objective import NUMBERS_PER_WORKER
from skpar._scratch import Scratch

# Multiply-adds in the time in which a pass reads one number.
MULTIPLY_ADDS = 16
# Spans of rows, each with a matrix of its own: as many as stay in the caches.
MOST_SPANS, LEAST_SPANS = 16, 4
COPIED_NUMBERS = 1 << 18
# Parts of a large matrix: every one has all rows packed again.
MATRIX_PARTS = 4


def gram_work(batch, rows):
    """What the products of so many rows cost, in numbers read, where sparse ones stay so."""
    stored, d = batch.row_numbers, batch.shape[1]
    per_row = stored**2 if may_scatter(batch.rows) else d**2 / MULTIPLY_ADDS
    return rows * (per_row + stored)


class Gram:
    """sum_k a_k z_k z_k', where z = ((x - center) scale, 1) of row k; room for one after another.

    With `offset`, z ends with the target less that.
    """

    def __init__(self, objective, center, scale, offset=None):
        self.objective, self.center, self.scale, self.offset = objective, center, scale, offset
        products = self.products = Products(objective.d + 1 + (offset is not None))
        self.scattered = offset is None and not center.any() and may_scatter(objective.batch.rows)
        spans = gram_work(objective.batch, objective.n) // NUMBERS_PER_WORKER
        most = COPIED_NUMBERS // (products.padded * products.stride)
        self.in_parts = most < LEAST_SPANS and not self.scattered
        copies = 1 if self.in_parts else int(max(1, min(spans, MOST_SPANS, max(most, LEAST_SPANS))))
        # New pages are dear where a matrix is large.
        self.scratch = Scratch(copies * products.padded * products.stride)
        self.room = self.scratch.array.reshape(copies, products.padded, products.stride)

    def sum(self, rows=None, factors=None, share=1.0):
        """A matrix whose upper triangle has the sum, times `share`, until the next call.

        It is over some of the objective's rows or all; without `factors` a is 1.
        """
        objective, batch = self.objective, self.objective.batch
        count = objective.n if rows is None else len(rows)
        if batch.subset is not None:
            rows = batch.subset if rows is None else batch.subset[rows]
        if factors is not None:
            factors = np.ascontiguousarray(factors)
        self.given, work = (batch.rows, rows, factors), gram_work(batch, count)
        self.room.fill(0.0)
        if self.in_parts:
            parts = self.products.parts(MATRIX_PARTS)
            objective.in_spans(lambda *part: self._add(0, 0, count, part), parts, work)
        else:
            edges = np.linspace(0, count, len(self.room) + 1).astype(int).tolist()
            spans = [(k, *span) for k, span in enumerate(pairwise(edges))]
            objective.in_spans(self._add, spans, work)
            for other in self.room[1:]:
                self.room[0] += other
        self.room[0] *= share
        return self.room[0, : self.products.d, : self.products.d]

    def _add(self, k, lo, hi, part=None):
        given = *self.given, lo, hi, self.center, self.scale, self.room[k]
        curvature_matrix(*given, offset=self.offset, scattered=self.scattered, part=part)


def symmetric(H):
    """The matrix whose upper triangle H has."""
    upper = np.triu(H)
    upper += np.triu(H, 1).T
    return upper
