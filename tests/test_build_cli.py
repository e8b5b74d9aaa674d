"""``build.py`` as a person and as a program meets it: real processes, exit codes, JSON lines."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project import NOWHERE, TinyProject

pytestmark = pytest.mark.real

BUILD = Path(__file__).parents[1] / "build.py"
PASSPHRASE = "five words that nobody guesses"


@dataclass(frozen=True, slots=True)
class Shop:
    """A tiny project, keys, and what was built of it."""

    project: TinyProject

    def run(self, *argv: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(BUILD), *map(str, argv)],
            cwd=self.project.folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "BANIP_PASSPHRASE": PASSPHRASE, **environment},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, *argv: object, code: int = 0) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.run(*argv, "--json", code=code).stdout.splitlines()]

    @property
    def bundle(self) -> Path:
        return self.project.folder / "dist" / "tiny-1.0.0.tar"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(TinyProject(tmp_path_factory.mktemp("cli") / "project"))
    made.run("keys", "create", "--product", "tiny")
    made.run("lock", made.project.manifest)
    made.run("collect", made.project.manifest)
    made.run("build", made.project.manifest, "--out", "dist")
    made.run("sign", made.bundle, "--key", "keys/release-1.pem")
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Shop:
    return Shop(TinyProject(tmp_path / "project"))


def test_the_whole_way_ends_in_a_bundle_that_servers_would_take(shop: Shop) -> None:
    (last,) = shop.json("verify", shop.bundle)
    assert last["result"]["release"] == "tiny-1.0.0-c1"  # type: ignore[index]
    assert (shop.bundle.parent / "appliance.pyz").is_file()


def test_inspect_reads_kilobytes_and_says_that_it_trusts_nothing(shop: Shop) -> None:
    done = shop.run("inspect", shop.bundle)
    assert "nothing of this is verified" in done.stdout
    (facts,) = shop.json("inspect", shop.bundle)
    result = facts["result"]
    assert isinstance(result, dict)
    assert (result["product"], result["roles"], len(result["signed_by"])) == ("tiny", ["api"], 1)


def test_keys_show_names_every_key_without_a_passphrase(shop: Shop) -> None:
    done = shop.run("keys", "show", BANIP_PASSPHRASE="")
    assert done.stdout.count("root-") == 3
    assert "release-1.pem" in done.stdout
    assert "PRIVATE" not in done.stdout


def test_the_paper_has_the_digest_that_sha256sum_will_print(shop: Shop, tmp_path: Path) -> None:
    page = tmp_path / "packet.html"
    paper = shop.run("packet", shop.bundle, "--html", page).stdout
    digest = hashlib.sha256((shop.bundle.parent / "appliance.pyz").read_bytes()).hexdigest()
    assert f"{digest}  appliance.pyz" in paper
    assert f"{digest[:8]} {digest[8:16]}" in paper
    assert "python3 -I appliance.pyz" in paper
    assert "leaf 1.0" in paper
    with zipfile.ZipFile(shop.bundle.parent / "appliance.pyz") as carried:
        first_root = hashlib.sha256(carried.read("1.root.json")).hexdigest()
    assert f"{first_root[:8]} {first_root[8:16]}" in paper  # what adopt --replace-trust asks for
    assert shop.json("packet", shop.bundle)[0]["result"]["first_root_sha256"] == first_root  # type: ignore[index]
    assert digest in page.read_text("utf-8")
    title = "반입 확인서: tiny-1.0.0-c1 / Carry-in paper of tiny-1.0.0-c1"
    assert f"<title>{title}</title>" in page.read_text("utf-8")
    assert paper.startswith(f"{title}\n\n== ")
    assert "http" not in page.read_text("utf-8").split("<body>")[0], "the page fetches nothing"


def test_an_unsigned_bundle_gets_no_paper(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "unsigned"
    shop.run("build", shop.project.manifest, "--out", out)
    shop.run("packet", out / "tiny-1.0.0.tar", code=2)


def test_a_bundle_without_a_signature_is_untrusted(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "unsigned"
    shop.run("build", shop.project.manifest, "--out", out)
    assert "sign it first" in shop.run("verify", out / "tiny-1.0.0.tar", code=10).stderr


def test_a_flipped_byte_of_content_is_tampered(shop: Shop, tmp_path: Path) -> None:
    raw = bytearray(shop.bundle.read_bytes())
    raw[-1500] ^= 1
    copy = tmp_path / "flipped.tar"
    copy.write_bytes(raw)
    assert shop.json("verify", copy, code=11)[-1]["error"] == "Tampered"


def test_diff_of_a_bundle_with_itself_is_nothing_to_take_in(shop: Shop) -> None:
    (facts,) = shop.json("diff", shop.bundle, shop.bundle)
    assert facts["result"]["added_bytes"] == 0  # type: ignore[index]
    assert facts["result"]["files"] == {"added": [], "removed": [], "changed": []}  # type: ignore[index]


def test_a_second_collection_says_cached(shop: Shop) -> None:
    events = shop.json("collect", shop.project.manifest)
    assert {event["event"] for event in events[:-1]} == {"cached"}
    assert events[-1]["result"]["new"] == 0  # type: ignore[index]


def test_check_names_file_line_and_path_and_is_exit_2(fresh: Shop) -> None:
    fresh.project.edit("counter: 1", "counter: minus")
    fresh.project.edit("grade: O", "grade: Q")
    done = fresh.run("check", fresh.project.manifest, code=2)
    assert "manifests/tiny.yaml:4: $.counter: " in done.stderr
    assert "manifests/tiny.yaml:5: $.grade: " in done.stderr
    (error,) = fresh.json("check", fresh.project.manifest, code=2)
    assert (error["error"], error["exit_code"], len(error["problems"])) == ("BadInput", 2, 2)  # type: ignore[arg-type]


def test_a_lock_with_holes_is_written_listed_and_exit_12(fresh: Shop) -> None:
    fresh.project.edit("models:\n", "models:\n  big:\n    hub: someone/something\n")
    fresh.project.edit("find_links: [wheels]", f"find_links: [wheels]\n  hub: {NOWHERE}")
    error = fresh.json("lock", fresh.project.manifest, code=12)[-1]
    assert error["error"] == "Incomplete"
    assert [problem["where"] for problem in error["problems"]] == ["model big (someone/something)"]  # type: ignore[attr-defined]
    assert (fresh.project.folder / "manifests" / "tiny.lock.json").is_file()
    fresh.run("collect", fresh.project.manifest, code=12)


def test_building_without_a_lock_or_a_collection_says_what_to_do_first(fresh: Shop) -> None:
    assert "build.py lock" in fresh.run("collect", fresh.project.manifest, code=2).stderr
    fresh.run("keys", "create", "--product", "tiny")
    fresh.run("lock", fresh.project.manifest)
    assert "build.py collect" in fresh.run("build", fresh.project.manifest, "--out", "dist", code=12).stderr
    assert not list(fresh.project.folder.glob("dist/*"))


def test_a_secret_stops_the_build(fresh: Shop) -> None:
    fresh.run("keys", "create", "--product", "tiny")
    fresh.project.edit("  api_port: 8600", "  api_port: 8600\n  api_password: Tr0ub4dor-3")
    fresh.run("lock", fresh.project.manifest)
    fresh.run("collect", fresh.project.manifest)
    done = fresh.run("build", fresh.project.manifest, "--out", "dist", code=2)
    assert "Tr0ub4dor" not in done.stderr + done.stdout
    assert not (fresh.project.folder / "dist").exists()


def test_a_root_that_expires_soon_is_warned_of_when_a_bundle_is_built(shop: Shop, tmp_path: Path) -> None:
    keys, out = tmp_path / "keys", tmp_path / "out"
    shutil.copytree(shop.project.folder / "keys", keys)
    words = ("--valid-days", 50, "--key", keys / "root-1.pem", "--key", keys / "root-3.pem")
    shop.run("keys", "rotate", "--keys", keys, *words)
    said = shop.run("build", shop.project.manifest, "--out", out, "--keys", keys).stderr
    # The day turns with the second of signing.
    assert re.search(r"warning: root version 2 expires in (49|50) days", said), said
    assert "warning" not in shop.run("build", shop.project.manifest, "--out", out / "other").stderr


def test_a_wrong_passphrase_is_exit_2_and_signs_nothing(shop: Shop, tmp_path: Path) -> None:
    before = shop.bundle.read_bytes()
    wrong = tmp_path / "wrong"
    wrong.write_text("not it\n", "utf-8")
    shop.run("sign", shop.bundle, "--key", "keys/release-1.pem", "--passphrase-file", wrong, code=2)
    assert shop.bundle.read_bytes() == before


def test_every_command_explains_itself_with_an_example(shop: Shop) -> None:
    for command in ("check", "lock", "collect", "build", "sign", "verify", "inspect", "diff", "packet"):
        words = shop.run(command, "--help").stdout
        assert "--json" in words
        assert f"python build.py {command}" in words


def test_an_unknown_command_is_exit_2(shop: Shop) -> None:
    shop.run("seal", code=2)


def test_a_wrong_command_line_is_one_json_line_for_a_program(shop: Shop) -> None:
    (error,) = shop.json("sign", shop.bundle, "--sign-with", "x", code=2)
    assert (error["error"], error["exit_code"]) == ("BadInput", 2)
    assert "--sign-with" in str(error["happened"])


@pytest.mark.parametrize("days", ["0", "-1", "36501", "99999999999"])
def test_a_root_that_would_be_valid_for_no_time_or_for_ever_is_refused(fresh: Shop, days: str) -> None:
    fresh.run("keys", "create", "--product", "tiny", "--valid-days", days, code=2)
    assert not (fresh.project.folder / "keys").exists()


def test_a_signed_bundle_stays_when_the_same_is_built_again(shop: Shop) -> None:
    before = shop.bundle.read_bytes()
    assert "signed" in shop.run("build", shop.project.manifest, "--out", "dist").stdout
    assert shop.bundle.read_bytes() == before


def test_a_signed_bundle_is_not_overwritten_by_another_of_its_name(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(shop.project.folder, folder)
    other = Shop(TinyProject(folder))
    other.project.edit("text: hello", "text: another")
    other.run("lock", other.project.manifest)
    other.run("collect", other.project.manifest)
    before = other.bundle.read_bytes()
    refused = other.run("build", other.project.manifest, "--out", "dist", code=2)
    assert "raise version and counter" in refused.stderr
    assert other.bundle.read_bytes() == before
    other.bundle.unlink()
    other.run("build", other.project.manifest, "--out", "dist")


@pytest.mark.parametrize("change", ["product", "site", "root", "no zip"])
def test_another_bundles_first_contact_gets_no_paper(shop: Shop, tmp_path: Path, change: str) -> None:
    other = tmp_path / "appliance.pyz"
    with zipfile.ZipFile(shop.bundle.parent / "appliance.pyz") as carried:
        root, described = carried.read("1.root.json"), json.loads(carried.read("first_contact.json"))
    if change == "root":
        root += b" "
    else:
        described[change] = "other"
    with zipfile.ZipFile(other, "w") as made:
        made.writestr("1.root.json", root)
        made.writestr("first_contact.json", json.dumps(described))
    if change == "no zip":
        other.write_bytes(b"print('hello')")
    refused = shop.run("packet", shop.bundle, "--first-contact", other, code=2)
    assert "--first-contact" in refused.stderr
    assert "sha256sum" not in refused.stdout


def test_the_paper_mounts_the_medium_and_never_splits_an_item(shop: Shop, tmp_path: Path) -> None:
    page = tmp_path / "packet.html"
    paper = shop.run("packet", shop.bundle, "--html", page).stdout
    commands = shop.json("packet", shop.bundle)[0]["result"]["commands"]  # type: ignore[index]
    assert "mount -o ro,nosuid,nodev,noexec /dev/sdX1 /media/usb" in commands
    compare = commands.index("sha256sum appliance.pyz") + 1
    assert f"go on after step {compare} only" in paper
    digest = hashlib.sha256((shop.bundle.parent / "appliance.pyz").read_bytes()).hexdigest()
    items = page.read_text("utf-8").split("<pre>")
    assert any("1. appliance.pyz" in item and digest in item for item in items)


def test_signing_with_a_public_key_or_with_none_says_what_is_needed(shop: Shop) -> None:
    public = shop.run("sign", shop.bundle, "--key", "keys/release-1.pub.pem", code=2).stderr
    assert "this is a public key" in public
    assert "keys/release-1.pem" in shop.run("sign", shop.bundle, "--key", "none.pem", code=2).stderr


def test_a_passphrase_file_that_is_empty_or_not_there_has_a_remedy(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("empty", "absent"):
        key = ("--key", "keys/release-1.pem", "--passphrase-file", tmp_path / name)
        assert "first line" in shop.run("sign", shop.bundle, *key, code=2).stderr


def test_an_empty_key_folder_says_how_keys_are_made(shop: Shop, tmp_path: Path) -> None:
    refused = shop.run("verify", shop.bundle, "--keys", tmp_path, code=12)
    assert "build.py keys create" in refused.stderr


def test_a_manifest_in_cp949_is_told_to_be_saved_as_utf_8(fresh: Shop) -> None:
    fresh.project.write("manifests/tiny.yaml", "# 폐쇄망\nformat: 1\n".encode("cp949"))
    assert "save it as UTF-8" in fresh.run("check", fresh.project.manifest, code=2).stderr


def test_a_page_that_cannot_be_written_is_no_bug_of_ours(shop: Shop, tmp_path: Path) -> None:
    (error,) = shop.json("packet", shop.bundle, "--html", tmp_path / "absent" / "page.html", code=2)
    assert (error["error"], error["where"]) == ("BadInput", str(tmp_path / "absent" / "page.html"))


def test_a_full_disk_is_said_to_be_full(shop: Shop) -> None:
    (error,) = shop.json("packet", shop.bundle, "--html", "/dev/full", code=20)
    assert error["happened"] == "the disk is full"


def test_help_loads_none_of_the_heavy_parts() -> None:
    code = (
        "import sys, runpy; sys.argv = ['build.py', '--help']\n"
        f"try: runpy.run_path({str(BUILD)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'jsonschema', 'huggingface_hub', 'cryptography', 'tuf', 'detect_secrets', 'packaging'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=BUILD.parent
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_file_where_a_folder_must_be_is_named(fresh: Shop) -> None:
    fresh.project.folder.joinpath(".banip").write_text("a file where a folder must be", "utf-8")
    assert "/.banip" in fresh.run("lock", fresh.project.manifest, code=2).stderr


def test_our_bug_is_called_our_bug_and_nothing_else_is_promised() -> None:
    code = "import build\n@build.cli.command('divide')\ndef divide(): print(1 // 0)\nbuild.main(['divide'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=BUILD.parent
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "half written" not in done.stderr
