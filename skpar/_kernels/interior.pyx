"""The hinge loss with an l2 penalty on small dense data: a primal-dual interior-point method.

minimise    P(u) = sum_j l_j u_j^2 / 2 + sum_i c_i max(0, 1 - y_i z_i.u)
or maximise Q(a) = sum_i a_i - sum_j (sum_i a_i y_i z_ij)^2 / (2 l_j) over 0 <= a_i <= c_i,
with sum_i a_i y_i = 0 where the last column of z is the intercept's, with l = 0.

P(u) >= Q(a) for every pair: the difference says how far the end is. A step (Mehrotra 1992) costs
one weighted Gram matrix, whatever the loss's kinks; ten or so do what the rounding of kinks,
less and less, does in thirty.
"""

import numpy as np

from libc.math cimport fmax, fmin, isfinite, sqrt
from libc.stdint cimport int64_t

from skpar._kernels.cholesky cimport solve
from skpar._kernels.products cimport Products

cdef extern from "gradients.h" nogil:
    void chunk_margins_f64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           double, double*)
    void chunk_combine_f64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           double*)

cdef double JITTER = 1e-13
# How far towards the boundary a step may go.
cdef double NEARLY = 0.995
# The start: least squares, whose errors times RIDGE are the multipliers and obey the dual's
# equalities, and slacks that are this much too large. Found on a dozen problems.
cdef double RIDGE = 0.1
cdef double INSIDE = 0.1
cdef double SLACK = 1.0
# The product of slack and multiplier, in units of c, where the user says where to start.
cdef double FIRST = 2.0


