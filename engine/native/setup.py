"""Builds the C++ half: for any machine of this architecture, it picks its instructions at start."""

from __future__ import annotations

from glob import glob

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

setup(
    ext_modules=[
        Pybind11Extension(
            "ragmesh_native.wire",
            sorted(glob("src/wire/*.cpp")),
            depends=sorted(glob("src/wire/*.hpp")),
            include_dirs=["src/wire"],
            cxx_std=17,
            extra_compile_args=["-O3", "-g0"],
        ),
        Pybind11Extension(
            "ragmesh_native._native",
            sorted(glob("src/*.cpp")),
            depends=sorted([*glob("src/*.hpp"), *glob("src/*.inc")]),
            cxx_std=17,
            # Sums must be equal on every machine: nothing is fused but what says so.
            extra_compile_args=["-O3", "-ffp-contract=off", "-g0"],
        ),
    ]
)
