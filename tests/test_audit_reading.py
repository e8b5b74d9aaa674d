"""What collectors return is what is there; a difference with what was signed is seen; nothing is guessed."""

from __future__ import annotations

import hashlib
import json
import os
import select
import socket
import ssl
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from appliance.audit.collect import Subject, collect
from appliance.audit.facts import Fact, NotRead
from appliance.audit.facts_network import Tls
from appliance.audit.reading import (
    accounts,
    data,
    drift,
    firewall,
    gateway,
    host,
    logs,
    machine,
    network,
    packages,
    probe,
    product,
    remote,
    services,
    walk,
)
from appliance.audit.reading.drift import (
    HASHED_MOST_BYTES,
    Live,
    environments_drift,
    files_drift,
    models_drift,
)
from appliance.audit.reading.probe import Unreadable, fact, without_secrets
from appliance.rag.users import UserFile
from tests.tiny import Site, running_world, wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.world import World

PLAYBOOK = "playbooks/site.yml"


@pytest.fixture(scope="module")
def world() -> World:
    return running_world()


@pytest.fixture
def site(tmp_path: Path, world: World) -> Site:
    site = Site(tmp_path / "banip")
    site.adopt(world)
    site.install(world.carrier(tmp_path))
    return site


def release_folder(site: Site) -> Path:
    return site.server.folder(str(site.now))


def files(site: Site, world: World) -> tuple[set[str], set[str], set[str]]:
    found = files_drift(site.server, world.trusted().release, Live())
    return _names(found.changed), _names(found.missing), _names(found.extra)


def environments(site: Site, world: World) -> tuple[set[str], set[str], set[str]]:
    found = environments_drift(site.server, world.trusted().release, Live())
    return _names(found.changed), _names(found.missing), _names(found.extra)


def _names(paths: tuple[str, ...]) -> set[str]:
    return {Path(path).name for path in paths}


def replace(path: Path, content: bytes) -> None:
    """Put other content in the place of a hardlink, and leave the blob alone."""
    path.unlink()
    path.write_bytes(content)


NOTHING: tuple[set[str], set[str], set[str]] = (set(), set(), set())


def test_what_was_installed_has_not_drifted(site: Site, world: World) -> None:
    assert files(site, world) == NOTHING
    assert environments(site, world) == NOTHING
    assert files_drift(site.server, world.trusted().release, Live()).hashed > 0
    assert environments_drift(site.server, world.trusted().release, Live()).hashed > 0


def test_a_changed_a_lost_and_an_added_file_of_the_release_are_named(site: Site, world: World) -> None:
    folder = release_folder(site)
    content = (folder / PLAYBOOK).read_bytes()
    replace(folder / PLAYBOOK, bytes([content[0] ^ 1]) + content[1:])  # the same size
    (folder / "playbooks" / "more.yml").write_text("- hosts: all\n")
    assert files(site, world) == ({"site.yml"}, set(), {"more.yml"})
    (folder / PLAYBOOK).unlink()
    assert files(site, world) == (set(), {"site.yml"}, {"more.yml"})
    (folder / PLAYBOOK).symlink_to(site.server.store.path(world.trusted().release.files[0].sha256))
    assert files(site, world)[0] == {"site.yml"}, "a link is not the file, whatever it points at"


