"""The compiled part of the build: which kernels there are, and how to compile them."""

import os
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

KERNELS = "skpar/_kernels"
# No -ffast-math (kernels test for NaN), no -march=native (wheels travel), no OpenMP
# runtime (-fopenmp-simd reads the simd pragmas only).
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fopenmp-simd"]
DIRECTIVES = dict(
    language_level=3,
    boundscheck=False,
    wraparound=False,
    initializedcheck=False,
    cdivision=True,
)


class BuildKernels(build_ext):
    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        msvc = self.compiler.compiler_type == "msvc"
        self.flags = ["/O2"] if msvc else [f for f in FLAGS if self.accepts(f)]
        super().build_extensions()

    def build_extension(self, ext):
        # Cython runs here, and into build_temp, so that no generated C lands in the
        # source tree or in the sdist.
        ext.sources = cythonize(
            ext, build_dir=self.build_temp, compiler_directives=DIRECTIVES, force=self.force
        )[0].sources
        ext.extra_compile_args = self.flags
        super().build_extension(ext)

    def accepts(self, flag):
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text("int main(void) { return 0; }\n")
            try:
                # -Werror: clang only warns of a flag that it does not know
                args = ["-Werror", flag]
                self.compiler.compile([str(probe)], output_dir=folder, extra_postargs=args)
            except CompileError:
                return False
        return True


setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=[
        Extension(
            f"skpar._kernels.{pyx.stem}",
            [pyx.as_posix()],
            include_dirs=[KERNELS, numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            depends=sorted(
                p.as_posix() for s in ("h", "pxd") for p in Path(KERNELS).glob(f"*.{s}")
            ),
        )
        for pyx in sorted(Path(KERNELS).glob("*.pyx"))
    ],
)
