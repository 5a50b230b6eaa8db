"""Twenty training losses of five recipes, against those of version 0.1."""

from pathlib import Path

import pytest

from helpers import load_script

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def script():
    return load_script(GOLDEN / "loss_curves.py")


@pytest.fixture(scope="module")
def data(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    return script.make_data(folder / "clips"), script.write_features(folder / "features")


@pytest.mark.parametrize("name", ["tsm", "slowonly", "tpn", "modern", "bmn"])
def test_losses_are_those_of_version_0_1(script, data, tmp_path, name):
    """Another processor rounds otherwise, and the difference grows from step to step."""
    golden = [float(line) for line in (GOLDEN / "losses" / f"{name}.txt").read_text().split()]
    measured = script.losses(name, *data, tmp_path)
    assert len(golden) == len(measured) == script.STEPS
    assert measured[:5] == pytest.approx(golden[:5], rel=1e-4)
    assert measured == pytest.approx(golden, rel=5e-3)
