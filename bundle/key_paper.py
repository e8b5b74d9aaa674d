"""The paper of the keys: fingerprints, roots, counter; and what a custodian reads before signing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from tuf.api._payload import Root, Targets

from appliance.text import text
from bundle.paper import both, grouped, paper_html, paper_text
from bundle.root import days_left, expiry_warning, renewal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from appliance.text import Language, Text
    from bundle.keys import KeyRing, NamedKey, PendingRoot
    from bundle.paper import Section
    from bundle.request import Request
    from bundle.root import Quorum

_ALOUD = 4
_BLANK = "______________________________"


def ring_facts(ring: KeyRing, now: datetime) -> dict[str, object]:
    """Return a key ring as ``--json`` has it; ``draft`` and ``highest`` are null where there is none."""
    facts: dict[str, object] = {name: getattr(ring, name) for name in type(ring).__slots__}
    roots = [{"version": version, "sha256": sha256} for version, sha256 in ring.roots]
    draft = None if ring.draft is None else msgspec.to_builtins(ring.draft)
    if draft is not None and ring.draft is not None:
        for told, each in zip(draft["quorums"], ring.draft.quorums, strict=True):
            told["lacking"] = each.lacking
    return facts | {"days_left": days_left(ring.expires, now), "roots": roots, "draft": draft}


def ring_text(ring: KeyRing, now: datetime) -> str:
    """Return the paper as plain text."""
    return paper_text(_sections(ring, now))


def ring_html(ring: KeyRing, now: datetime) -> str:
    """Return the paper as one page to print, with room for who was there."""
    record = (both(text("Ceremony record")), list(_record()))
    title = both(text("Key paper of {product}", product=ring.product))
    return paper_html(title, [*_sections(ring, now), record])


def pending_lines(draft: PendingRoot, language: Language) -> list[str]:
    """Return how far the draft is, as a custodian reads it on a terminal."""
    return list(_progress(draft, lambda line: line.render(language)))


def _sections(ring: KeyRing, now: datetime) -> Iterator[Section]:
    yield both(text("Keys of {product}", product=ring.product)), list(_facts(ring, now))
    yield _keys(text("root"), ring.root_keys, ring.root_threshold)
    yield _keys(text("release"), ring.release_keys, ring.release_threshold)
    if ring.roots:
        yield both(text("SHA-256 of each root file")), [_fingerprint(*each) for each in ring.roots]
    if ring.draft is not None:
        yield _draft(ring.draft)
        if ring.root_version:
            yield _keys(text("future root"), ring.draft.root_keys, ring.draft.root_threshold)
            yield _keys(text("future release"), ring.draft.release_keys, ring.draft.release_threshold)
    if ring.retired:
        title = both(text("Keys that no root names any more; destroy their private files"))
        yield title, [f"{name}  {key_id}" for name, key_id in ring.retired]


def _facts(ring: KeyRing, now: datetime) -> Iterator[str]:
    days = text("{days} days left", days=days_left(ring.expires, now))
    yield f"{both(text('root version'))}: {ring.root_version or '-'}"
    yield f"{both(text('expires'))}: {ring.expires.date()} ({both(days)})"
    warning = expiry_warning(ring.root_version, ring.expires, now)
    if warning is not None and ring.root_version:
        yield from (f"! {both(each)}" for each in (warning, renewal()))
    if ring.highest is None:
        yield f"{both(text('highest counter signed'))}: -"
        return
    entry, label = ring.highest, both(text("highest counter signed"))
    yield f"{label}: {entry.counter} ({entry.release or '-'}, {entry.at.date()})"
    yield f"    release.json {entry.release_sha256}"


def _keys(role: Text, keys: Sequence[NamedKey], threshold: int) -> Section:
    said = text("{role} keys, {threshold} of {count} sign", role=role, threshold=threshold, count=len(keys))
    return both(said), [_fingerprint(name or "-", key_id) for name, key_id in keys]


def _fingerprint(name: object, digest: str) -> str:
    """Return a digest once to copy, and once in groups of four, to be compared aloud."""
    return "\n".join([f"{name}  {digest}", *(f"    {line}" for line in grouped(digest, _ALOUD))])


def _draft(draft: PendingRoot) -> Section:
    title = both(text("Draft of root version {version}", version=draft.version))
    expires = f"{both(text('expires'))}: {draft.expires.date()}"
    sha256 = _fingerprint(both(text("SHA-256 of the bytes to be signed")), draft.sha256)
    return title, [expires, *_progress(draft, both), sha256]


def _progress(draft: PendingRoot, say: Callable[[Text], str]) -> Iterator[str]:
    names = {key_id: name for name, key_id in (*draft.root_keys, *draft.release_keys)}
    for each in draft.quorums:
        yield say(
            text(
                "root version {version}: {signed} of its keys have signed, {threshold} must",
                version=each.root_version,
                signed=len(each.signed),
                threshold=each.threshold,
            )
        )
        if each.lacking:
            yield f"  {say(text('can still sign'))}: {_named(each, names)}"


def _named(each: Quorum, names: dict[str, str]) -> str:
    return ", ".join(f"{names.get(key_id) or '-'} ({key_id[:16]})" for key_id in each.waiting)


def _record() -> Iterator[str]:
    for blank in (
        text("date and place"),
        text("custodians present"),
        text("read aloud by"),
        text("confirmed by"),
    ):
        yield f"{both(blank)}: {_BLANK}"


# --- What a custodian reads before signing ------------------------------------------------------------------


def request_facts(request: Request) -> dict[str, object]:
    """Return what an exported file asks to be signed."""
    signed = request.signed
    facts: dict[str, object] = {"file_sha256": request.sha256, "expires": signed.expires}
    if isinstance(signed, Root):
        roles = {name: signed.roles[name] for name in (Root.type, Targets.type)}
        facts |= {"kind": "root", "version": signed.version}
        facts |= {f"{_WORDS[name]}_threshold": role.threshold for name, role in roles.items()}
        return facts | {f"{_WORDS[name]}_keys": list(role.keyids) for name, role in roles.items()}
    facts |= {"kind": "release", "counter": signed.version}
    return facts | {
        name: {"sha256": file.hashes["sha256"], "size_bytes": file.length}
        for name, file in sorted(signed.targets.items())
    }


def request_lines(request: Request, language: Language, now: datetime) -> list[str]:
    """Return the same for a person: what it is, what it says, and what to compare before signing."""
    signed = request.signed
    lines = list(_root_lines(signed) if isinstance(signed, Root) else _release_lines(signed))
    lines.append(text("expires: {date}", date=signed.expires.date()))
    if signed.expires <= now:
        lines.append(text("! it has expired already"))
    lines.append(text("SHA-256 of this file, to compare with the machine that exported it:"))
    return [
        *(line.render(language) for line in lines),
        *(f"    {line}" for line in grouped(request.sha256, _ALOUD)),
    ]


def _release_lines(targets: Targets) -> Iterator[Text]:
    yield text("to be signed: a release, counter {counter}", counter=targets.version)
    for name, file in sorted(targets.targets.items()):
        yield text(
            "{name}: {count} bytes, SHA-256 {sha256}",
            name=name,
            count=file.length,
            sha256=file.hashes["sha256"],
        )


def root_words(version: int) -> Text:
    """Say what a root of that version does to the servers that see it."""
    if version == 1:
        return text("root version 1, the first: it replaces none")
    return text(
        "root version {version}: every server that sees it trusts it in the place of root version {before}",
        version=version,
        before=version - 1,
    )


def _root_lines(root: Root) -> Iterator[Text]:
    yield text("to be signed: {root}", root=root_words(root.version))
    for name, word in ((Root.type, text("root")), (Targets.type, text("release"))):
        role = root.roles[name]
        yield text(
            "{role} keys, {threshold} of {count} sign",
            role=word,
            threshold=role.threshold,
            count=len(role.keyids),
        )
        for key_id in role.keyids:
            yield text("    {key}", key=key_id)


_WORDS = {Root.type: "root", Targets.type: "release"}
