"""Our own C compiles without a warning, by every compiler at hand."""

import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).resolve().parents[1] / "skpar" / "_kernels"
FLAGS = ["-O2", "-fopenmp-simd", "-Wall", "-Wextra", "-Werror"]


@pytest.mark.skipif(not KERNELS.is_dir(), reason="the tests run apart from the source tree")
@pytest.mark.parametrize("define", [[], ["-DSKPAR_NO_CLONES"]], ids=["default", "no clones"])
@pytest.mark.parametrize("standard", ["c11", "gnu17"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_headers_compile_without_warnings(compiler, standard, define, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    unit = tmp_path / "unit.c"
    unit.write_text('#include "rows.h"\n')
    command = [compiler, f"-std={standard}", *FLAGS, *define, f"-I{KERNELS}", "-c", str(unit)]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "unit.o")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