def test_a_large_model_is_hashed_while_that_is_short_and_compared_by_size_beyond(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = HASHED_MOST_BYTES + 1
    grown = running_world()
    grown.files["models/m/weights.bin"] = bytes(large)
    folder = release_folder(site) / "models" / "m"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.bin").write_bytes(b"x" * large)
    release = grown.trusted().release

    def changed() -> tuple[bool, int]:
        found = models_drift(site.server, release, Live())
        return "weights.bin" in _names(found.changed), found.sized

    assert changed() == (True, 0)
    monkeypatch.setattr(drift, "LARGE_MOST_BYTES", large - 1)
    assert changed() == (False, 1), "of its size alone nobody can tell"


def test_what_changed_in_an_environment_is_named(site: Site, world: World) -> None:
    (home,) = site.server.environments.iterdir()
    (package,) = home.glob("lib/python*/site-packages/ansible_runner")
    code = package / "__init__.py"
    code.write_bytes(code.read_bytes() + b"import os\n")
    (package / "more.py").write_text("")
    (package / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"")
    assert environments(site, world) == ({"__init__.py"}, set(), {"more.py"})
    code.unlink()
    assert environments(site, world) == (set(), {"__init__.py"}, {"more.py"})


def test_bytecode_that_a_wheel_carries_is_made_anew_and_is_no_drift(tmp_path: Path) -> None:
    carrying, site = running_world(), Site(tmp_path / "carrying")
    files = {
        "kept/__init__.py": b"X = 1\n",
        "kept/__pycache__/__init__.cpython-311.pyc": b"of another machine",
    }
    carrying.wheels["controller"]["kept-1.0-py3-none-any.whl"] = wheel("kept", files)
    site.adopt(carrying)
    site.install(carrying.carrier(tmp_path))
    (compiled,) = site.server.environments.glob("*/lib/python*/site-packages/kept/__pycache__/*.pyc")
    assert compiled.read_bytes() != b"of another machine"
    assert environments(site, carrying) == NOTHING


def test_a_wheel_that_changed_in_the_store_is_not_believed(site: Site, world: World) -> None:
    (wheel,) = world.trusted().release.environments[0].wheels
    blob = site.server.store.path(wheel.sha256)
    content = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(content.replace(b"METADATA", b"METADATB"))
    assert wheel.sha256 in environments(site, world)[0]


def test_all_facts_of_a_private_root_are_read_or_say_why_not(site: Site) -> None:
    names: list[str] = []
    facts = collect(
        Subject(site.server, site.trust(), contents="release", top=site.root),
        "0.1.0",
        lambda name, _: names.append(name),
    )
    assert len(names) == len(set(names)) >= 30
    release = facts.release.get()
    assert (release.id, release.refused, release.bom) == (site.now, None, "present")
    assert facts.files_drift.get().changed == ()
    assert facts.state.get().lines == len(site.journal())
    told = [getattr(facts, name) for name in names]
    assert all((one.value is None) != (one.unread is None) for one in told)
    assert all(one.source for one in told)


def test_a_broken_signature_is_a_fact_and_takes_the_proof_from_the_rest(site: Site) -> None:
    targets = release_folder(site) / "metadata" / "targets.json"
    replace(targets, targets.read_bytes().replace(b"payloadType", b"payloadTipe"))
    facts = collect(Subject(site.server, site.trust(), contents="release", top=site.root), "0.1.0")
    assert "malformed" in str(facts.release.get().refused)
    with pytest.raises(NotRead):
        facts.proven()
    with pytest.raises(NotRead, match="no proof"):
        facts.files_drift.get()


def test_what_is_not_read_in_time_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.audit.collect.SECONDS_MOST", -1)
    facts = collect(Subject(site.server, site.trust(), contents="release", top=site.root), "0.1.0")
    assert facts.release.get().id == site.now
    assert "not read within" in str(facts.accounts.unread)


def test_a_server_that_trusts_nobody_has_no_release_to_speak_of(tmp_path: Path) -> None:
    facts = collect(Subject(Site(tmp_path / "empty").server, None, contents="release", top=tmp_path), "0.1.0")
    assert str(facts.release.unread) == "this server trusts nobody yet"
    assert str(facts.files_drift.unread) == "this server trusts nobody yet"


# --- Programs and files ------------------------------------------------------------------------------------


def test_a_program_that_is_missing_or_fails_is_a_reason() -> None:
    missing = fact("x", lambda: probe.output("no-such-program")).unread
    assert str(missing) == "the program no-such-program is not installed"
    assert "ended with 1" in str(fact("x", lambda: probe.output("false")).unread)


def test_a_program_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.2)
    assert "did not end within 0.2 s" in str(fact("x", lambda: probe.output("sleep", "1000")).unread)
    endless = "while echo told; do sleep 0.01; done"
    assert "did not end within 0.2 s" in str(fact("x", lambda: probe.output("sh", "-c", endless)).unread)


