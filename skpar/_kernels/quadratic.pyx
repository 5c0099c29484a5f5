"""Quadratic models with an absolute-norm term, by coordinate descent."""

import numpy as np

from skpar._kernels.penalties cimport soft_threshold


def descend(H, g, z, thresholds, Py_ssize_t sweeps=200, double tolerance=1e-4):
    """The q that minimises g.q + q'Hq/2 + sum_j t_j |z_j + q_j|, by cyclic coordinate descent.

    H is symmetric with a positive diagonal. Ends when a sweep changes the model by less than
    `tolerance` of what the first one did.
    """
    cdef const double[:, ::1] matrix = np.ascontiguousarray(H)
    cdef const double[::1] slope = g
    cdef const double[::1] at = z
    cdef const double[::1] t = thresholds
    q_array = np.zeros(len(g))
    r_array = np.zeros(len(g))
    cdef double[::1] q = q_array
    cdef double[::1] r = r_array  # H q
    cdef Py_ssize_t d = slope.shape[0]
    cdef Py_ssize_t i, j, _
    cdef double h, new, change, moved, first = 0.0
    with nogil:
        for _ in range(sweeps):
            moved = 0.0
            for j in range(d):
                h = matrix[j, j]
                new = soft_threshold(at[j] + q[j] - (slope[j] + r[j]) / h, t[j] / h) - at[j]
                change = new - q[j]
                if change != 0.0:
                    q[j] = new
                    moved += h * change * change
                    for i in range(d):
                        r[i] += change * matrix[j, i]
            first = max(first, moved)
            if moved <= tolerance * tolerance * first or first == 0.0:
                break
    return q_array
