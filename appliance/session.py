"""What one call of the command line has: the server, its voice, and whom it trusts."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from appliance.chain import name_of, root_version
from appliance.chunks import Progress, Tally, chunks_of, judge, refusal
from appliance.errors import BadInput, BanipError, Expired, UnfitServer
from appliance.facts import read_facts
from appliance.intake import import_bundle
from appliance.media import open_carrier
from appliance.operation import Operator
from appliance.preflight import examine, written_bytes
from appliance.progress import bar_of_progress, lines_of_progress, moving_line, read_from_medium, seldom
from appliance.roots import follow_roots
from appliance.site import read_site
from appliance.standing import (
    TRUST_REPLACED,
    advanced,
    read_standing,
    replaced_by,
    require_consent,
    would_replace,
)
from appliance.text import Event, spelled, text
from appliance.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from appliance.chunks import Fault
    from appliance.format import Release
    from appliance.intake import Resumed
    from appliance.media import Carrier
    from appliance.preflight import Finding
    from appliance.release import Server
    from appliance.standing import Standing
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


@dataclass(frozen=True, slots=True)
class Order:
    """What a person says with a bundle that is to be taken in; ``others`` are copies of it."""

    bundle: Path
    accept_expired: str | None = None
    others: tuple[Path, ...] = ()
    recheck: bool = False
    set_clock: bool = False


@dataclass
class Session:
    """What one call of the command line has: the server, its voice, and what first contact brought.

    ``ask`` puts a question to the person at the terminal; None where there is nobody.
    """

    server: Server
    as_json: bool
    language: Language
    first_contact: FirstContact | None
    write: Callable[[str], None]
    write_aside: Callable[[str], None]
    ask: Callable[[str], str] | None = None
    _standing: Standing | None = field(default=None, init=False)

    def say(self, event: Event) -> None:
        """Show an event: a line for a person, or one JSON object a line."""
        words = event.words.render(self.language)
        if self.as_json:
            self.tell({"event": event.name, "said": words, "facts": dict(event.facts)})
        else:
            self.write_aside(f"  {words}")

    def tell(self, value: object) -> None:
        """Write one JSON line."""
        self.write(msgspec.json.encode(spelled(msgspec.to_builtins(value))).decode())

    def result(self, words: Text, facts: object) -> None:
        """Show how the call ended."""
        if self.as_json:
            self.tell({"result": facts, "said": words.render(self.language)})
        else:
            self.write(words.render(self.language))

    @property
    def is_watched(self) -> bool:
        """Whether somebody at a terminal sees a bar move."""
        return not self.as_json and sys.stderr.isatty()

    def stream(self, piece: str) -> None:
        """Show a piece of an answer as it arrives, without a line's end."""
        sys.stdout.write(piece)
        sys.stdout.flush()

    # --- Trust -----------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """Return what this server goes by: on first contact what ``appliance.pyz`` brought; judged once."""
        if self._standing is None:
            self._standing = read_standing(self.server, self.first_contact)
        return self._standing

    def trust(self) -> Trust:
        """Return whom this server trusts, with the floor that state and release folders prove."""
        return self.standing().trust

    @contextmanager
    def judged(self, path: Path, accept_expired: str | None) -> Iterator[tuple[TrustedBundle, Carrier]]:
        """Open a bundle and judge it: signatures, binding, freshness, layout. Nothing is written."""
        with open_carrier(path) as carrier:
            yield self._judge(carrier, accept_expired), carrier

    @contextmanager
    def taken(self, order: Order) -> Iterator[tuple[TrustedBundle, Carrier, tuple[Carrier, ...], Lock]]:
        """Accept a bundle that is to be taken in, and open the other copies that may help."""
        with self.accepted(order.bundle, order.accept_expired) as (bundle, carrier, lock):
            typed = bundle.release.id if bundle.expired else order.accept_expired  # one answer is enough
            with self.copies(order.others, bundle, typed) as copies:
                yield bundle, carrier, copies, lock

    @contextmanager
    def accepted(
        self, path: Path, accept_expired: str | None
    ) -> Iterator[tuple[TrustedBundle, Carrier, Lock]]:
        """Judge a bundle under the lock; a refusal leaves one journal line, and newer roots that it had."""
        with self.server.state.lock() as lock, ExitStack() as opened:
            self._standing = None  # what was read without the lock may be out of date
            try:
                carrier = opened.enter_context(open_carrier(path))
                self._accept_roots(path, carrier)
                bundle = self._judge(carrier, accept_expired)
            except BanipError as refusal:
                self.server.state.journal.append("refused", bundle=path.name, **refusal.as_json())
                raise
            self._accept(bundle)
            yield bundle, carrier, lock

    def _judge(self, carrier: Carrier, accept_expired: str | None) -> TrustedBundle:
        standing = self.standing()
        now = standing.reference_time(self.server.clock.now())
        try:
            bundle = verify(carrier, standing.trust, reference_time=now, accept_expired=accept_expired)
        except Expired as refusal:
            typed = self._asked(
                refusal, text("to accept it all the same, type the id of the release; nothing else: stop")
            )
            if not typed:
                raise
            bundle = verify(carrier, standing.trust, reference_time=now, accept_expired=typed)
        carrier.check_layout(bundle.release)
        return bundle

    def _asked(self, reason: BanipError, question: Text) -> str | None:
        """Show why, and ask; None where nobody is there, or nobody answers."""
        if self.ask is None:
            return None
        for line in reason.lines(self.language):
            self.write_aside(line)
        return self.ask(question.render(self.language)).strip() or None

    def _accept_roots(self, path: Path, carrier: Carrier) -> None:
        """Store the newer roots of a carrier before the rest is judged: a revocation counts at once.

        The chain counts as a whole or not at all. On first contact nothing is remembered before a bundle was
        accepted.
        """
        self._recover_roots()
        standing = self.standing()
        _, new = follow_roots(carrier.roots(), standing.trust.root, standing.trust.older)
        if new and standing.adopted:
            self._store_roots(new, "roots-accepted", bundle=path.name)

    def _recover_roots(self) -> None:
        standing = self.standing()
        if standing.recovered and standing.adopted:
            self._store_roots(standing.recovered, "roots-recovered")

    def _store_roots(self, roots: tuple[bytes, ...], event: str, **facts: object) -> None:
        standing, state = self.standing(), self.server.state
        state.accept_roots(roots)
        state.journal.append(event, versions=[root_version(root) for root in roots], **facts)
        self._standing = replace(standing, recovered=(), trust=advanced(standing.trust, roots))

    def _accept(self, bundle: TrustedBundle) -> None:
        standing, state = self.standing(), self.server.state
        if not standing.adopted and self.first_contact is not None:
            state.adopt(self.first_contact)
            state.accept_roots((*standing.recovered, *bundle.new_roots))
            trust = advanced(standing.trust, bundle.new_roots)
            self._standing = replace(standing, adopted=True, recovered=(), trust=trust)
        if bundle.expired:
            state.journal.append("expired-accepted", release=bundle.release.id)

    def adopt(self, first: FirstContact, typed: str | None) -> str | None:
        """Trust this first root from now on; return the name of the one that it replaced, or None.

        ``typed``: the digits by which a person agrees to that. Raises ``Untrusted``, ``BadInput``.
        """
        state = self.server.state
        with state.lock():
            state.journal.set_aside_if_damaged()
            former = replaced_by(self.server, first)
            facts = {"product": first.product, "site": first.site, "root": name_of(first.root)}
            if former is not None:
                self._consent(former, first, typed)
                state.journal.append(TRUST_REPLACED, former=former, **facts)
            state.adopt(first)
            state.journal.append("adopted", **facts)
            self._standing = None
            self._recover_roots()
        return former

    def _consent(self, former: str, first: FirstContact, typed: str | None) -> None:
        if typed is None:
            question = text("type the first digits of the new first root's SHA-256, from the paper")
            typed = self._asked(would_replace(former), question)
        try:
            require_consent(former, first, typed)
        except BanipError as refusal:
            self.server.state.journal.append("refused", command="adopt", **refusal.as_json())
            raise

    # --- The server ------------------------------------------------------------------------------------

    def mind_clock(self, release: Release, *, set_clock: bool) -> None:
        """Compare the clock with the newest signed build time; set it to that where a person says so.

        It only ever goes forward here: that a clock runs ahead, nothing signed can tell.
        """
        signed, now = self._signed_time(release), self.server.clock.now()
        if now >= signed:
            return
        behind = text(
            "the clock says {seen}, and the newest signed build time is {signed}",
            seen=now.isoformat(timespec="seconds"),
            signed=signed.isoformat(),
        )
        if not (set_clock or self._agreed(behind)):
            self.say(Event("clock", behind, {"seen": now.isoformat(), "signed": signed.isoformat()}))
            return
        hardware = self.server.clock.set(signed)
        facts = {"seen": now.isoformat(), "set": signed.isoformat(), "hardware": hardware}
        self.server.state.journal.append("clock-set", **facts)
        words = text("the clock is set to {time}; set the exact time by hand", time=signed.isoformat())
        self.say(Event("clock-set", words, facts))

    def _agreed(self, behind: Text) -> bool:
        if self.ask is None:
            return False
        self.write_aside(behind.render(self.language))
        question = text("set the clock to that time? yes, or anything else for no").render(self.language)
        return self.ask(question).strip().lower() in {"yes", "y", "예", "네"}

    def _signed_time(self, release: Release) -> datetime:
        return max(filter(None, (release.built, self.standing().newest_built)))

    def findings(self, release: Release) -> tuple[Finding, ...]:
        """Return what the preflight says of this server and the release."""
        needs = self.server.store.needs_bytes(release.blobs) + written_bytes(release)
        facts = replace(read_facts(self.server.root), system_time=self.server.clock.now())
        return examine(release, facts, needs, self.standing().newest_built)

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
        self, what: Text, words: Callable[[int], Text] = read_from_medium
    ) -> Iterator[Callable[[Progress], None]]:
        """Show how far long work is: a bar on a terminal, ten lines elsewhere."""
        if not self.is_watched:
            yield lines_of_progress(lambda percent, facts: self.say(Event("import", words(percent), facts)))
        else:
            with bar_of_progress(what.render(self.language)) as progress:
                yield progress

    @contextmanager
    def steps(self, name: str) -> Iterator[Callable[[Text, dict[str, str]], None]]:
        """Show steps, nobody knows how many: one moving line, an event each, or a line now and then."""
        if self.as_json or not sys.stderr.isatty():
            say = self.say if self.as_json else seldom(self.say)
            yield lambda words, facts: say(Event(name, words, facts))
        else:
            with moving_line() as show:
                yield lambda words, _: show(words.render(self.language))

    def operator(self, trust: Trust, lock: Lock) -> Operator:
        """Return who carries out plans here."""
        return Operator(self.server, trust, lock, self.say, read_site().variables, self.language)