def test_what_a_program_writes_last_is_read_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = select.select

    def late(streams: list[int], writers: list[int], odd: list[int], timeout_s: float) -> object:
        found = whole(streams, writers, odd, timeout_s)
        if not found[0]:
            time.sleep(0.5)  # whoever was told that there is nothing yet comes back when all is said
        return found

    monkeypatch.setattr(probe, "_LAST_WORDS_S", 0.01)
    monkeypatch.setattr(select, "select", late)
    assert probe.output("sh", "-c", "sleep 0.2; echo told") == "told\n"


def test_a_program_that_writes_for_ever_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "OUTPUT_BYTES", 1000)
    assert "more than 1000 bytes" in str(fact("x", lambda: probe.output("yes")).unread)


@pytest.mark.real
def test_what_a_program_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    left = tmp_path / "left"
    began = time.monotonic()
    told = probe.output("sh", "-c", f"sleep 1000 & echo $! > {left}; echo told")
    assert (told, time.monotonic() - began < 10) == ("told\n", True)
    with suppress(psutil.NoSuchProcess):  # or nobody has taken notice of its end yet
        assert psutil.Process(int(left.read_text())).status() == psutil.STATUS_ZOMBIE
    assert probe.output("sh", "-c", "echo told; setsid sleep 5 & exit 0") == "told\n", "in a group of its own"


def test_a_program_that_closes_its_output_is_waited_for() -> None:
    assert "ended with 7" in str(
        fact("x", lambda: probe.output("sh", "-c", "exec >&-; sleep 0.3; exit 7")).unread
    )


@pytest.mark.parametrize("said", ["[]", "null", '"x"', "1", '{"Defaults": 1}', '{"User_Specs": [7]}', ""])
def test_a_program_that_answers_as_nobody_expected_costs_one_fact(said: str) -> None:
    found = fact("cvtsudoers", lambda: remote.parse_sudoers(said))
    assert found.unread is not None
    assert found.value is None


@pytest.mark.parametrize(
    ("program", "body", "read"),
    [
        ("getent", "exit 0", accounts.accounts),
        ("getent", "exit 0", accounts.groups),
        ("getent", "echo kim:x:1000:1000::/:/bin/sh", accounts.accounts),
        ("systemctl", "exit 0", services.services),
        ("systemd-detect-virt", "exit 0", host.host),
        ("systemd-detect-virt", "echo Failed; exit 1", host.host),
        ("journalctl", "echo no journal >&2; exit 1", machine.usb_events),
        ("journalctl", "echo no journal >&2; exit 1", data.requests),
        ("journalctl", "echo Failed to open >&2; exit 1", logs.journal_whole),
        ("dpkg", "echo dpkg: error >&2; exit 1", packages.package_files),
        ("logrotate", "exit 0", logs.rotations),
        ("logrotate", "echo reading config file; echo error >&2; exit 1", logs.rotations),
        ("cvtsudoers", "exit 0", remote.sudo),
        ("sshd", "exit 0", remote.ssh),
        ("nft", "exit 0", firewall.firewall),
    ],
)
def test_silence_and_a_complaint_are_no_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, body: str, read: Callable[[], object]
) -> None:
    around = {"sudo": "exit 0", "dpkg-query": "exit 0", "getent": "echo root:x:0:0::/root:/bin/sh"}
    for name, content in (around | {program: body}).items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(probe, "FOLDERS", (str(tmp_path),))
    assert fact(program, read).unread is not None


@pytest.mark.parametrize(("again", "found"), [("exit 0", 0), ("echo FAIL: $3; exit 1", 1)])
def test_a_journal_that_is_written_while_it_is_read_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, again: str, found: int
) -> None:
    torn = "echo 'FAIL: /x/system.journal (Bad message)'; exit 1"
    lines = f'case "$*" in *--file*) {again};; *--verify*) {torn};; esac'
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\n{lines}\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setattr(probe, "FOLDERS", (str(tmp_path),))
    assert len(logs.journal_whole()) == found


