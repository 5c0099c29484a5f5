"""Dense rows that are fewer than the columns: the same problem in as many numbers as rows.

Optimal weights are a combination of the rows (the representer theorem; Kimeldorf & Wahba 1971), so
with K = X X' = L L' the rows of L stand in for those of X: margins are L u, ||u|| = ||w|| and
w = X' L^-T u. The smaller problem has a Hessian, where L-BFGS on the larger may crawl.
"""

from dataclasses import replace

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtrs

from skpar._auto import AutoFit
from skpar._data import Batch

MOST_ROWS = 600
CHUNK_COLUMNS = 1024
# Share of the mean of K's diagonal that keeps its factor real, and the most of it.
JITTER, MOST_JITTER = 1e-13, 1e-9


def auto_fit(fit, make_scheme, tol):
    """An `AutoFit` of the rows as they are, or of what stands in for them."""
    if suits(fit):
        kept = reduced(fit)
        if kept is not None:
            return FewRowsFit(fit, make_scheme, tol, *kept)
    return AutoFit(fit, make_scheme, tol)


def suits(fit):
    """Whether the rows are few, dense and penalised, and no weights are given to start from."""
    batch, problem = fit.batch, fit.problem
    few = 1 < batch.n_rows <= min(MOST_ROWS, batch.shape[1] - 1)
    plain = problem.l2 > 0.0 and problem.l1 == 0.0 and not fit.start.w.any()
    return few and plain and not batch.sparse


def reduced(fit):
    """(centred rows' factor L, the center), once for all fits of these rows; None without one."""
    batch, memo = fit.batch, fit.team.memo
    values, subset, centred, *kept = memo.get("few rows", (None, None, None))
    if values is batch.values and subset is batch.subset and centred == fit.problem.fit_intercept:
        return kept[0]
    rows = batch.values if batch.subset is None else batch.values[batch.subset]
    n, d = rows.shape
    center = np.zeros(d)
    if fit.problem.fit_intercept:
        rows.mean(axis=0, dtype=np.float64, out=center)
    K = np.zeros((n, n))
    with np.errstate(over="ignore", invalid="ignore"):
        for lo in range(0, d, CHUNK_COLUMNS):
            own = slice(lo, lo + CHUNK_COLUMNS)
            part = rows[:, own] - center[own]
            K += part @ part.T
    L = _factor(K)
    kept = None if L is None else (L, center)
    memo["few rows"] = (batch.values, batch.subset, fit.problem.fit_intercept, kept)
    return kept


def _factor(K):
    """L with L L' = K but for a tiny diagonal, or None where numbers overflow."""
    at = np.arange(len(K))
    jitter = JITTER
    mean = float(np.mean(K[at, at]))
    while np.isfinite(mean) and jitter <= MOST_JITTER:
        A = K.copy()
        A[at, at] += jitter * max(mean, 1e-300)
        L, failed = dpotrf(A, lower=1, clean=1)
        if failed == 0:
            return np.ascontiguousarray(L)
        jitter *= 10
    return None


class FewRowsFit(AutoFit):
    """An `AutoFit` of L whose weights are those of the rows."""

    def __init__(self, fit, make_scheme, tol, L, center):
        self.full, self.L, self.center = fit, L, center
        batch = fit.batch
        start = replace(fit.start, w=np.zeros(len(L)))
        own = replace(fit, batch=Batch.of(L, batch.used_targets, batch.used_weights), start=start)
        super().__init__(own, make_scheme, tol)

    def weights(self):
        """(w, intercept) that the user gets now."""
        u, intercept = super().weights()
        batch = self.full.batch
        rows = batch.values if batch.subset is None else batch.values[batch.subset]
        a = dtrtrs(self.L, np.asarray(u, np.float64), lower=1, trans=1)[0]
        w = np.zeros(len(self.center))
        for lo in range(0, len(w), CHUNK_COLUMNS):
            own = slice(lo, lo + CHUNK_COLUMNS)
            w[own] = a @ (rows[:, own] - self.center[own])
        if self.objective.has_intercept:
            intercept -= float(w @ self.center)
        return np.ascontiguousarray(w, batch.values.dtype), intercept
