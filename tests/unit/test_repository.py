"""What surrounds the code says the same as the code: versions, dependencies, images, workflows, the source archive."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from clipwise.cli import doctor

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def test_workflow_runs_every_supported_version_on_every_system():
    matrix = workflow("test.yml")["jobs"]["test"]["strategy"]["matrix"]
    oldest, newest = doctor.PYTHON[:2]
    assert matrix["python"] == [f"3.{minor}" for minor in range(oldest[1], newest[1] + 1)]
    assert matrix["torch"] == [f"{major}.{minor}.*" for major, minor in doctor.TORCH[:2]]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_supported_versions_are_those_of_the_package():
    oldest, newest = doctor.PYTHON[:2]
    assert PROJECT["requires-python"] == f">={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}"
    torch = next(line for line in PROJECT["dependencies"] if line.startswith("torch"))
    assert torch == f"torch>={doctor.TORCH[0][0]}.{doctor.TORCH[0][1]}"


def test_publishing_needs_no_token():
    publish = workflow("release.yml")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "password" not in yaml.dump(publish)


def test_conda_recipe_asks_for_what_the_package_asks_for():
    text = (ROOT / "packaging/conda/recipe.yaml").read_text(encoding="utf-8")
    run = [line for line in yaml.safe_load(text)["requirements"]["run"] if not line.startswith("python ")]
    assert [line.replace(" ", "").replace("pytorch", "torch") for line in run] == PROJECT["dependencies"]


def test_constraints_pin_a_version_that_the_package_allows():
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    for dependency in PROJECT["dependencies"]:
        name, oldest, newest = re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<([\d.]+))?", dependency).groups()
        version = tuple(map(int, pins[name].split(".")))
        assert version >= tuple(map(int, oldest.split("."))), dependency
        assert newest is None or version < tuple(map(int, newest.split("."))), dependency


def test_extras_that_are_named_exist():
    extras = PROJECT["optional-dependencies"]
    for name, lines in extras.items():
        for line in lines:
            if named := re.fullmatch(r"clipwise\[(.+)\]", line):
                assert set(named[1].split(",")) <= extras.keys(), name
    everything = set(re.fullmatch(r"clipwise\[(.+)\]", extras["all"][0])[1].split(","))
    assert everything == extras.keys() - {"all", "edge", "dev", "docs", "plot", "fiftyone", "timm"}


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_do_not_run_as_root(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    user = max(i for i, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user] != "USER root"
    assert user < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))


def test_bug_form_asks_for_the_doctor():
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text(encoding="utf-8"))
    asked = {part.get("id"): part for part in form["body"]}
    assert "clipwise doctor --json" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"]


def test_source_archive_holds_what_git_holds():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    include = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = include["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for file in listed.stdout.splitlines():
        first, below = file.split("/")[0], "/" in file
        if first.startswith(".") or file in ("pyproject.toml", "LICENSE"):  # hatchling adds the last two
            continue
        held = first in patterns or (not below and any(Path(file).match(p.strip("/")) for p in patterns))
        assert held, f"{file} is not in the source archive"


def test_version_is_the_one_that_the_changelog_begins_with():
    import clipwise

    first = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert clipwise.__version__.partition(".dev")[0] == first


def test_tests_that_comments_name_exist():
    """A ``differs:`` note names the test that covers it; three named tests that did not exist."""
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    known = set(re.findall(r"def (test_\w+)", written)) | {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = {}
    for path in (ROOT / "src").rglob("*.py"):
        for note in re.findall(r"# differs:.*(?:\n\s*#.*)*", path.read_text(encoding="utf-8")):
            named |= dict.fromkeys(re.findall(r"\btest_\w{4,}", note), path.name)
    assert named
    assert {name: place for name, place in named.items() if name not in known} == {}


def test_tests_that_the_table_of_faults_names_exist():
    file, missing = "", []
    for path, test in re.findall(r"(tests/[\w/]+\.py)|::(test_\w+)", (ROOT / "tests/found_outside.md").read_text()):
        file = path or file
        text = (ROOT / file).read_text(encoding="utf-8")
        if test and f"def {test}(" not in text:
            missing.append(f"{file}::{test}")
    assert file
    assert not missing


def test_the_zoo_is_linked():
    assert "docs/en/zoo.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    linking = [p.name for p in (ROOT / "docs/en").glob("*.md") if "(zoo.md" in p.read_text(encoding="utf-8")]
    assert linking
