"""What a release must have in common: version numbers, extras, links that work on a package index."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
# Ray supports fewer versions of Python; the rest is for contributors.
NOT_IN_ALL = {"all", "ray", "browser", "fuzz", "docs", "dev"}


def test_citation_has_the_version_of_the_changelog() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    newest = re.search(r"^## (\d+\.\d+\.\d+)\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest is not None
    assert str(citation["version"]) == newest[1]


def test_the_extra_all_has_every_extra_for_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    [everything] = extras["all"]
    named = set(re.fullmatch(r"separative\[(.*)\]", everything)[1].split(","))  # type: ignore[index]
    assert named == set(extras) - NOT_IN_ALL
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"`{extra}`" in readme for extra in {*named, "all", "ray"})


def test_links_and_images_of_the_readme_work_outside_of_the_repository() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert len(targets) > 10
    assert all(target.startswith(("https://", "#")) for target in targets)


def test_llms_txt_lists_every_page() -> None:
    listed = (ROOT / "docs" / "llms.txt").read_text("utf-8")
    raw = "https://raw.githubusercontent.com/separative/separative/main/"
    named = {
        line.split("](")[1].split(")")[0].removeprefix(raw) for line in listed.splitlines() if "](" in line
    }
    assert named == {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} | {"docs/api/index.md"}
