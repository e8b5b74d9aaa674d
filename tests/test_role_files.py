"""The roles as files: they own what they make, their units are closed, the grade reaches everywhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest
import yaml
from ansible.plugins.test.core import match  # type: ignore[import-untyped]
from jinja2 import Environment, StrictUndefined
from jinja2.nativetypes import NativeEnvironment

from appliance.format import Grade
from bundle.manifest import RoleFile

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parent.parent
ROLES = PROJECT / "playbooks" / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())
GRADES: tuple[Grade, ...] = get_args(Grade)
#: What it sets a person asked for: it belongs to no release, so that none takes it away.
OF_THE_SITE = "remedy"
UNITS = sorted(path.relative_to(ROLES).as_posix() for path in ROLES.glob("*/templates/banip-*.service.j2"))
TIMERS = sorted(path.relative_to(ROLES).as_posix() for path in ROLES.glob("*/templates/banip-*.timer.j2"))
GRADES_GUIDE = PROJECT / "docs" / "ko" / "grades.md"
#: Of ten; 4.0 is what systemd itself still calls "OK". Podman has to make a container, as root.
EXPOSURE_LIMIT, CONTAINER_EXPOSURE_LIMIT = 2.5, 3.5
#: What looks at the whole server must see it: its homes, temporary files, devices, modules on the disk.
AUDIT, AUDIT_EXPOSURE_LIMIT = "watch/templates/banip-audit.service.j2", 4.0
SEEN = {
    AUDIT: {"ProtectHome=true", "PrivateTmp=true", "ProtectKernelModules=true"},
    "watch/templates/banip-integrity.service.j2": {"ProtectKernelModules=true"},
}
HARDENING = (
    "ProtectSystem=strict",
    "ProtectHome=true",
    "PrivateTmp=true",
    "NoNewPrivileges=true",
    "ProtectKernelModules=true",
    "ProtectKernelLogs=true",
    "ProtectClock=true",
    "RestrictRealtime=true",
    "RestrictSUIDSGID=true",
    "LockPersonality=true",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "CapabilityBoundingSet=",
    "RestrictAddressFamilies=",
    "UMask=",
)
GIVEN: dict[str, Any] = {
    "banip_release": "demo-1.0.0-c1",
    "banip_release_folder": "/var/lib/banip/releases/demo-1.0.0-c1",
    "banip_data_folder": "/var/lib/banip/data",
    "banip_root": "/var/lib/banip",
    "banip_environments": {name: f"/var/lib/banip/envs/{name}" for name in ("api", "rag", "vllm")},
    "banip_images": {"guide": {"reference": "localhost/banip/guide:demo-1.0.0-c1", "digest": "sha256:0"}},
    "ansible_facts": {"getent_passwd": {"banip-guide": ["x", "990", "990"]}},
    "api_model": "tiny",
    "api_chat_model": "chat",
    "vllm_model": "chat",
    "vllm_options": {"enforce-eager": True, "enable-prefix-caching": False, "max-model-len": 4096},
    "embed_model": "embed",
    "embed_rerank_model": "rerank",
}
#: In a unit it would be a line of its own, and run as root.
OUT_OF_LINE = "x\nExecStartPre=+/bin/sh"
REAL: dict[str, Any] = {
    "api_chat_url": "http://127.0.0.1:8601",
    "embed_device": "cuda:1",
    "firewall_site_networks": ["10.0.0.0/8", "fd00::/8"],
    "firewall_admin_networks": ["192.0.2.0/24"],
    "firewall_destinations": [{"address": "192.0.2.1", "protocol": "tcp", "port": 514}],
    "gateway_address": "[::]",
    "gateway_names": ["banip.example.kr", "*.site"],
    "gateway_addresses": ["192.0.2.7", "fd00::7"],
    "guide_command": ["httpd", "-f", "-p", "127.0.0.1:8604", "-h", "/www"],
    "host_ntp_servers": ["192.0.2.123"],
    "vllm_served_name": "Qwen/Qwen3-32B-AWQ",
    "vllm_device": "0,1",
    "vllm_cpu_threads": "0-3|4-7",
    "vllm_options": {"hf-overrides": {"rope_scaling": {"factor": 4.0}}, "dtype": "auto", "max-model-len": 1},
}


def read(role: str, *path: str) -> Any:  # noqa: ANN401 - YAML
    file = ROLES.joinpath(role, *path)
    return yaml.safe_load(file.read_text("utf-8")) if file.is_file() else {}


def role_file(role: str) -> RoleFile:
    return msgspec.convert(read(role, "meta", "banip.yaml"), type=RoleFile)


def options(role: str) -> dict[str, Any]:
    specs: dict[str, Any] = read(role, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"]
    return specs


def decided(role: str, grade: Grade, **site: Any) -> dict[str, Any]:  # noqa: ANN401 - role variables
    """Return the role's variables as Ansible would decide them: what is given over vars over defaults."""
    native = NativeEnvironment(undefined=StrictUndefined)
    values = {**GIVEN, "banip_grade": grade, **site}
    for name, value in {**read(role, "defaults", "main.yml"), **read(role, "vars", "main.yml")}.items():
        is_template = isinstance(value, str) and "{{" in value
        values.setdefault(name, native.from_string(value).render(values) if is_template else value)
    return values


