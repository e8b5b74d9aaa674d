"""Manifests: one meaning, every fault at once, each with its file, line and path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from appliance.document import DOCUMENT_MAX_BYTES
from appliance.errors import BadInput
from appliance.problems import BadInputs
from bundle.manifest import check
from bundle.schemas import schema_bytes, schemas
from tests.project import TinyProject

PROJECT = Path(__file__).parents[1]
SCHEMAS = PROJECT / "manifests" / "schema"


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    return TinyProject(tmp_path / "project")


def problems(project: TinyProject) -> list[str]:
    with pytest.raises(BadInputs) as caught:
        project.check()
    assert caught.value.exit_code == 2
    return [problem.line() for problem in caught.value.problems]


def test_a_good_manifest_is_read_with_its_roles(project: TinyProject) -> None:
    checked = project.check()
    assert checked.manifest.product == "tiny"
    assert checked.roles[0].owns.units == ("banip-api.service",)
    assert checked.lock_path.name == "tiny.lock.json"


@pytest.mark.parametrize("name", ["minimal.yaml", "l40s-x2.yaml"])
def test_our_own_manifests_are_good(name: str) -> None:
    assert check(PROJECT / "manifests" / name).manifest.format == 1


def test_all_faults_are_told_in_one_run_in_the_order_of_the_file(project: TinyProject) -> None:
    project.edit("counter: 1", "counter: 0")
    project.edit("grade: O", "grade: X")
    project.edit("path: .", "pth: .")
    found = problems(project)
    starts = ["manifests/tiny.yaml:4: $.counter: ", "manifests/tiny.yaml:5: $.grade: "]
    assert [line[: len(start)] for line, start in zip(found, starts, strict=False)] == starts
    line = project.line_of("pth")
    assert any(
        said.startswith(f"manifests/tiny.yaml:{line}: $.environments.api.projects[0].pth: ") for said in found
    )


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("counter: 1", "counter: 1\ncolour: red", "$.colour", "not known"),
        (
            "      seed: one",
            "      seed: one\n      salt: two",
            "$.models.greeting.generate.salt",
            "not known",
        ),
        ("format: 1", "format: 2", "$.format", "none of"),
        ("version: 1.0.0", "version: 1.0", "$.version", "quotes"),
        ("leaf==1.0", "leaf @ https://example.org/leaf.whl", "$.environments.api.requirements[0]", "no URL"),
        ("leaf==1.0", "--index-url=x", "$.environments.api.requirements[0]", "not a requirement"),
        ("path: .", "path: ../other", "$.environments.api.projects[0].path", "does not match"),
        ("path: .", "path: /etc", "$.environments.api.projects[0].path", "does not match"),
        ("path: .", "path: nothere", "$.environments.api.projects[0].path", "no folder"),
        ("roles: [api]", "roles: [api, ghost]", "$.playbooks.roles[1]", "does not exist"),
        ("product: tiny\n", "", "$", "the key product is missing"),
        ("  api:\n", "  controller:\n", "$.environments.controller", "by itself"),
        ("architecture: x86_64", "architecture: aarch64", "$.target.platform", "another architecture"),
        ("    generate:", "    hub: a/b\n    generate:", "$.models.greeting", "exactly one of"),
    ],
)
def test_a_fault_is_named_with_its_path(
    project: TinyProject, old: str, new: str, place: str, words: str
) -> None:
    project.edit(old, new)
    (line,) = problems(project)
    where, said = line.split(": ", 1)
    assert where.startswith("manifests/tiny.yaml:")
    assert said.startswith(f"{place}: ")
    assert words in said


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("product: tiny", "stands twice, first on line 2"),
        ("site: &name x", "anchors"),
        ("site: !!str x", "tags"),
        ("site: !include x", "tags"),
        ("site: no", "quotes"),
        ("site: 0644", "quotes"),
        ("site: 12:30", "quotes"),
        ("site: 2026-01-01", "quotes"),
        ("<<: {a: b}", "quotes"),
        ("1: x", "quotes"),
        ("site: [", "not valid YAML"),
        ("---\nformat: 1", "not valid YAML"),
    ],
)
def test_yaml_that_could_mean_two_things_is_refused(project: TinyProject, yaml: str, words: str) -> None:
    project.write("manifests/tiny.yaml", project.manifest.read_text("utf-8") + yaml + "\n")
    assert any(words in line for line in problems(project))


def test_an_anchor_is_refused_where_it_stands(project: TinyProject) -> None:
    project.edit("seed: one", "seed: &seed one")
    assert problems(project)[0].startswith(f"manifests/tiny.yaml:{project.line_of('&seed')}: ")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"#" * (DOCUMENT_MAX_BYTES + 1), b"[" * 5000])
def test_what_is_no_yaml_document_is_refused_not_a_crash(project: TinyProject, content: bytes) -> None:
    project.write("manifests/tiny.yaml", content)
    assert len(problems(project)) == 1


def test_a_folder_that_is_a_link_out_of_the_project_is_refused(project: TinyProject, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (project.folder / "outside").symlink_to(tmp_path / "outside")
    project.edit("path: .", "path: outside")
    assert "leaves the project" in problems(project)[0]


def test_a_link_inside_the_project_is_fine(project: TinyProject) -> None:
    (project.folder / "again").symlink_to(project.folder / "wheels")
    project.edit("find_links: [wheels]", "find_links: [again]")
    assert project.check().manifest.sources.find_links == ("again",)


def test_a_fault_in_a_role_is_named_in_the_role(project: TinyProject) -> None:
    role = "playbooks/roles/api/meta/banip.yaml"
    project.edit("units: [banip-api.service]", "units: [sshd.service]", role)
    (line,) = problems(project)
    assert line.startswith(f"{role}:{project.line_of('sshd', role)}: $.owns.units[0]: ")


def test_a_health_check_of_an_unknown_kind_is_refused(project: TinyProject) -> None:
    role = "playbooks/roles/api/meta/banip.yaml"
    project.edit("kind: unit", "kind: shell", role)
    assert "$.health[0]" in problems(project)[0]


def test_a_manifest_lies_in_the_folder_manifests(project: TinyProject) -> None:
    with pytest.raises(BadInput):
        check(project.write("tiny.yaml", "format: 1\n"))
    with pytest.raises(BadInput):
        check(project.folder / "manifests" / "missing.yaml")


@pytest.mark.parametrize(("name", "schema"), schemas().items())
def test_the_committed_schema_is_the_one_of_the_code(name: str, schema: dict[str, object]) -> None:
    Draft202012Validator.check_schema(schema)
    assert (SCHEMAS / f"{name}.schema.json").read_bytes() == schema_bytes(schema), (
        "run: python -c 'from pathlib import Path; from bundle.schemas import write_schemas; "
        'write_schemas(Path("manifests/schema"))\''
    )


@pytest.mark.parametrize("name", schemas())
def test_no_object_in_a_schema_lets_unknown_keys_in(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_bytes())
    objects = [schema, *schema["$defs"].values()]
    assert all(each["additionalProperties"] is False for each in objects if "properties" in each)
    assert all(each["title"] and each["description"] for each in objects)
