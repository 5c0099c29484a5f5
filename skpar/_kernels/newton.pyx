"""The log loss with an l2 penalty on small dense data: Newton steps, each in one call.

minimise P(u) = sum_j l_j u_j^2 / 2 + sum_i c_i log(1 + exp(z_i.u)) - y_i z_i.u
"""

import numpy as np

from libc.math cimport isfinite
from libc.stdint cimport int64_t

from skpar._kernels.cholesky cimport solve
from skpar._kernels.products cimport Products

cdef extern from "gradients.h" nogil:
    void chunk_margins_f64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           double, double*)
    void chunk_combine_f64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           double*)
    void log_losses(Py_ssize_t, const double*, const double*, double*, double*, double*)

cdef double JITTER = 1e-13
# A step must win this share of what the model promised (Armijo).
cdef double ENOUGH = 0.1
cdef int MOST_HALVINGS = 40


cdef class Newton:
    """The iterate u; `value` is P there, and `slope` that of P along the next step.

    The quadratic model promises a gain of -slope / 2. Parameters are those of `Interior`, with
    y in {0, 1}.
    """

    cdef readonly object u
    cdef readonly double value, slope, length
    cdef object keep_alive
    cdef Py_ssize_t m, d
    cdef const double* Z
    cdef const int64_t* rows
    cdef const double* y
    cdef const double* c
    cdef const double* l2
    cdef double* at             # u's numbers
    cdef Products normal
    cdef double* padded         # room for it
    cdef double* H
    cdef double* way            # d: the next step
    cdef double* next           # d: where it leads
    # m each: margins, those of the step, tried margins, losses and their derivatives
    cdef double* p
    cdef double* dp
    cdef double* tried
    cdef double* losses
    cdef double* first
    cdef double* second

    def __init__(self, const double[:, ::1] Z, const double[::1] y, const double[::1] c,
                 const double[::1] l2, u):
        cdef Py_ssize_t m = Z.shape[0], d = Z.shape[1]
        cdef const int64_t[::1] rows = np.arange(m)
        cdef double[::1] memory = np.empty(6 * m + d * d + 2 * d)
        cdef double[::1] start = np.array(u, dtype=np.float64)
        if not (y.shape[0] == m and c.shape[0] == m and l2.shape[0] == d and start.shape[0] == d):
            raise ValueError("Z, y, c, l2 and u do not fit together")
        if m == 0 or d == 0:
            raise ValueError("there must be rows and columns")
        self.normal = Products(d)
        cdef double[:, ::1] padded = self.normal.matrix()
        self.padded = &padded[0, 0]
        self.keep_alive = (Z, y, c, l2, rows, memory, start, padded)
        self.u = start.base
        self.m, self.d = m, d
        self.Z, self.y, self.c, self.l2 = &Z[0, 0], &y[0], &c[0], &l2[0]
        self.rows, self.at = &rows[0], &start[0]
        self.p = &memory[0]
        self.dp, self.tried, self.losses = self.p + m, self.p + 2 * m, self.p + 3 * m
        self.first, self.second, self.H = self.p + 4 * m, self.p + 5 * m, self.p + 6 * m
        self.way = self.H + d * d
        self.next = self.way + d
        self.length = 1.0
        with nogil:
            chunk_margins_f64(self.Z, self.rows, m, d, self.at, 0.0, self.p)
            self.value = self.measure(self.p, self.at)
            self.aim()

    cdef double measure(self, const double* p, const double* u) noexcept nogil:
        """P at u, whose margins are p; the derivatives of the losses are left behind."""
        cdef Py_ssize_t i, j
        cdef double total = 0.0
        log_losses(self.m, self.y, p, self.losses, self.first, self.second)
        for i in range(self.m):
            total += self.c[i] * self.losses[i]
        for j in range(self.d):
            total += 0.5 * self.l2[j] * u[j] * u[j]
        return total

    cdef bint aim(self) noexcept nogil:
        """The Newton step at the point last measured, by all rows."""
        cdef Py_ssize_t i, j, d = self.d
        for i in range(self.m):
            self.first[i] *= -self.c[i]
            self.second[i] *= self.c[i]
        for j in range(d):
            self.next[j] = -self.l2[j] * self.at[j]
        chunk_combine_f64(self.Z, self.rows, self.m, d, self.first, self.next)
        self.slope = 0.0
        if not self.normal.factor_of(
            self.Z, self.second, self.m, self.l2, JITTER, self.padded, self.H
        ):
            return False
        for j in range(d):
            self.way[j] = self.next[j]
        solve(self.H, d, self.way)
        for j in range(d):
            self.slope -= self.next[j] * self.way[j]
        return isfinite(self.slope)

    cdef bint advance(self) noexcept nogil:
        cdef Py_ssize_t i, j
        cdef double value, t = 1.0
        cdef int _
        if not (isfinite(self.slope) and self.slope < 0.0):
            return False
        chunk_margins_f64(self.Z, self.rows, self.m, self.d, self.way, 0.0, self.dp)
        for _ in range(MOST_HALVINGS):
            for j in range(self.d):
                self.next[j] = self.at[j] + t * self.way[j]
            for i in range(self.m):
                self.tried[i] = self.p[i] + t * self.dp[i]
            value = self.measure(self.tried, self.next)
            if value <= self.value + ENOUGH * t * self.slope:
                self.value, self.length = value, t
                for j in range(self.d):
                    self.at[j] = self.next[j]
                for i in range(self.m):
                    self.p[i] = self.tried[i]
                return self.aim()
            t *= 0.5
        return False

    def step(self):
        """One step; False where rounding leaves no further one."""
        cdef bint moved
        with nogil:
            moved = self.advance()
        return moved
