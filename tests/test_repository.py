"""What may stand in the repository, and what has to."""

from __future__ import annotations

import os
import re
import subprocess
import unicodedata
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent

#: Modules without a test file of their own, and where they are tried instead.
TESTED_ELSEWHERE: dict[str, str] = {
    "appliance.chain": "test_state and test_rotation",
    "appliance.clock": "test_freshness",
    "appliance.direct": "test_pack and test_intake",
    "appliance.progress": "test_session and test_main",
    "appliance.standing": "test_rotation and test_freshness",
    "appliance.audit.checklists": "test_audit_catalogue and test_audit_site",
    "appliance.audit.checks.*": "test_audit_checks: a pass and a fail case for every check",
    "appliance.audit.collect": "test_audit_on_a_server",
    "appliance.audit.command": "test_audit_chain and test_audit_on_a_server",
    "appliance.audit.coverage_command": "test_audit_coverage",
    "appliance.audit.controls": "test_audit_site",
    "appliance.audit.dated": "test_audit_site",
    "appliance.audit.draft_*": "test_audit_draft",
    "appliance.audit.edition": "shapes; test_audit_report",
    "appliance.audit.fix_*": "test_audit_fix, and test_audit_fix_on_a_server for what only a server has",
    "appliance.audit.fixes": "test_audit_fix",
    "appliance.audit.history": "test_audit_chain",
    "appliance.audit.mending": "test_audit_chain: what is lost",
    "appliance.audit.options": "test_audit_seal and test_audit_coverage",
    "appliance.audit.report_command": "test_audit_seal: the report again, anywhere",
    "appliance.audit.survey": "test_audit_chain",
    "appliance.audit.verify_command": "test_audit_chain: the command line",
    "appliance.audit.formats.*": "test_audit_report, test_audit_formats, and each format's own",
    "appliance.audit.facts": "test_audit_reading",
    "appliance.audit.facts_*": "types; test_audit_checks and test_audit_reading",
    "appliance.audit.round": "test_audit_on_a_server",
    "appliance.audit.integrity_run": "test_audit_integrity",
    "appliance.audit.watch_command": "test_audit_integrity, and test_audit_watch_on_a_server",
    "appliance.audit.reading.*": "test_audit_reading, and test_audit_on_a_server for what only a server has",
    "appliance.audit.outcome": "shapes; test_audit_site and test_audit_report",
    "appliance.audit.result": "test_audit_checks and test_audit_report",
    "appliance.audit.standing": "test_audit_site",
    "appliance.audit.words": "test_audit_report",
    "appliance.console": "test_main",
    "appliance.document": "test_manifest and test_audit_site",
    "appliance.durable": "test_durability: every order of sync and rename, under strace",
    "appliance.images": "test_containers",
    "appliance.journal": "test_state",
    "appliance.metadata": "test_release",
    "appliance.part": "test_intake, test_kill_import, and test_durability for what a power cut leaves",
    "appliance.pieces": "test_chunks and test_intake",
    "appliance.preparation": "test_operation and test_packages_and_images",
    "appliance.problems": "test_manifest",
    "appliance.remedies": "test_audit_fix",
    "appliance.rag.access": "test_rag_api",
    "appliance.rag.chat": "test_rag_api",
    "appliance.rag.client": "test_rag_command",
    "appliance.rag.embedding": "test_rag_embed and test_rag_collection",
    "appliance.rag.feedback": "test_rag_api",
    "appliance.rag.guard": "test_rag_api",
    "appliance.rag.metrics": "test_rag_api",
    "appliance.rag.parsing": "test_rag_documents: it is the child process",
    "appliance.rag.ranking": "test_rag_collection",
    "appliance.rag.retrieval": "types; test_rag_collection",
    "appliance.rag.shapes": "test_rag_api",
    "appliance.rag.shard": "test_rag_collection",
    "appliance.rag.turn": "test_rag_api",
    "appliance.rag.upload": "test_rag_api",
    "appliance.roots": "test_verify: rules 1 to 3",
    "appliance.storekeeping": "test_holdings",
    "bundle.apt": "test_bundle_packages",
    "bundle.bom": "test_compose",
    "bundle.bootstrap": "test_firstcontact and test_journey: it is appliance.pyz",
    "bundle.collection": "test_collect",
    "bundle.command": "test_key_command and test_build_cli",
    "bundle.contents": "test_compose",
    "bundle.copying": "test_pack",
    "bundle.document": "test_manifest",
    "bundle.draft": "test_ceremony and test_ceremony_kills",
    "bundle.folder": "test_keys and test_ceremony",
    "bundle.images": "test_bundle_images",
    "bundle.key_paper": "test_key_command",
    "bundle.local": "test_lock",
    "bundle.make": "test_build_cli and test_journey",
    "bundle.models": "test_lock and test_collect",
    "bundle.packet": "test_build_cli",
    "bundle.pair": "test_keys",
    "bundle.paper": "test_build_cli and test_key_command",
    "bundle.resolve": "test_lock",
    "bundle.root": "test_verify, test_keys and test_ceremony",
    "bundle.schemas": "test_manifest",
    "bundle.screen": "test_build_cli",
    "bundle.show": "test_build_cli",
    "bundle.sign": "test_pack",
    "bundle.sign_command": "test_key_command",
    "bundle.sources": "test_manifest",
    "bundle.wheels": "test_lock and test_collect",
    "bundle.workshop": "test_build_cli",
}

