"""The public names of the package: a change of this list is deliberate."""

import importlib.resources
import subprocess
import sys

import clipwise

NAMES = """
    __version__ ClipwiseError Predictor Recipe create_model evaluate list_models list_recipes load load_model load_recipe localize
    open_video register_dataset register_loss register_metric register_model register_transform train
"""


def test_every_public_name_is_there_and_listed():
    assert sorted(clipwise.__all__) == sorted(NAMES.split())
    for name in clipwise.__all__:
        assert getattr(clipwise, name) is not None


def test_the_package_is_typed():
    assert importlib.resources.files("clipwise").joinpath("py.typed").is_file()


def test_importing_the_package_imports_no_torch():
    code = "import sys, clipwise; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'av')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