cdef class Interior:
    """The iterate; `step` moves it, `primal` and `dual` are P and Q at it.

    Parameters
    ----------
    Z : ndarray of shape (m, d)
        Rows, float64 and C-contiguous.
    y : ndarray of shape (m,)
        -1 or 1.
    c : ndarray of shape (m,)
        What a row's loss counts, positive.
    l2 : ndarray of shape (d,)
        Penalties of the coordinates, positive but for an intercept.
    u : ndarray of shape (d,)
        Where to start.
    intercept : bool
        Whether the last column is the intercept's.
    """

    cdef readonly object u
    cdef readonly double primal, dual
    cdef object keep_alive
    cdef Py_ssize_t m, d
    cdef bint intercept
    cdef const double* Z
    cdef const int64_t* rows
    cdef const double* y
    cdef const double* c
    cdef const double* l2
    cdef double* at             # u's numbers
    cdef Products normal
    cdef double* padded         # room for it
    cdef double* H
    cdef double* way            # d: the step in u
    # m each: margins, multipliers a (of slack s) and c - a (of slack x), curvatures, scratch,
    # steps of p, a, s and x, aims of the two products
    cdef double* p
    cdef double* a
    cdef double* s
    cdef double* x
    cdef double* D
    cdef double* q
    cdef double* dp
    cdef double* da
    cdef double* ds
    cdef double* dx
    cdef double* t1
    cdef double* t2

    def __init__(self, const double[:, ::1] Z, const double[::1] y, const double[::1] c,
                 const double[::1] l2, u, bint intercept):
        cdef Py_ssize_t m = Z.shape[0], d = Z.shape[1]
        cdef const int64_t[::1] rows = np.arange(m)
        cdef double[::1] memory = np.empty(12 * m + d * d + d)
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
        self.m, self.d, self.intercept = m, d, intercept
        self.Z, self.y, self.c, self.l2 = &Z[0, 0], &y[0], &c[0], &l2[0]
        self.rows, self.at = &rows[0], &start[0]
        self.p = &memory[0]
        self.a, self.s, self.x, self.D = self.p + m, self.p + 2 * m, self.p + 3 * m, self.p + 4 * m
        self.q, self.dp, self.da = self.p + 5 * m, self.p + 6 * m, self.p + 7 * m
        self.ds, self.dx, self.t1 = self.p + 8 * m, self.p + 9 * m, self.p + 10 * m
        self.t2, self.H = self.p + 11 * m, self.p + 12 * m
        self.way = self.H + d * d
        cdef bint zero = not start.base.any()
        with nogil:
            chunk_margins_f64(self.Z, self.rows, m, d, self.at, 0.0, self.p)
            if zero:
                self.begin_at_zero()
            else:
                self.begin_here()
            self.measure()

    cdef void begin_at_zero(self) noexcept nogil:
        cdef Py_ssize_t i, j
        cdef double z, c
        for i in range(self.m):
            self.D[i] = RIDGE * self.c[i]
            self.q[i] = self.D[i] * self.y[i]
        for j in range(self.d):
            self.at[j] = 0.0
        chunk_combine_f64(self.Z, self.rows, self.m, self.d, self.q, self.at)
        if self.curve():
            solve(self.H, self.d, self.at)
        else:
            for j in range(self.d):
                self.at[j] = 0.0
        chunk_margins_f64(self.Z, self.rows, self.m, self.d, self.at, 0.0, self.p)
        for i in range(self.m):
            c = self.c[i]
            z = self.y[i] * self.p[i] - 1.0
            self.s[i] = fmax(z, 0.0) + SLACK
            self.x[i] = fmax(-z, 0.0) + SLACK
            self.a[i] = fmin(fmax(-RIDGE * c * z, INSIDE * c), (1.0 - INSIDE) * c)

    cdef void begin_here(self) noexcept nogil:
        """Slacks and multipliers of equal products at u, each row's by a quadratic equation."""
        cdef Py_ssize_t i
        cdef double mu = 0.0
        cdef double z, b, c
        for i in range(self.m):
            mu += self.c[i]
        mu *= FIRST / self.m
        for i in range(self.m):
            c = self.c[i]
            z = self.y[i] * self.p[i] - 1.0
            b = c * z + 2.0 * mu
            self.s[i] = fmax((b + sqrt(c * c * z * z + 4.0 * mu * mu)) / (2.0 * c), 1e-12)
            self.x[i] = fmax(self.s[i] - z, 1e-12)
            self.a[i] = fmin(fmax(mu / self.s[i], 1e-6 * c), (1.0 - 1e-6) * c)

    cdef void measure(self) noexcept nogil:
        cdef Py_ssize_t i, j
        cdef double loss = 0.0, penalty = 0.0
        cdef double positive = 0.0, negative = 0.0, total = 0.0, square = 0.0
        cdef double up, down, share
        for i in range(self.m):
            loss += self.c[i] * fmax(0.0, 1.0 - self.y[i] * self.p[i])
            if self.y[i] > 0:
                positive += self.a[i]
            else:
                negative += self.a[i]
        for j in range(self.d):
            penalty += 0.5 * self.l2[j] * self.at[j] * self.at[j]
        self.primal = loss + penalty
        up = down = 1.0
        if self.intercept:  # the heavier side is scaled down to the other
            share = fmin(positive, negative)
            up = share / positive if positive > 0 else 0.0
            down = share / negative if negative > 0 else 0.0
        for i in range(self.m):
            share = self.a[i] * (up if self.y[i] > 0 else down)
            total += share
            self.q[i] = share * self.y[i]
        for j in range(self.d):
            self.way[j] = 0.0
        chunk_combine_f64(self.Z, self.rows, self.m, self.d, self.q, self.way)
        for j in range(self.d):
            if self.l2[j] > 0:
                square += self.way[j] * self.way[j] / self.l2[j]
        # a times any share of 1 is allowed as well: the best one.
        share = fmin(1.0, total / square) if square > 0 else 1.0
        self.dual = share * total - 0.5 * share * share * square

    cdef void aim(self) noexcept nogil:
        """Steps towards products t1 of slack and multiplier, t2 on the other side."""
        cdef Py_ssize_t i, j
        cdef double b
        for i in range(self.m):
            b = self.c[i] - self.a[i]
            self.dp[i] = (self.t1[i] / self.a[i] - self.t2[i] / b) + 1.0 - self.y[i] * self.p[i]
            self.q[i] = self.y[i] * (self.a[i] + self.D[i] * self.dp[i])
            self.da[i] = self.dp[i]
        for j in range(self.d):
            self.way[j] = -self.l2[j] * self.at[j]
        chunk_combine_f64(self.Z, self.rows, self.m, self.d, self.q, self.way)
        solve(self.H, self.d, self.way)
        chunk_margins_f64(self.Z, self.rows, self.m, self.d, self.way, 0.0, self.dp)
        for i in range(self.m):
            b = self.c[i] - self.a[i]
            self.da[i] = self.D[i] * (self.da[i] - self.y[i] * self.dp[i])
            self.ds[i] = (self.t1[i] - self.s[i] * self.da[i]) / self.a[i] - self.s[i]
            self.dx[i] = (self.t2[i] + self.x[i] * self.da[i]) / b - self.x[i]

    cdef double longest(self) noexcept nogil:
        """The multiple of the step at which something would no longer be positive."""
        cdef Py_ssize_t i
        cdef double worst = 0.0
        for i in range(self.m):
            worst = fmax(worst, fmax(-self.ds[i] / self.s[i], -self.dx[i] / self.x[i]))
            worst = fmax(worst, fmax(-self.da[i] / self.a[i],
                                     self.da[i] / (self.c[i] - self.a[i])))
        return 1.0 / fmax(worst, 1e-300)

    cdef double products(self, double t) noexcept nogil:
        """The mean product of slack and multiplier after a share t of the step."""
        cdef Py_ssize_t i
        cdef double a, sum = 0.0
        for i in range(self.m):
            a = self.a[i] + t * self.da[i]
            sum += a * (self.s[i] + t * self.ds[i])
            sum += (self.c[i] - a) * (self.x[i] + t * self.dx[i])
        return sum / (2.0 * self.m)

    cdef bint curve(self) noexcept nogil:
        """H becomes the factor of Z'DZ + diag(l2); False where there is none."""
        return self.normal.factor_of(
            self.Z, self.D, self.m, self.l2, JITTER, self.padded, self.H
        )

    cdef bint advance(self) noexcept nogil:
        cdef Py_ssize_t i
        cdef double mu, share, t
        for i in range(self.m):
            self.D[i] = 1.0 / (self.s[i] / self.a[i] + self.x[i] / (self.c[i] - self.a[i]))
        if not self.curve():
            return False
        for i in range(self.m):
            self.t1[i] = self.t2[i] = 0.0
        self.aim()
        mu = self.products(0.0)
        share = self.products(fmin(1.0, self.longest())) / mu
        share = share * share * share * mu
        for i in range(self.m):
            self.t1[i] = share - self.ds[i] * self.da[i]
            self.t2[i] = share + self.dx[i] * self.da[i]
        self.aim()
        t = fmin(1.0, NEARLY * self.longest())
        if not (t > 0.0 and isfinite(t)):
            return False
        for i in range(self.d):
            if not isfinite(self.way[i]):
                return False
        for i in range(self.d):
            self.at[i] += t * self.way[i]
        for i in range(self.m):
            self.a[i] += t * self.da[i]
            self.s[i] += t * self.ds[i]
            self.x[i] += t * self.dx[i]
        chunk_margins_f64(self.Z, self.rows, self.m, self.d, self.at, 0.0, self.p)
        self.measure()
        return True

    def step(self):
        """One step; False where rounding leaves no further one."""
        cdef bint moved
        with nogil:
            moved = self.advance()
        return moved