def test_an_archive_that_does_not_hold_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = 'case "$*" in *--file*) exit 0;; *) echo "FAIL: /x/system@1.journal (Bad message)"; exit 1;; esac'
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\n{lines}\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setattr(probe, "FOLDERS", (str(tmp_path),))
    assert logs.journal_whole() == ("/x/system@1.journal (Bad message)",)


def test_nothing_found_is_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "journalctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setattr(probe, "FOLDERS", (str(tmp_path),))
    assert fact("journalctl", machine.usb_events).get() == ()


def test_a_pipe_a_device_or_an_endless_file_has_no_lines(tmp_path: Path) -> None:
    pipe, endless = tmp_path / "pipe", tmp_path / "endless"
    os.mkfifo(pipe)
    with endless.open("wb") as file:
        file.truncate(1 << 40)
    for path in (pipe, Path("/dev/zero"), endless):
        assert fact("x", partial(probe.lines, path)).unread is not None


def test_too_many_files_are_a_reason_and_no_shorter_list(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert len(probe.look_below(tmp_path)) == 6
    with pytest.raises(Unreadable, match="more than 4 files"):
        probe.look_below(tmp_path, most=4)


def test_a_walk_that_is_cut_short_is_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(walk, "ENTRIES_MOST", 10)
    with pytest.raises(Unreadable, match="the rest was not looked at"):
        walk.finds(tmp_path)


def test_what_is_not_there_is_a_fact_and_what_may_not_be_read_is_none(tmp_path: Path) -> None:
    assert probe.look(tmp_path / "nothing").kind == "absent"
    assert probe.lines(tmp_path / "nothing") == ()
    assert fact("x", lambda: probe.lines(tmp_path)).unread is not None, "a folder has no lines"


def test_lines_keep_their_numbers_and_lose_comments_and_padding(tmp_path: Path) -> None:
    file = tmp_path / "login.defs"
    file.write_text("# a comment\n\n  UMASK\t\t022  \n")
    (line,) = probe.lines(file)
    assert (line.number, line.text) == (3, "UMASK 022")


def test_modes_and_owners_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch()
    file.chmod(0o4750)
    found = probe.look(file)
    assert (found.kind, found.mode, found.bits) == ("file", "4750", 0o4750)
    assert found.owner == probe.user_name(os.getuid())


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("", "empty"),
        ("*", "locked"),
        ("!$6$salt$hash", "locked"),
        ("$y$j9T$salt$hash", "yescrypt"),
        ("$6$salt$hash", "sha512"),
        ("$1$salt$hash", "md5"),
        ("$9$salt$hash", "9"),
        ("abJnggxhB/yWI", "des"),
    ],
)
def test_of_a_hash_only_its_kind_is_kept(field: str, kind: str) -> None:
    assert accounts.hash_kind(field) == kind


def test_the_last_assignment_of_systemd_counts() -> None:
    content = (
        "# /etc/a\n[Journal]\n#Storage=none\nStorage=auto\n\n# /etc/b\n[Journal]\n Storage = persistent\n"
    )
    assert services.settings(content, "Journal") == {"Storage": "persistent"}
    assert services.settings(content, "Login") == {}
    unheaded = f"{content}\n# /etc/c\nStorage=none\n[Other]\nStorage=volatile\n"
    assert services.settings(unheaded, "Journal") == {"Storage": "persistent"}, "systemd passes over these"


def test_the_firewalls_chains_and_refused_attempts_are_read_from_nfts_own_words() -> None:
    chain = {"family": "inet", "table": "banip", "name": "output", "handle": 1, "type": "filter"}
    attempt = {"elem": {"val": {"concat": [33, "8.8.8.8", "udp", 53]}, "timeout": 86400, "expires": 80000}}
    told = [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "banip", "handle": 1}},
        {"chain": {**chain, "hook": "output", "prio": 0, "policy": "drop"}},
        {"chain": {**chain, "name": "helper"}},
        {"set": {"family": "inet", "name": "attempts4", "table": "banip", "elem": [attempt]}},
        {"set": {"family": "inet", "name": "attempts6", "table": "banip"}},
        {"set": {"family": "inet", "name": "attempts4", "table": "other", "elem": [attempt]}},
    ]
    found = firewall.parse_rules(*[json.dumps({"nftables": told})] * 2)
    assert [(one.hook, one.policy) for one in found.chains] == [("output", "drop")]
    assert found.counts_egress
    assert [(one.set, one.element) for one in found.attempts] == [("attempts4", "33 8.8.8.8 udp 53")]


