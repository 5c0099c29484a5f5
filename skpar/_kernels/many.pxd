"""What `many` has from many.h, and what a pass knows."""

cdef extern from *:
    # Before rows.h comes in, by whatever cimport: it brings the primitives of many_level.h.
    """
    #define SKPAR_MANY
    """

from libc.stdint cimport int32_t, int64_t

cdef extern from "many.h" nogil:
    ctypedef struct skpar_outputs:
        Py_ssize_t k, size
        double *scale
        double *intercept
        double *ratio
        double *average_a
        double *average_b
        double *average_intercept
        double *l1_total
        double *loss_sum
        double *y
        double *p
        double *slope
        double *update

    ctypedef struct table_f64 "skpar_many_f64_table":
        void (*one_i32)(const double*, const int32_t*, Py_ssize_t, const double*, Py_ssize_t,
                        double*) noexcept nogil
        void (*one_i64)(const double*, const int64_t*, Py_ssize_t, const double*, Py_ssize_t,
                        double*) noexcept nogil
        void (*add_i32)(const double*, const int32_t*, Py_ssize_t, const double*, Py_ssize_t,
                        double*) noexcept nogil
        void (*add_i64)(const double*, const int64_t*, Py_ssize_t, const double*, Py_ssize_t,
                        double*) noexcept nogil
        void (*four)(const double**, Py_ssize_t, const double*, Py_ssize_t, double*) noexcept nogil
        void (*add_four)(const double**, Py_ssize_t, const double*, Py_ssize_t,
                         double*) noexcept nogil
        void (*products)(const double**, Py_ssize_t, double*) noexcept nogil

    ctypedef struct table_f32 "skpar_many_f32_table":
        void (*one_i32)(const float*, const int32_t*, Py_ssize_t, const float*, Py_ssize_t,
                        float*) noexcept nogil
        void (*one_i64)(const float*, const int64_t*, Py_ssize_t, const float*, Py_ssize_t,
                        float*) noexcept nogil
        void (*add_i32)(const float*, const int32_t*, Py_ssize_t, const float*, Py_ssize_t,
                        float*) noexcept nogil
        void (*add_i64)(const float*, const int64_t*, Py_ssize_t, const float*, Py_ssize_t,
                        float*) noexcept nogil
        void (*four)(const float**, Py_ssize_t, const float*, Py_ssize_t, float*) noexcept nogil
        void (*add_four)(const float**, Py_ssize_t, const float*, Py_ssize_t,
                         float*) noexcept nogil
        void (*products)(const float**, Py_ssize_t, double*) noexcept nogil

    table_f64 skpar_many_f64
    table_f32 skpar_many_f32
    void skpar_many_use(const char*)
    double softmax_row(Py_ssize_t, const double*, Py_ssize_t, double*)
    void many_slopes(const skpar_outputs*, int, double, int)
    void many_updates(const skpar_outputs*, double, double)
    double many_shrink(const skpar_outputs*, double)
    double many_lengths(const skpar_outputs*, double, double*)
    void many_average(const skpar_outputs*, const double*, double, double*)
    void many_penalise(const skpar_outputs*, double)
    void many_margins_f64(const skpar_outputs*, const double*, const double*, const double*, int)
    void many_margins_f32(const skpar_outputs*, const float*, const double*, const double*, int)
    void many_rounded_f64(const double*, Py_ssize_t, double*)
    void many_rounded_f32(const double*, Py_ssize_t, float*)
    void many_fold_f64(const skpar_outputs*, double*, double*, Py_ssize_t)
    void many_fold_f32(const skpar_outputs*, float*, float*, Py_ssize_t)
    void many_truncate_f64_i32(const skpar_outputs*, const int32_t*, Py_ssize_t, double*, double*,
                               double*)
    void many_truncate_f64_i64(const skpar_outputs*, const int64_t*, Py_ssize_t, double*, double*,
                               double*)
    void many_truncate_f32_i32(const skpar_outputs*, const int32_t*, Py_ssize_t, float*, float*,
                               float*)
    void many_truncate_f32_i64(const skpar_outputs*, const int64_t*, Py_ssize_t, float*, float*,
                               float*)

cdef struct Pass:
    skpar_outputs o
    void* w
    void* received
    void* average
    double t, averaged, negative
    double least, smallest  # of the scales: the least now, and where they are folded in
    int kind
    bint softmax
    const int64_t* places  # of each class its output, -1 for none
    Py_ssize_t place  # of the row's class
    # room for four rows: margins, lengths of the steps, those of the average, as they are added
    void* margins
    double* lengths
    double* steps
    void* rounded
