"""What compiled the kernels, for bug reports."""

cdef extern from *:
    """
    #if defined(__clang__)
    #define SKPAR_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define SKPAR_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
    #define SKPAR_TEXT_OF(number) #number
    #define SKPAR_TEXT(number) SKPAR_TEXT_OF(number)
    #define SKPAR_COMPILER "msvc " SKPAR_TEXT(_MSC_FULL_VER)
    #else
    #define SKPAR_COMPILER "unknown"
    #endif
    """
    const char* SKPAR_COMPILER
    const unsigned int CYTHON_HEX_VERSION


def compiler():
    """Name and version of the C compiler."""
    return SKPAR_COMPILER.decode().strip()


def cython_version():
    """The Cython that wrote the C."""
    return ".".join(str(CYTHON_HEX_VERSION >> shift & 255) for shift in (24, 16, 8))