def test_a_firewall_of_somebody_else_has_chains_and_counts_nothing() -> None:
    chain = {"family": "inet", "table": "firewalld", "name": "filter_INPUT", "hook": "input", "prio": 10}
    found = firewall.parse_rules(json.dumps({"nftables": [{"chain": chain}]}))
    assert [(one.table, one.hook, one.policy) for one in found.chains] == [("firewalld", "input", "accept")]
    assert (found.counts_egress, found.attempts) == (False, ())


@contextmanager
def serving(folder: Path, lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> Iterator[int]:
    """Serve handshakes under those versions on a port of loopback."""
    key, certificate = self_signed()
    (folder / "pair.pem").write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = lowest, highest
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, context), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            plain, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as wrapped:
                wrapped.recv(1)


def _hang_up(listener: socket.socket) -> None:
    for _ in range(4):
        listener.accept()[0].close()


def self_signed() -> tuple[bytes, bytes]:
    """Return a key and its own certificate, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rag.local")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return plain, certificate.public_bytes(Encoding.PEM)


def test_a_gateway_that_still_takes_old_protocols_is_found_out(tmp_path: Path) -> None:
    with serving(tmp_path, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_3) as port:
        found = gateway.tls(port)
    assert found.accepted == ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
    assert {"aNULL", "CBC with SHA-1"} <= set(found.weak_ciphers)
    assert found.certificate is not None
    assert (found.certificate.key, found.certificate.key_bits, found.certificate.self_signed) == (
        "EC",
        256,
        True,
    )


def test_a_gateway_that_refuses_old_protocols_is_seen_to(tmp_path: Path) -> None:
    with serving(tmp_path, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2) as port:
        found = gateway.tls(port)
    assert (found.accepted, found.refused) == (("TLSv1.2",), ("TLSv1.0", "TLSv1.1", "TLSv1.3"))


def test_a_port_that_speaks_no_tls_is_a_reason_and_no_gateway_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=_hang_up, args=(listener,), daemon=True)
        thread.start()
        assert "no handshake succeeded" in str(fact("tls", lambda: gateway.tls(port)).unread)
        thread.join(5)
    assert gateway.tls(port) == Tls()


class _Answering(BaseHTTPRequestHandler):
    """Knows nobody's key, and hangs up on who sends something."""

    def do_GET(self) -> None:
        status = {"/health": 200, "/v1/nowhere": 404}.get(self.path, 401)
        body = b'{"error": {"code": "invalid_api_key"}}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
    thread.join(5)


def test_the_api_is_asked_as_a_stranger_would_and_a_hang_up_is_an_answer() -> None:
    with http_server() as port:
        found = gateway.web(gateway=1, api=port)
        well = gateway.health((f"http://127.0.0.1:{port}/health", f"http://127.0.0.1:{port}/v1/nowhere"))
    assert found.gateway is None
    assert found.api is not None
    assert {name: one.status for name, one in found.api.items()} == {
        "health": 200,
        "models": 401,
        "documents": 401,
        "wrong-key": 401,
        "search": 0,
    }
    assert found.api["documents"].body == found.api["wrong-key"].body != ""
    assert found.api["health"].body == "", "of good answers nothing is kept"
    assert sorted(well.values()) == [200, 404]
    assert gateway.health((f"http://127.0.0.1:{port}/health",)) == {f"http://127.0.0.1:{port}/health": 0}


