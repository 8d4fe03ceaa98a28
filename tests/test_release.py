"""What a release says of itself is said alike wherever it stands."""

import json
import re
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
ZENODO = json.loads((ROOT / ".zenodo.json").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_of_the_latest_release_in_the_changelog():
    """`Unreleased` stands above it, for what comes next."""
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == ("Unreleased", "")
    assert headings[1] == (CITATION["version"], str(CITATION["date-released"]))


def test_zenodo_and_the_package_index_are_told_what_the_citation_says():
    """Zenodo takes its own file where there is one, and then does not read CITATION.cff."""
    assert ZENODO["title"] == CITATION["title"]
    assert ZENODO["version"] == CITATION["version"]
    assert ZENODO["publication_date"] == str(CITATION["date-released"])
    assert ZENODO["license"] == CITATION["license"] == PROJECT["license"]
    assert ZENODO["description"] == CITATION["abstract"] == PROJECT["description"]
    assert ZENODO["keywords"] == CITATION["keywords"] == PROJECT["keywords"]
    assert [x["name"] for x in ZENODO["creators"]] == [x["name"] for x in CITATION["authors"]]
    assert CITATION["url"] == PROJECT["urls"]["Documentation"]
    assert CITATION["repository-code"] == PROJECT["urls"]["Repository"]
    assert {x["identifier"] for x in ZENODO["related_identifiers"]} == {
        CITATION["references"][0]["identifiers"][0]["value"],
        CITATION["url"],
    }


def test_the_page_on_citing_names_this_version():
    page = (ROOT / "docs" / "how-to" / "cite.md").read_text()
    software = page.split("@software")[1].split("@")[0]
    assert f"title = {{{CITATION['title']}}}" in software
    assert f"version = {{{CITATION['version']}}}" in software
    assert f"year = {{{CITATION['date-released'].year}}}" in software
    paper = CITATION["references"][0]
    assert f"title = {{{paper['title']}}}" in page
    for author in paper["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in page
