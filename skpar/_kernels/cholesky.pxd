# Small symmetric systems without BLAS, whose threads and calls cost more than they.

from libc.math cimport isfinite, sqrt


cdef inline bint factor(double* H, Py_ssize_t d) noexcept nogil:
    """H = R'R in its upper triangle; False where H is not positive definite."""
    cdef Py_ssize_t i, j, k
    cdef double pivot, share
    for i in range(d):
        pivot = H[i * d + i]
        if not (pivot > 0.0 and isfinite(pivot)):
            return False
        pivot = sqrt(pivot)
        H[i * d + i] = pivot
        for j in range(i + 1, d):
            H[i * d + j] /= pivot
        for k in range(i + 1, d):
            share = H[i * d + k]
            for j in range(k, d):
                H[k * d + j] -= share * H[i * d + j]
    return True


cdef inline void solve(const double* R, Py_ssize_t d, double* q) noexcept nogil:
    """q becomes the solution of R'R x = q."""
    cdef Py_ssize_t i, j
    for i in range(d):
        q[i] /= R[i * d + i]
        for j in range(i + 1, d):
            q[j] -= R[i * d + j] * q[i]
    for i in range(d - 1, -1, -1):
        for j in range(i + 1, d):
            q[i] -= R[i * d + j] * q[j]
        q[i] /= R[i * d + i]