# Each search is spelled so that it does not find itself.
MACHINE_PATHS = re.compile(r"(?<![\w.}])/(hom[e]/[a-z]|User[s]/[A-Za-z]|wor[k]/|roo[t]/\.[a-z]|op[t]/[a-z])")
INDEX_HOSTS = re.compile(
    "|".join(
        re.escape(f"{name}.{domain}")
        for name, domain in [
            ("pypi", "org"), ("files", "pythonhosted.org"), ("download", "pytorch.org"),
            ("huggingface", "co"),
            ("deb", "debian.org"), ("snapshot", "debian.org"), ("security", "debian.org"),
            ("archive", "ubuntu.com"), ("registry", "npmjs.org"), ("docker", "io"), ("ghcr", "io"),
            ("quay", "io"), ("nvcr", "io"),
        ]
    )
)  # fmt: skip
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KE[Y]-----\s+[A-Za-z0-9+/=:,\s-]{40}")
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")


@cache
def tracked() -> tuple[Path, ...]:
    """Return what git has or would take: so a slip is seen before it is committed."""
    asked = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    listed = subprocess.run(asked, cwd=PROJECT, env=outside, capture_output=True, check=True).stdout
    names = {name for name in listed.decode().split("\0") if name}
    return tuple(sorted(PROJECT / name for name in names if (PROJECT / name).is_file()))


def lines_with(pattern: re.Pattern[str], *, but_not_under: str = "\0") -> list[str]:
    found = []
    for path in tracked():
        name = str(path.relative_to(PROJECT))
        if not name.startswith(but_not_under):
            content = path.read_bytes().decode("utf-8", "replace")
            found += [
                f"{name}:{content.count(chr(10), 0, match.start()) + 1} {match[0]!r}"
                for match in pattern.finditer(content)
            ]
    return found


def test_git_names_the_files_that_belong_here() -> None:
    assert Path(__file__) in tracked()
    assert PROJECT / "pyproject.toml" in tracked()


def test_no_file_knows_a_folder_of_the_machine_it_was_written_on() -> None:
    # The audit's cases and planted faults tell of machines that nobody has.
    assert not lines_with(MACHINE_PATHS, but_not_under="tests/audit/")


def test_no_file_but_a_manifest_names_a_package_index_hub_or_registry() -> None:
    assert not lines_with(INDEX_HOSTS, but_not_under="manifests/")


def test_no_file_holds_a_private_key() -> None:
    assert not lines_with(PRIVATE_KEY)


@pytest.mark.parametrize(
    ("pattern", "caught", "passed"),
    [
        (MACHINE_PATHS, "cd {home}/kim/banip", "cd /var/lib/banip{home}/kim"),
        (INDEX_HOSTS, "https://{index}/simple", "https://index.example/simple"),
        (PRIVATE_KEY, "-----BEGIN EC {key}-----\n{body}", "-----BEGIN [A-Z ]*{key}-----"),
    ],
)
def test_the_searches_find_what_they_search(pattern: re.Pattern[str], caught: str, passed: str) -> None:
    words = {"home": "/home", "index": "pypi" + ".org", "key": "PRIVATE KEY", "body": "MHcCAQEE" * 8}
    assert pattern.search(caught.format(**words))
    assert not pattern.search(passed.format(**words))


def test_locks_that_a_machine_wrote_stay_outside() -> None:
    names = {path.name for path in tracked()}
    assert not [name for name in names if name.endswith((".lock", ".lock.json"))]


