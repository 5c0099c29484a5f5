"""Addresses of arrays. Kernels look no further than their pointers, so what an array is must be
checked here; an error says what was wanted and what came."""

cimport numpy as cnp
from libc.stdint cimport int64_t

cdef extern from *:
    # int64 goes by the number of long or of long long; where both have its size, either will do.
    """
    #define SKPAR_IS_LONG(type) ((type) == NPY_INT64 \\
        || ((type) == NPY_LONG && sizeof(long) == 8) || (type) == NPY_LONGLONG)
    """
    bint is_long "SKPAR_IS_LONG"(int)


cdef inline Py_ssize_t length(cnp.ndarray array) noexcept:
    cdef Py_ssize_t size = 1
    cdef int k
    for k in range(cnp.PyArray_NDIM(array)):
        size *= cnp.PyArray_DIMS(array)[k]
    return size


cdef inline void* pointer(array) except? NULL:
    """Of a C-contiguous array of any type and size; read-only ones (memmaps) are welcome."""
    if not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ValueError(f"kernels need C-contiguous arrays, not one of strides {array.strides}")
    return cnp.PyArray_DATA(array)


cdef inline void* place(array, int type, Py_ssize_t size, bint or_more=False) except? NULL:
    """Of a C-contiguous array of this numpy type and size (or more); NULL for None."""
    cdef Py_ssize_t found
    cdef int got
    if array is None:
        return NULL
    found, got = length(array), cnp.PyArray_TYPE(array)
    if (
        (got == type or (type == cnp.NPY_INT64 and is_long(got)))
        and cnp.PyArray_ISNOTSWAPPED(array)
        and (found == size or (or_more and found > size))
    ):
        return pointer(array)
    wanted = {cnp.NPY_FLOAT64: "float64", cnp.NPY_FLOAT32: "float32"}.get(type, "int64")
    raise ValueError(f"kernels need {size} contiguous numbers of {wanted}{' or more' * or_more}, "
                     f"not {array.dtype} of the shape {array.shape}")


cdef inline void* needed(array, int type, Py_ssize_t size) except? NULL:
    """`place` of an array that must be there."""
    if array is None:
        raise ValueError(f"kernels need {size} contiguous numbers, not None")
    return place(array, type, size)


cdef inline double* doubles(array, Py_ssize_t size) except? NULL:
    return <double*>needed(array, cnp.NPY_FLOAT64, size)


cdef inline double* doubles_or_null(array, Py_ssize_t size) except? NULL:
    return <double*>place(array, cnp.NPY_FLOAT64, size)


cdef inline double* doubles_at_least(array, Py_ssize_t size) except? NULL:
    """NULL for None."""
    return <double*>place(array, cnp.NPY_FLOAT64, size, True)


cdef inline int64_t* longs(array, Py_ssize_t size) except? NULL:
    return <int64_t*>needed(array, cnp.NPY_INT64, size)


cdef inline int64_t* longs_or_null(array, Py_ssize_t size) except? NULL:
    return <int64_t*>place(array, cnp.NPY_INT64, size)


cdef inline int64_t* longs_at_least(array, Py_ssize_t size) except? NULL:
    """NULL for None."""
    return <int64_t*>place(array, cnp.NPY_INT64, size, True)


cdef inline void* reals(array, bint is_double, Py_ssize_t size) except? NULL:
    """Numbers of the rows' type."""
    return needed(array, cnp.NPY_FLOAT64 if is_double else cnp.NPY_FLOAT32, size)


cdef inline void* reals_or_null(array, bint is_double, Py_ssize_t size) except? NULL:
    return place(array, cnp.NPY_FLOAT64 if is_double else cnp.NPY_FLOAT32, size)
