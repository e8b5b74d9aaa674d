"""``make audit-lynis``: Lynis and the audit on a bare server and on one that follows grade S.

Lynis (Debian's package, fetched and never installed) runs from a folder of its own as root. Its index, what
it leaves to suggest with our explanation, and where it and the audit look at the same thing go into
``docs/audit-truth.md`` between their marks. A suggestion or a disagreement that nobody has explained yet
shows as such, and ends with 1.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests import hardened
from tests.audit.compared import AGREEMENT, LEFT, Compared
from tests.closed_server.holding import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.closed_server import ClosedServer, NspawnServer, Snapshot

Word = Literal["warning", "suggestion", "fine", "not run"]

DOCUMENT = Path(__file__).parent.parent / "docs" / "audit-truth.md"
BEGIN, END = "<!-- lynis: begin (written by make audit-lynis) -->", "<!-- lynis: end -->"
HOME = "/root/lynis"
#: Lynis looks for a newer Lynis by a name server; here there is none to ask.
PROFILE = "skip-upgrade-test=yes\nrefresh-repositories=no\n"
COMMAND = "lynis audit system --quick --no-colors"
LIMIT_S = 3600


@dataclass(frozen=True, slots=True)
class Report:
    """What Lynis found: its index, tests that ran, and what it says to which."""

    version: str
    index: int
    executed: frozenset[str]
    warnings: Mapping[str, tuple[str, ...]]
    suggestions: Mapping[str, tuple[str, ...]]

    def word(self, test: str) -> Word:
        """Return how a test came out."""
        if test in self.warnings:
            return "warning"
        if test in self.suggestions:
            return "suggestion"
        return "fine" if test in self.executed else "not run"


def parse(told: str) -> Report:
    """Read lynis-report.dat: ``key=value``, lists as ``key[]=test|words|details|solution|``."""
    rows = [line.partition("=")[::2] for line in told.splitlines() if not line.startswith("#")]
    single = dict(rows)
    return Report(
        version=single["lynis_version"],
        index=int(single["hardening_index"]),
        executed=frozenset(filter(None, single["tests_executed"].split("|"))),
        warnings=_said(value for key, value in rows if key == "warning[]"),
        suggestions=_said(value for key, value in rows if key == "suggestion[]"),
    )


def _said(values: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for value in values:
        test, words, details, *_ = [*value.split("|"), "", ""]
        text = " ".join(
            filter(None, (words.strip(), "" if details.strip() == "-" else f"({details.strip()})"))
        )
        found[test] = (*found.get(test, ()), text)
    return found


# --- On a server -------------------------------------------------------------------------------------------


def unpack(folder: Path) -> Path:
    """Fetch Debian's package here and lay out its files as the program expects them beside itself."""
    packed, home = folder / "packed", folder / "lynis"
    packed.mkdir()
    run("sh", "-ec", 'cd "$0" && apt-get -qq -o APT::Sandbox::User=root download lynis', str(packed))
    (package,) = packed.glob("*.deb")
    run("dpkg-deb", "--extract", package, packed / "root")
    run("cp", "--archive", packed / "root/usr/share/lynis", home)
    run("cp", "--recursive", packed / "root/usr/sbin/lynis", *(packed / "root/etc/lynis").iterdir(), home)
    (home / "custom.prf").write_text(PROFILE)
    for path in (home, *home.rglob("*")):
        path.chmod(0o700 if path.is_dir() or path.name == "lynis" else 0o600)
    return home


def scanned(server: ClosedServer, home: Path) -> Report:
    """Run Lynis on a server, and take it away again."""
    server.copy_in(home, HOME)
    server.exec("sh", "-ec", f"cd {HOME} && ./{COMMAND} > {HOME}.txt 2>&1", timeout_s=LIMIT_S)
    told = server.exec("cat", "/var/log/lynis-report.dat").stdout
    server.exec("sh", "-c", f"rm -rf {HOME} {HOME}.txt /var/log/lynis*")
    return parse(told)


def lend(server: NspawnServer, settled: Snapshot) -> None:
    """Give a bare server the audit's own programs, and nothing else."""
    server.exec("mkdir", "-p", "/var/lib/banip")
    for name in ("envs", "releases"):
        server.copy_in(settled.var / "lib/banip" / name, f"/var/lib/banip/{name}")
    server.exec("sh", "-ec", "cd /var/lib/banip; ln -s releases/* current")


@dataclass(frozen=True, slots=True)
class Server:
    """A server before or after hardening: what Lynis and the audit say of it."""

    name: str
    lynis: Report
    verdicts: Mapping[str, str]


# --- The tables --------------------------------------------------------------------------------------------