def rendered(template: str, grade: Grade, **site: Any) -> str:  # noqa: ANN401 - role variables
    """Return the file as Ansible's template module writes it."""
    environment = Environment(trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - no HTML
    environment.filters |= {"quote": shlex.quote, "to_json": json.dumps}
    role = template.partition("/")[0]
    source = (ROLES / template).read_text("utf-8")
    return environment.from_string(source).render(decided(role, grade, **site))


def text_of(role: str) -> str:
    """Return everything that the role does, as one text."""
    files = [path for folder in ("tasks", "vars", "templates") for path in (ROLES / role / folder).glob("*")]
    return "\n".join(path.read_text("utf-8") for path in sorted(files))


@pytest.mark.parametrize("role", NAMES)
def test_every_role_says_what_it_takes_and_what_it_owns(role: str) -> None:
    assert read(role, "meta", "main.yml")["galaxy_info"]["role_name"] == role
    assert role_file(role).owns.units or role == OF_THE_SITE
    specified, defaults = options(role), read(role, "defaults", "main.yml")
    assert set(defaults) <= set(specified)
    own = {name for name in specified if not name.startswith("banip_")}
    assert all(name.startswith(f"{role}_") for name in own)
    assert all(specified[name].get("required") for name in own - set(defaults) - {"api_model"})


@pytest.mark.parametrize("role", NAMES)
def test_a_default_in_the_specification_is_the_default(role: str) -> None:
    defaults = read(role, "defaults", "main.yml")
    for name, option in options(role).items():
        if "default" in option:
            assert option["default"] == defaults[name], name


def free_strings() -> Iterator[tuple[str, str, Any]]:
    """Yield each variable that a site may set to any words, with a value that would break out of its line."""
    for role in NAMES:
        for name, option in options(role).items():
            if name.startswith("banip_") or name == "host_banner" or "choices" in option:
                continue
            if option["type"] == "str":
                yield role, name, OUT_OF_LINE
            elif option.get("elements") == "str":
                yield role, name, [OUT_OF_LINE]
            elif option["type"] == "dict":
                yield role, name, {"name": OUT_OF_LINE}
                yield role, name, {OUT_OF_LINE: "value"}
            elif option.get("elements") == "dict":
                yield role, name, [{"address": OUT_OF_LINE, "protocol": "tcp", "port": 1}]


def refuses(role: str, grade: Grade, **site: Any) -> bool:  # noqa: ANN401 - role variables
    """Say whether the role's first task, as Ansible would judge it, stops the run."""
    first = read(role, "tasks", "main.yml")[0]
    environment = NativeEnvironment(undefined=StrictUndefined)
    environment.tests["match"] = match
    environment.filters["to_json"] = json.dumps
    values = decided(role, grade, **site)
    for name, value in first.get("vars", {}).items():
        values[name] = environment.from_string(value).render(values)
    conditions = first["ansible.builtin.assert"]["that"]
    return not all(environment.from_string(f"{{{{ {each} }}}}").render(values) for each in conditions)


@pytest.mark.parametrize(("role", "name", "value"), [*free_strings()])
def test_no_variable_of_the_site_becomes_a_line_of_its_own_in_a_file(
    role: str, name: str, value: object
) -> None:
    assert refuses(role, "S", **{name: value})


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("grade", GRADES)
def test_what_sites_really_set_is_taken(role: str, grade: Grade) -> None:
    assert not refuses(role, grade)
    assert not refuses(role, grade, **REAL)


def test_a_umask_that_yaml_takes_for_a_number_is_refused() -> None:
    choices = options("host")["host_umask"]["choices"]
    assert str(yaml.safe_load("'027'")) in choices
    assert str(yaml.safe_load("027")) not in choices


@pytest.mark.parametrize("role", NAMES)
def test_what_a_role_owns_it_makes(role: str) -> None:
    owns, does = role_file(role).owns, text_of(role)
    for unit in owns.units:
        assert (ROLES / role / "templates" / f"{unit}.j2").is_file()
        started_by_timer = f"{unit.removesuffix('.service')}.timer" in owns.units
        assert f"name: {unit}" in does or (started_by_timer and unit.endswith(".service"))
    for user in owns.users:
        assert f"name: {user}" in does
    for path in owns.paths:
        folder, _, name = path.rpartition("/")
        made = path in does or path.removesuffix(".banip-before") in does
        assert made or (folder in does and name in does), path
    for table in owns.nftables:
        assert f"table inet {table} " in does


@pytest.mark.parametrize("role", NAMES)
def test_what_a_role_makes_it_owns(role: str) -> None:
    owned = set(role_file(role).owns.paths)
    written = set(re.findall(r"^ +dest: \"?(/[^\s\"{]+)\"?$", text_of(role), re.MULTILINE))
    assert written - owned == set()


@pytest.mark.parametrize("role", NAMES)
def test_a_change_takes_effect_in_the_role_that_made_it(role: str) -> None:
    tasks = read(role, "tasks", "main.yml")
    assert tasks[-1].get("ansible.builtin.meta") == "flush_handlers"
    handlers = {handler["name"] for handler in read(role, "handlers", "main.yml")}
    asked_for = text_of(role) + (ROLES / role / "handlers" / "main.yml").read_text("utf-8")
    assert set(re.findall(r"^ +notify: (.+)$", asked_for, re.MULTILINE)) == handlers


def test_every_unit_belongs_to_a_role() -> None:
    owned = {unit for role in NAMES for unit in role_file(role).owns.units}
    assert {Path(unit).name.removesuffix(".j2") for unit in (*UNITS, *TIMERS)} == owned
    assert len(UNITS) + len(TIMERS) == len(owned)


@pytest.mark.parametrize("grade", GRADES)
@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_closed(unit: str, grade: Grade, tmp_path: Path) -> None:
    content = rendered(unit, grade)
    lines = content.splitlines()
    lacking = {wanted for wanted in HARDENING if not any(line.startswith(wanted) for line in lines)}
    assert lacking == SEEN.get(unit, set())
    file = tmp_path / Path(unit).name.removesuffix(".j2")
    file.write_text(content, "utf-8")
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    assert exposure, said.stderr
    limit = CONTAINER_EXPOSURE_LIMIT if "podman" in content else EXPOSURE_LIMIT
    assert float(exposure[1]) <= (AUDIT_EXPOSURE_LIMIT if unit == AUDIT else limit)


def test_only_the_gateway_and_the_firewall_may_speak_beyond_loopback() -> None:
    free = {unit for unit in UNITS if "IPAddressDeny=any" not in rendered(unit, "S")}
    assert free == {"gateway/templates/banip-gateway.service.j2"}


def test_the_sockets_that_a_role_declares_are_those_it_opens() -> None:
    for role in NAMES:
        for socket in role_file(role).listens:
            if "*@" in socket:
                assert socket == f"tcp/127.0.0.1:*@banip-{role}.service"
                continue
            ports = {value for name, value in decided(role, "O").items() if name == f"{role}_port"}
            assert {int(socket.rpartition(":")[2])} == ports


def test_one_variable_changes_policy_in_many_places() -> None:
    policies = {
        f"{role}.{name}": [decided(role, grade)[name] for grade in GRADES]
        for role in NAMES
        for name, value in read(role, "defaults", "main.yml").items()
        if "banip_grade" in str(value)
    }
    assert len(policies) >= 15
    assert all(len({str(value) for value in values}) > 1 for values in policies.values())
    areas = {name.partition(".")[0] for name in policies}
    assert {"host", "firewall", "gateway", "api"} <= areas


def test_the_guide_to_grades_says_every_value_that_the_roles_decide() -> None:
    told = {
        cells[0].strip(" `"): [cell.strip() for cell in cells[2:5]]
        for line in GRADES_GUIDE.read_text("utf-8").splitlines()
        if line.startswith("| `") and len(cells := line.strip("| ").split("|")) >= 5
    }
    for role in NAMES:
        for name, value in read(role, "defaults", "main.yml").items():
            if "banip_grade" in str(value):
                assert told.pop(name) == [_spoken(decided(role, grade)[name]) for grade in ("C", "S", "O")]
    assert told == {}


def _spoken(value: object) -> str:
    return {True: "예", False: "아니오"}[value] if isinstance(value, bool) else str(value)


def test_a_stricter_grade_is_never_laxer() -> None:
    less = ["host_session_timeout_s", "host_login_max_days", "host_lock_attempts"]
    more = ["host_login_min_length", "host_login_remembered", "host_lock_s", "host_log_days"]
    for name in (*less, *more):
        open_, sensitive, classified = (decided("host", grade)[name] for grade in ("O", "S", "C"))
        rising = [open_, sensitive, classified] if name in more else [classified, sensitive, open_]
        assert rising == sorted(rising), name


def test_options_of_vllm_are_written_as_its_parser_reads_them() -> None:
    unit = rendered("vllm/templates/banip-vllm.service.j2", "S")
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert start.endswith(" --no-enable-prefix-caching --enforce-eager --max-model-len 4096")
    assert "DeviceAllow" not in unit
    cards = rendered("vllm/templates/banip-vllm.service.j2", "S", vllm_device="0,1")
    assert {"DevicePolicy=closed", "Environment=CUDA_VISIBLE_DEVICES=0,1"} <= set(cards.splitlines())


def test_every_ranking_that_a_site_can_choose_is_one_of_the_program() -> None:
    from appliance.rag.__main__ import main  # noqa: PLC0415 - heavy

    (ranking,) = (each.type for each in main.params if each.name == "ranking")
    assert options("api")["api_ranking"]["choices"] == list(ranking.choices)  # type: ignore[attr-defined]


def test_the_log_that_the_gateway_writes_lies_where_its_unit_lets_it_and_is_rotated() -> None:
    name = "banip-gateway"
    written = re.findall(r"access_log (\S+)", rendered("gateway/templates/gateway.conf.j2", "S"))
    unit = rendered(f"gateway/templates/{name}.service.j2", "S").splitlines()
    (rotated,) = re.findall(r"^(/\S+) {", rendered("gateway/templates/logrotate.j2", "S"), re.MULTILINE)
    assert written == [f"/var/log/{name}/access.log"]
    assert PurePath(written[0]).match(rotated)
    assert {f"LogsDirectory={name}", f"User={name}"} <= {*unit}


def test_prompts_and_questions_are_logged_only_where_it_was_decided() -> None:
    assert "--enable-log-requests" not in rendered("vllm/templates/banip-vllm.service.j2", "O")
    unit = "api/templates/banip-api.service.j2"
    assert "--no-log-questions" in rendered(unit, "S")
    assert " --log-questions" in rendered(unit, "O")
    assert " --log-questions" in rendered(unit, "S", api_log_questions=True)


def test_the_smallest_release_has_the_api_without_questions() -> None:
    unit = rendered("api/templates/banip-api.service.j2", "O", api_chat_model="")
    assert "/envs/api/bin/python -I -m appliance.rag --release" in unit
    assert "--model tiny --port 8600 --socket /run/banip-api/api.sock\n" in unit
    assert "--chat-model" not in unit


def test_keys_reach_the_api_by_a_socket_in_a_folder_that_systemd_gives_to_its_account_alone() -> None:
    unit = rendered("api/templates/banip-api.service.j2", "S")
    assert "RuntimeDirectory=banip-api\n" in unit
    assert "--socket /run/banip-api/api.sock " in unit
    gateway = rendered("gateway/templates/gateway.conf.j2", "S")
    assert "server unix:/run/banip-api/api.sock;" in gateway
    assert "proxy_request_buffering off;" in gateway  # a body is kept nowhere before its key was looked at


def test_timers_start_the_service_of_their_name_and_services_fear_no_finding() -> None:
    for timer in TIMERS:
        told = rendered(timer, "S").splitlines()
        assert "Persistent=true" in told
        assert any(line.startswith("RandomizedDelaySec=") for line in told)
        assert not any(line.startswith("Unit=") for line in told)
        assert timer.replace(".timer.", ".service.") in UNITS
        assert "SuccessExitStatus=3" in rendered(timer.replace(".timer.", ".service."), "S").splitlines()


def test_only_an_audit_of_containers_has_the_right_that_podman_wants() -> None:
    assert "CAP_SYS_ADMIN" in rendered(AUDIT, "S")
    assert "CAP_SYS_ADMIN" not in rendered(AUDIT, "S", banip_images={})


def test_hashing_is_everybody_elses_turn_first() -> None:
    unit = rendered("watch/templates/banip-integrity.service.j2", "S").splitlines()
    assert {"Nice=19", "IOSchedulingClass=idle", "CPUQuota=50%", "PrivateNetwork=true"} <= {*unit}
