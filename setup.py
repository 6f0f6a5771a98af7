"""Folder mapping: the top-level folders are the subpackages of `iern`, so that nothing called `train` is installed."""

from setuptools import setup

PACKAGES = {"iern.train": "train", "iern.export": "export", "iern.runtime": "runtime", "iern.cpp_ext": "cpp_ext"}

setup(
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={
        "iern.runtime": ["models/*", "media/*", "py.typed"],
        "iern.train": ["recipes/*.yaml", "py.typed"],
        "iern.export": ["py.typed"],
        "iern.cpp_ext": ["py.typed"],
    },
)