def page(document: str, shown: str) -> str:
    """Return the document with other figures between its marks. Raises ``ValueError`` where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(BEGIN)
    return f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}"


def figures(servers: Sequence[Server], day: date) -> str:
    """Return the indices, what is left of the hardened container, and the agreement of the first two."""
    before, after = servers[:2]
    return "\n".join(
        (
            f"Lynis {after.lynis.version} (`{COMMAND}`), {day}, Debian 12.",
            "",
            "| server | index | warnings | suggestions |",
            "|---|---:|---:|---:|",
            *(
                f"| {one.name} | **{one.lynis.index}** | {len(one.lynis.warnings)} |"
                f" {len(one.lynis.suggestions)} |"
                for one in servers
            ),
            "",
            "### What Lynis still suggests after hardening",
            "",
            "| test | what it says | why it is left |",
            "|---|---|---|",
            *_left(servers[1:]),
            "",
            "### Where both look",
            "",
            "| what | Lynis | before, after | the audit | before, after | alike |",
            "|---|---|---|---|---|---|",
            *(_compared(one, before, after) for one in AGREEMENT),
        )
    )


def _left(servers: Sequence[Server]) -> Iterator[str]:
    """Yield a row for each test that warns or suggests on a hardened server, container or guest."""
    said: dict[str, list[str]] = {}
    for one in servers:
        if one.name.startswith("bare"):
            continue
        for kind, found in (("warning: ", one.lynis.warnings), ("", one.lynis.suggestions)):
            for test, words in found.items():
                new = [f"{kind}{each}" for each in words]
                said[test] = list(dict.fromkeys([*said.get(test, []), *new]))
    for test, every in sorted(said.items()):
        shown = "; ".join(every).replace("|", "\\|")
        yield f"| {test} | {shown} | {LEFT.get(test, '**not explained yet**')} |"


def _compared(one: Compared, before: Server, after: Server) -> str:
    lynis = [f"{server.lynis.word(one.test)}" for server in (before, after)]
    ours = [
        ", ".join(dict.fromkeys(server.verdicts[name] for name in one.checks)) for server in (before, after)
    ]
    alike = all(_agree(server, one) for server in (before, after))
    names = ", ".join(f"`{name}`" for name in one.checks)
    told = "yes" if alike else (one.why or "**not explained yet**")
    return f"| {one.what} | {one.test} | {lynis[0]}, {lynis[1]} | {names} | {ours[0]} → {ours[1]} | {told} |"


def _agree(server: Server, one: Compared) -> bool:
    """Tell whether both find a fault, or neither does; what neither judges is no disagreement."""
    theirs = server.lynis.word(one.test)
    ours = {server.verdicts[name] for name in one.checks}
    if theirs == "not run":
        return not ours & {"fail", "unknown"}
    return (theirs != "fine") == bool(ours & {"fail", "unknown"})


def unexplained(document: str) -> list[str]:
    """Return the rows of the document that still want an explanation."""
    return re.findall(r"^\|.*\*\*not explained yet\*\*.*$", document, re.MULTILINE)


# --- All of it ---------------------------------------------------------------------------------------------


def seen(folder: Path) -> Iterator[Server]:
    """Boot each server in turn; yields what was found on it."""
    from tests.closed_server import closed_server  # noqa: PLC0415 - unit tests do without it

    home, stick = unpack(folder), hardened.carry(folder)
    settled = hardened.hardened(stick)
    with closed_server() as bare:
        report = scanned(bare, home)
        lend(bare, settled)
        yield Server("bare server (container)", report, _verdicts(bare))
    with closed_server(base=settled, media=stick) as server:
        verdicts = _verdicts(server)
        yield Server("after hardening (container)", scanned(server, home), verdicts)
    with closed_server("qemu") as guest:
        yield Server("bare server (QEMU guest)", scanned(guest, home), {})
    with closed_server("qemu", base=settled, whole_kernel=True) as guest:
        hardened.settle_guest(guest)
        # What the audit asks of the site: a scanner, and profiles that confine.
        hardened.add_packages(guest, ("clamav",))
        guest.exec("systemctl", "start", "apparmor")
        yield Server("after hardening (QEMU guest)", scanned(guest, home), {})


def _verdicts(server: ClosedServer) -> dict[str, str]:
    return {name: status for name, (status, _) in hardened.audited(server, contents=True).items()}


def main() -> int:
    """Run Lynis and the audit, write the tables; 1 where something is not explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.lynis", description=__doc__)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    told = parser.parse_args()
    servers = []
    with tempfile.TemporaryDirectory() as folder:
        for one in seen(Path(folder)):
            servers.append(one)
            print(f"{one.name}: index {one.lynis.index}", flush=True)  # noqa: T201
    today = date.today()  # noqa: DTZ011 - the day on which this machine's user runs it
    document = page(told.document.read_text("utf-8"), figures(servers, today))
    told.document.write_text(document, "utf-8")
    for row in unexplained(document):
        print(row)  # noqa: T201
    return 1 if unexplained(document) else 0


if __name__ == "__main__":
    sys.exit(main())