def test_every_link_in_the_documents_leads_somewhere() -> None:
    dead = [
        f"{page.relative_to(PROJECT)} -> {link}"
        for page in tracked()
        if page.suffix == ".md"
        for link in LINK.findall(_without_code(page.read_text("utf-8")))
        if not re.match(r"[a-z]+:", link) and not leads_somewhere(page, link)
    ]
    assert not dead


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    known = target in tracked() or any(target in each.parents for each in tracked())
    return known and (not anchor or target.suffix != ".md" or anchor in anchors(target.read_text("utf-8")))


def anchors(content: str) -> set[str]:
    """Return the anchors of a page's headings, spelled the way GitHub does: letters of any script stay."""
    headings = re.findall(r"^#{1,6}\s+(.*?)\s*#*$", _without_code(content, spans=False), re.MULTILINE)
    return {
        "".join(
            each for each in heading.lower() if each in "-_ " or unicodedata.category(each)[0] in "LNM"
        ).replace(" ", "-")
        for heading in headings
    }


def _without_code(content: str, *, spans: bool = True) -> str:
    content = re.sub(r"^(```|~~~).*?^\1", "", content, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", content) if spans else content


def test_links_are_judged_by_file_and_heading(tmp_path: Path) -> None:
    assert not leads_somewhere(PROJECT / "README.md", "docs/no-such-page.md")
    assert leads_somewhere(PROJECT / "README.md", "pyproject.toml")
    assert leads_somewhere(PROJECT / "docs" / "page.md", "../tests/")
    assert not leads_somewhere(PROJECT / "README.md", str(tmp_path))
    assert anchors("# 반입 절차, 1단계\n## `sign` and *pack*\n```\n# no\n```\n") == {
        "반입-절차-1단계",
        "sign-and-pack",
    }


def test_ci_can_run_its_entry() -> None:
    entry = PROJECT / ".ci" / "run"
    assert os.access(entry, os.X_OK)
    assert subprocess.run(["bash", "-n", entry], check=False).returncode == 0


def test_every_module_has_its_own_tests() -> None:
    tests = {path.name for path in tracked() if path.parent == PROJECT / "tests"}
    untested = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for folder in ("appliance", "bundle")
        for path in (PROJECT / folder).glob("**/*.py")
        if path in tracked()
        and path.name != "__init__.py"
        and _test_file(path.relative_to(PROJECT / folder)) not in tests
    }
    unexplained = {name for name in untested if not any(fnmatch(name, known) for known in TESTED_ELSEWHERE)}
    outdated = {known for known in TESTED_ELSEWHERE if not any(fnmatch(name, known) for name in untested)}
    assert (unexplained, outdated) == (set(), set())


def _test_file(module: Path) -> str:
    return f"test_{'_'.join(module.with_suffix('').parts).replace('__main__', 'main')}.py"


def test_keys_and_what_travels_to_be_signed_are_never_offered_to_git() -> None:
    names = [
        "kim.pem",
        "kim.pub.pem",
        "keys/ledger.json",
        "root-2.tosign",
        "root-2.tosign.4652fa7fdef24f64.sig",
    ]
    done = subprocess.run(
        ["git", "check-ignore", *names], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == names


def test_the_locked_environment_is_the_one_that_the_project_asks_for() -> None:
    pinned = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", _lock(), re.MULTILINE))
    wrong = [
        str(asked)
        for asked in _asked_for()
        if (version := pinned.get(canonicalize_name(asked.name))) is None or version not in asked.specifier
    ]
    assert not wrong, "run `make lock`"


def test_every_locked_package_is_held_by_a_digest() -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", _lock().partition("\n")[2])
    packages = [block for block in blocks if "==" in block]
    assert len(packages) > 50
    assert not [block.split()[0] for block in packages if "--hash=sha256:" not in block]


def _lock() -> str:
    """Return what is locked: the environment of all, and the fuzzers' own."""
    return "".join((PROJECT / f"requirements-{name}.txt").read_text("utf-8") for name in ("dev", "fuzz"))


#: torch and what needs it are the servers' only: larger than everything else together.
_NOT_HERE = "embed"


def _asked_for() -> list[Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    extras = {k: v for k, v in project["project"]["optional-dependencies"].items() if k != _NOT_HERE}
    every = [project["project"]["dependencies"], *project["dependency-groups"].values(), *extras.values()]
    asked = [Requirement(each) for group in every for each in group if isinstance(each, str)]
    return [each for each in asked if each.name != project["project"]["name"]]