def test_users_of_the_api_are_facts_and_digests_of_their_keys_are_not(site: Site) -> None:
    assert data.api_users(site.server) == ()
    (site.server.data / "api").mkdir(parents=True)
    file = UserFile(site.server.data / "api" / "users.json")
    file.add("kim", "S", "admin", datetime(2026, 11, 1, tzinfo=timezone.utc))
    (kim,) = data.api_users(site.server)
    assert (kim.name, kim.grade, kim.role, kim.disabled) == ("kim", "S", "admin", False)
    assert file.read().users[0].sha256 not in repr(kim)
    file.path.write_text("{")
    assert fact("x", lambda: data.api_users(site.server)).value is None


def test_documents_count_by_grade_and_those_without_a_record_or_changed_are_named(site: Site) -> None:
    folder = site.server.data / "api" / "collection" / "documents"
    assert data.documents(site.server).count == 0
    folder.mkdir(parents=True)
    record = {"grade": "S", "ingested_at": "2026-11-01", "name": "a.txt", "size_bytes": 5}
    good, changed, bare = (hashlib.sha256(word).hexdigest() for word in (b"good", b"changed", b"bare"))
    for name, content in ((good, b"good"), (changed, b"other"), (bare, b"bare")):
        (folder / name).write_bytes(content)
        if name != bare:
            (folder / f"{name}.json").write_text(json.dumps({"document": name, **record}))
    found = data.documents(site.server)
    assert (found.count, found.grades) == (3, {"?": 1, "S": 2})
    assert (found.undescribed, found.changed) == ((bare,), (changed,))
    assert {one.sha256: one.grade for one in found.graded or ()} == {good: "S", changed: "S", bare: "?"}


def test_commands_that_somebody_has_to_approve_are_facts_and_so_is_a_rollback(site: Site) -> None:
    journal = site.server.state.journal
    assert product.state(site.server).sensitive == ()
    for event, facts in (
        ("adopted", {}),
        ("started", {"operation": "install"}),
        ("finished", {"outcome": "install"}),
        ("expired-accepted", {}),
        ("unsafe-anything", {}),
        ("clock-set", {}),
        ("started", {"operation": "rollback"}),
        ("finished", {"outcome": "return"}),
        ("finished", {"outcome": "rollback"}),
        ("fix-applied", {}),
        ("fix-undone", {}),
        ("pruned", {}),
        ("started", {"operation": "uninstall"}),
        ("trust-replaced", {"former": "x"}),
        ("refused", {}),
        ("audited", {}),
    ):
        journal.append(event, **facts)
    found = product.state(site.server)
    assert [one.command for one in found.sensitive or ()] == [
        *("adopted", "expired-accepted", "unsafe-anything", "clock-set", "rollback"),
        *("fix-applied", "fix-undone", "pruned", "uninstall", "trust-replaced"),
    ]
    assert len(found.returns) == 1


@pytest.mark.parametrize(
    ("path", "hides"),
    [
        ("/etc/.pwd.lock", False),
        ("/etc/.backdoor", True),
        ("/tmp/.X11-unix", False),  # noqa: S108 - a name
        ("/tmp/.cache", True),  # noqa: S108 - a name
        ("/usr/lib/...", True),
        ("/var/home/kim/.bashrc", False),
        ("/var/home/kim/. ", True),
        ("/var/lib/app/.state", False),
        ("/srv/a\x07b", True),
        ("/.profile", True),
        ("/usr/share/name.txt", False),
    ],
)
def test_what_hides_where_nothing_has_to_is_known_by_its_name(path: str, *, hides: bool) -> None:
    assert walk.is_hidden(path) is hides


def test_an_open_socket_is_seen_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = [one for one in network.listeners() if one.port == listener.getsockname()[1]]
    assert [(one.protocol, one.address) for one in found] == [("tcp", "127.0.0.1")]


def test_a_fact_without_a_value_is_never_given() -> None:
    with pytest.raises(NotRead, match="no value"):
        Fact[str](source="x", value=None, unread=None).get()


def test_a_line_of_any_length_is_looked_through_for_secrets() -> None:
    begun = time.monotonic()
    assert without_secrets("a-" * 20_000 + "db-password=hunter2 x") == "a-" * 20_000 + "db-password=*** x"
    assert time.monotonic() - begun < 5
