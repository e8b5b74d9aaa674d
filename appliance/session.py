"""What one call of the command line has: the server, its voice, and whom it trusts."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from appliance.chunks import Progress, Tally, chunks_of, judge, refusal
from appliance.errors import BadInput, BanipError, Tampered, UnfitServer, Untrusted
from appliance.facts import read_facts
from appliance.intake import import_bundle
from appliance.media import open_carrier
from appliance.operation import Operator
from appliance.preflight import examine, written_bytes
from appliance.release import floor_of, good_bundles, installed
from appliance.site import read_site
from appliance.state import reference_time, utc_now
from appliance.text import Event, text
from appliance.verify import first_trust, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from appliance.chunks import Fault
    from appliance.format import Release
    from appliance.intake import Resumed
    from appliance.media import Carrier
    from appliance.preflight import Finding
    from appliance.release import Server
    from appliance.state import FirstContact, Lock
    from appliance.text import Language, Text
    from appliance.verify import Trust, TrustedBundle


_ASK_FOR = text(
    "what is in the store stays and is not read again: give another copy with --repair, or ask the sender "
    "for exactly these blobs, then run the same command again"
)


def _no_copy(path: Path, wanted: Release, seen: Release) -> BadInput:
    return BadInput(
        text("the other copy is not a copy of this bundle"),
        where=path,
        expected=wanted.id,
        seen=seen.id,
        remedy=text("give --repair another copy of the very same bundle"),
    )


def _read_from_medium(percent: int) -> Text:
    return text("read {percent} % from the medium", percent=percent)


@dataclass
class Session:
    """What one call of the command line has: the server, its voice, and what first contact brought."""

    server: Server
    as_json: bool
    language: Language
    first_contact: FirstContact | None
    write: Callable[[str], None]
    write_aside: Callable[[str], None]

    def say(self, event: Event) -> None:
        """Show an event: a line for a person, or one JSON object a line."""
        words = event.words.render(self.language)
        if self.as_json:
            self.tell({"event": event.name, "said": words, "facts": dict(event.facts)})
        else:
            self.write_aside(f"  {words}")

    def tell(self, value: object) -> None:
        """Write one JSON line."""
        self.write(msgspec.json.encode(value).decode())

    def result(self, words: Text, facts: object) -> None:
        """Show how the call ended."""
        if self.as_json:
            self.tell({"result": facts, "said": words.render(self.language)})
        else:
            self.write(words.render(self.language))

    def stream(self, piece: str) -> None:
        """Show a piece of an answer as it arrives, without a line's end."""
        sys.stdout.write(piece)
        sys.stdout.flush()

    # --- Trust -----------------------------------------------------------------------------------------

    def trust(self) -> Trust:
        """Return whom this server trusts, with the floor that state and release folders prove.

        On first contact that is what ``appliance.pyz`` brought, whose digest a person compared.
        """
        trust = self.server.state.trust()
        if trust is None and self.first_contact is not None:
            first = self.first_contact
            trust = first_trust(first.root, first.product, first.site)
        if trust is None:
            raise Untrusted(
                text("this server does not trust anybody yet"),
                where=self.server.state.folder,
                remedy=text("run appliance.pyz, after comparing its SHA-256 with the paper"),
            )
        kept = map(floor_of, good_bundles(self.server, trust))
        floors = [*kept, *([trust.floor] if trust.floor else [])]
        now = None
        with suppress(Tampered):  # a damaged record proves nothing; who needs it says so
            now = installed(self.server)
        return replace(
            trust,
            floor=max(floors, key=lambda floor: floor.counter, default=None),
            installed_sha256=now.release_sha256 if now else None,
        )

    @contextmanager
    def judged(self, path: Path, accept_expired: str | None) -> Iterator[tuple[TrustedBundle, Carrier]]:
        """Open a bundle and judge it: signatures, binding, freshness, layout. Nothing is written."""
        trust = self.trust()
        built = [one.release.built for one in good_bundles(self.server, trust)]
        now = reference_time(utc_now(), max(built, default=None))
        with open_carrier(path) as carrier:
            bundle = verify(carrier, trust, reference_time=now, accept_expired=accept_expired)
            carrier.check_layout(bundle.release)
            yield bundle, carrier

    @contextmanager
    def accepted(
        self, path: Path, accept_expired: str | None
    ) -> Iterator[tuple[TrustedBundle, Carrier, Lock]]:
        """Judge a bundle under the lock; a refusal leaves one journal line and nothing else."""
        with self.server.state.lock() as lock, ExitStack() as opened:
            try:
                bundle, carrier = opened.enter_context(self.judged(path, accept_expired))
            except BanipError as refusal:
                self.server.state.journal.append("refused", bundle=path.name, **refusal.as_json())
                raise
            self._adopt(bundle)
            yield bundle, carrier, lock

    def _adopt(self, bundle: TrustedBundle) -> None:
        state = self.server.state
        if state.trust() is None and self.first_contact is not None:
            state.adopt(self.first_contact)
        state.accept_roots(bundle.new_roots)
        if bundle.expired:
            state.journal.append("expired-accepted", release=bundle.release.id)

    def findings(self, release: Release) -> tuple[Finding, ...]:
        """Return what the preflight says of this server and the release."""
        needs = self.server.store.needs_bytes(release.blobs) + written_bytes(release)
        return examine(release, read_facts(self.server.root), needs)

    def require_fit(self, release: Release) -> None:
        """Refuse a server that cannot take the release, with every reason at once."""
        found = [finding for finding in self.findings(release) if finding.level == "block"]
        if found:
            raise UnfitServer(
                text("this server cannot take {release}", release=release.id),
                seen="; ".join(finding.describe().render(self.language) for finding in found),
                remedy=text(
                    "{remedies}",
                    remedies="; ".join(one.remedy.render(self.language) for one in found if one.remedy),
                ),
            )

    def check_content(self, bundle: TrustedBundle, carrier: Carrier) -> None:
        """Read every blob from the medium on all cores and compare; write nothing.

        Raises one error that names all that is wrong (``Tampered``) or unreadable (``UnreadableMedium``).
        """
        blobs = bundle.release.blobs
        chunks = [chunk for blob in blobs for chunk in chunks_of(blob, bundle.chunks.of(blob.sha256))]
        with self.progress(text("the release {id}", id=bundle.release.id)) as progress:
            tally = Tally(sum(blob.size_bytes for blob in blobs), progress)
            faults = judge(chunks, lambda one: carrier.blob(one.blob, one.start, one.end), tally)
        if faults:
            remedy = text("copy the bundle onto another medium and verify again")
            raise refusal(faults, bundle.release, remedy)
        if carrier.unread_frames:  # all content is whole, and the medium is not
            raise carrier.unread_frames[0]

    @contextmanager
    def copies(
        self, paths: Iterable[Path], bundle: TrustedBundle, accept_expired: str | None
    ) -> Iterator[tuple[Carrier, ...]]:
        """Open other copies of a bundle, judged by the same rules; ``BadInput`` for another release."""
        with ExitStack() as opened:
            yield tuple(opened.enter_context(self._copy(path, bundle, accept_expired)) for path in paths)

    @contextmanager
    def _copy(self, path: Path, bundle: TrustedBundle, accept_expired: str | None) -> Iterator[Carrier]:
        with ExitStack() as opened:
            try:
                other, carrier = opened.enter_context(self.judged(path, accept_expired))
                if other.release_json != bundle.release_json:
                    raise _no_copy(path, bundle.release, other.release)
            except BanipError as refusal:
                self.server.state.journal.append("refused", bundle=path.name, **refusal.as_json())
                raise
            yield carrier

    def bring_in(
        self,
        bundle: TrustedBundle,
        carrier: Carrier,
        *,
        copies: tuple[Carrier, ...] = (),
        recheck: bool = False,
    ) -> dict[str, int]:
        """Read what is missing from the medium into the store, with progress; the journal keeps the receipt.

        Raises one error that asks for exactly what no medium gave; the rest is in the store then.
        """
        with self.progress(text("the release {id}", id=bundle.release.id)) as progress:
            receipt = import_bundle(
                bundle, carrier, self.server.store, self._watch(progress), copies=copies, recheck=recheck
            )
        facts = receipt.counts()
        event = "imported-in-part" if receipt.faults else "imported"
        self.server.state.journal.append(event, release=bundle.release.id, **facts)
        words = text("read {new} new blobs, {kept} were here", new=receipt.blobs_new, kept=receipt.blobs_kept)
        self.say(Event("imported", words, facts))
        if receipt.faults:
            raise refusal(receipt.faults, bundle.release, _ASK_FOR)
        return facts

    def _watch(self, progress: Callable[[Progress], None]) -> Callable[[Progress | Resumed | Fault], None]:
        def watch(told: Progress | Resumed | Fault) -> None:
            if isinstance(told, Progress):
                progress(told)
            else:
                self.say(told.event())

        return watch

    @contextmanager
    def progress(
        self, what: Text, words: Callable[[int], Text] = _read_from_medium
    ) -> Iterator[Callable[[Progress], None]]:
        """Show how far long work is: a bar on a terminal, ten lines elsewhere."""
        if self.as_json or not sys.stderr.isatty():
            yield self._progress_lines(words)
            return
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
        from rich.progress import (  # noqa: PLC0415 - as above
            BarColumn,
            DownloadColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bar  # noqa: PLC0415 - as above

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what.render(self.language))
            yield lambda done: bar.update(task, completed=done.bytes_done, total=done.bytes_total)

    def _progress_lines(self, words: Callable[[int], Text]) -> Callable[[Progress], None]:
        last = 0

        def progress(done: Progress) -> None:
            nonlocal last
            percent = 100 * done.bytes_done // max(done.bytes_total, 1)
            if percent >= last + 10:  # ten lines for any size: this may go to a log
                last = percent - percent % 10
                facts = {"bytes_done": done.bytes_done, "bytes_total": done.bytes_total}
                self.say(Event("import", words(last), facts))

        return progress

    def operator(self, trust: Trust, lock: Lock) -> Operator:
        """Return who carries out plans here."""
        return Operator(self.server, trust, lock, self.say, read_site().variables, self.language)
