"""What gateway and API answer to strangers, and how the gateway speaks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    at,
    check,
    failed,
    listed,
    not_applicable,
    unknown,
    unless,
    verdict,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_network import Answer

MODERN = frozenset({"TLSv1.2", "TLSv1.3"})
RSA_LEAST_BITS, EC_LEAST_BITS = 2048, 256
NOT_FOUND, TOO_LARGE, NO_KEY, FORBIDDEN = 404, 413, 401, 403
_ERROR = 400
#: Directives of nginx by which it would serve files of its own, run programs, or trust links.
_SERVES = re.compile(
    r"^(root|alias|autoindex|dav_methods|ssi|fastcgi_pass|uwsgi_pass|scgi_pass|perl)\b(?!\s+off)"
)
_SCRIPTS = re.compile(
    r"^(fastcgi_pass|uwsgi_pass|scgi_pass|perl|ssi|js_content|content_by_lua\w*)\b(?!\s+off)"
)
_PASSES = re.compile(r"^proxy_pass\s+https?://([^/;\s]+)")
_TELLING = re.compile(r"\d+\.\d+|Debian|Ubuntu|Traceback|/usr/|/var/|line \d+")


@check("tls.protocols")
def tls_protocols(facts: AuditFacts, _: Asked) -> Verdict:
    """The gateway speaks TLS 1.2 and newer, nothing older; asked by handshakes."""
    tls = facts.tls.get()
    if tls.port is None:
        return not_applicable(text("no gateway listens"), facts.tls.source)
    words = text("accepts {names}", names=", ".join(tls.accepted))
    return verdict(words, facts.tls.source, holds=bool(tls.accepted) and set(tls.accepted) <= MODERN)


@check("tls.certificate")
def tls_certificate(facts: AuditFacts, asked: Asked) -> Verdict:
    """The gateway's certificate is valid now and for some days, strong, and names what it is for."""
    tls = facts.tls.get()
    if tls.port is None or tls.certificate is None:
        return not_applicable(text("no gateway listens"), facts.tls.source)
    one, now = tls.certificate, facts.taken
    least = RSA_LEAST_BITS if one.key == "RSA" else EC_LEAST_BITS
    left = (one.not_after - now).days
    faults = {
        f"{left} days left": left < asked.number,
        "not valid yet": now < one.not_before,
        f"{one.key} {one.key_bits}": one.key_bits < least,
        one.signature_hash: one.signature_hash in {"md5", "sha1", ""},
        "self-signed": one.self_signed,
        "no names": not one.names,
    }
    about = text("{names}", names=f"{one.subject}; {one.key} {one.key_bits}; {one.not_after:%Y-%m-%d}")
    return unless([fault for fault, holds in faults.items() if holds], facts.tls.source, about)


@check("tls.ciphers")
def tls_ciphers(facts: AuditFacts, _: Asked) -> Verdict:
    """The gateway takes no weak cipher, though one is offered."""
    tls = facts.tls.get()
    if tls.port is None:
        return not_applicable(text("no gateway listens"), facts.tls.source)
    return unless(tls.weak_ciphers, facts.tls.source)


# --- The gateway -------------------------------------------------------------------------------------------


def _web_check(name: str, *questions: str) -> Callable[..., Callable[[AuditFacts, Asked], Verdict]]:
    """Make a check of the gateway's answers to these questions; the judge returns what is wrong."""

    def decorate(judge: Callable[..., list[str]]) -> Callable[[AuditFacts, Asked], Verdict]:
        def judged(facts: AuditFacts, _: Asked) -> Verdict:
            answers = facts.web.get().gateway
            if answers is None:
                return not_applicable(text("no gateway listens"), facts.web.source)
            given = [answers[one] for one in questions if one in answers]
            if len(given) < len(questions):
                return unknown(text("not asked: {names}", names=", ".join(questions)), facts.web.source)
            shown = [f"{one}: {answers[one].status}" for one in questions]
            return unless(judge(*given), facts.web.source, listed(shown))

        return check(name)(judged)

    return decorate


@_web_check("web.headers", "page")
def web_headers(page: Answer) -> list[str]:
    """Browsers are told to run nothing from elsewhere, to show the page in no frame, to guess no kinds."""
    policy = page.headers.get("content-security-policy", "")
    wanted = {
        "content-security-policy": bool(re.search(r"(default|script)-src [^;]*'(self|none)'", policy)),
        "x-content-type-options": page.headers.get("x-content-type-options") == "nosniff",
        "x-frame-options or frame-ancestors": "x-frame-options" in page.headers
        or "frame-ancestors" in policy,
        "strict-transport-security": "strict-transport-security" in page.headers,
        "referrer-policy": "referrer-policy" in page.headers,
    }
    loose = re.search(r"script-src[^;]*(?:'unsafe-inline'|\*|https?:)", policy)
    return [name for name, holds in wanted.items() if not holds] + (["script-src"] if loose else [])


@_web_check("web.server-name", "page", "nowhere", "plain")
def web_server_name(*answers: Answer) -> list[str]:
    """No answer tells which version of which program gave it."""
    told = [one.headers.get(name, "") for one in answers for name in ("server", "x-powered-by")]
    return sorted({one for one in told if re.search(r"\d", one)})


@_web_check("web.error-pages", "nowhere", "plain", "measurements")
def web_error_pages(*answers: Answer) -> list[str]:
    """An error says that there is one, and nothing of what is inside."""
    found = (_TELLING.search(one.body) for one in answers)
    return sorted({one[0] for one in found if one})


@_web_check("web.methods", "trace", "webdav")
def web_methods(trace: Answer, webdav: Answer) -> list[str]:
    """Methods that nobody needs are refused: TRACE, and those that change files."""
    named = {"TRACE": trace, "PROPFIND": webdav}
    return [f"{name} {one.status}" for name, one in named.items() if 0 < one.status < _ERROR]


@_web_check("web.no-way-up", "outside")
def web_no_way_up(outside: Answer) -> list[str]:
    """A path cannot climb out of what is served."""
    return [f"{outside.status}"] if 0 < outside.status < _ERROR else []


@_web_check("web.measurements-closed", "measurements")
def web_measurements_closed(measurements: Answer) -> list[str]:
    """Measurements are for this server itself, not for its users."""
    return [f"/metrics {measurements.status}"] if 0 < measurements.status < _ERROR else []


@_web_check("web.only-encrypted", "plain")
def web_only_encrypted(plain: Answer) -> list[str]:
    """Who comes without TLS gets no content: an error, a redirection, or nothing."""
    return [f"{plain.status}"] if 200 <= plain.status < 300 else []  # noqa: PLR2004 - HTTP's own classes


@_web_check("web.upload-limit", "too-large")
def web_upload_limit(too_large: Answer) -> list[str]:
    """A body of gigabytes is refused before it is sent."""
    return [] if too_large.status == TOO_LARGE else [f"{too_large.status}"]


@_web_check("web.documents-need-a-key", "documents")
def web_documents_need_a_key(documents: Answer) -> list[str]:
    """From outside, too, nobody sees a list of documents without a key."""
    return [f"/v1/documents {documents.status}"] if 0 < documents.status < _ERROR else []


# --- Its configuration -------------------------------------------------------------------------------------


def _directives(facts: AuditFacts) -> list[str]:
    return [line.text.rstrip(";{ ").strip() for line in facts.gateway.get()]


@check("web.serves-no-files")
def web_serves_no_files(facts: AuditFacts, _: Asked) -> Verdict:
    """The gateway passes on, and serves nothing from a folder: no list, no link, no upload place."""
    if not facts.gateway.get():
        return not_applicable(text("no gateway listens"), facts.gateway.source)
    found = [f"{at(line)} {line.text}" for line in facts.gateway.get() if _SERVES.match(line.text)]
    return unless(found, facts.gateway.source, text("{count} lines", count=len(facts.gateway.get())))


@check("web.runs-no-scripts")
def web_runs_no_scripts(facts: AuditFacts, _: Asked) -> Verdict:
    """The gateway runs no program and no page that holds code."""
    if not facts.gateway.get():
        return not_applicable(text("no gateway listens"), facts.gateway.source)
    found = [f"{at(line)} {line.text}" for line in facts.gateway.get() if _SCRIPTS.match(line.text)]
    return unless(found, facts.gateway.source, text("{count} lines", count=len(facts.gateway.get())))


@check("web.passes-to-this-server")
def web_passes_to_this_server(facts: AuditFacts, _: Asked) -> Verdict:
    """What the gateway passes on stays on this server."""
    lines = _directives(facts)
    if not lines:
        return not_applicable(text("no gateway listens"), facts.gateway.source)
    local = {one.split()[1] for one in lines if one.startswith("upstream ")}
    servers = [one.split()[1] for one in lines if re.match(r"server\s+\S+", one)]
    passed_to = [match[1] for one in lines if (match := _PASSES.match(one))]
    found = [one for one in passed_to if one not in local and not _is_loopback(one)]
    found += [one for one in servers if not _is_loopback(one)]
    return unless(found, facts.gateway.source, listed([*passed_to, *servers]))


def _is_loopback(address: str) -> bool:
    return address.startswith(("127.", "localhost", "[::1]", "unix:"))


@check("web.rate-limit")
def web_rate_limit(facts: AuditFacts, asked: Asked) -> Verdict:
    """One address can ask only so often in a minute."""
    lines = _directives(facts)
    if not lines:
        return not_applicable(text("no gateway listens"), facts.gateway.source)
    rates = [match for one in lines if (match := re.search(r"limit_req_zone .*rate=(\d+)r/([sm])", one))]
    used = any(one.startswith("limit_req ") for one in lines)
    if not rates or not used:
        return failed(text("{name} is not set", name="limit_req"), facts.gateway.source)
    most = max(int(one[1]) * (60 if one[2] == "s" else 1) for one in rates)
    return verdict(text("{names}", names=f"{most}/min"), facts.gateway.source, holds=most <= asked.number)


# --- The API -----------------------------------------------------------------------------------------------


def _api(facts: AuditFacts) -> dict[str, Answer] | Verdict:
    """Return the API's answers; a verdict where there is none: the smallest release has a smaller one."""
    answers = facts.web.get().api
    if answers is None or answers.get("models") is None or answers["models"].status == NOT_FOUND:
        return not_applicable(text("no API that answers questions listens"), facts.web.source)
    return answers


@check("access.api-needs-a-key")
def api_needs_a_key(facts: AuditFacts, _: Asked) -> Verdict:
    """Without a key, and with a wrong one, the API shows nothing."""
    answers = _api(facts)
    if isinstance(answers, Verdict):
        return answers
    asked = ("models", "documents", "search", "wrong-key")
    shown = [f"{one}: {answers[one].status}" for one in asked if one in answers]
    found = [one for one in shown if not one.endswith((str(NO_KEY), str(FORBIDDEN)))]
    return unless(found, facts.web.source, listed(shown))


@check("access.no-hints")
def no_hints(facts: AuditFacts, _: Asked) -> Verdict:
    """Who tries keys learns nothing: a wrong key is answered as no key is."""
    answers = _api(facts)
    if isinstance(answers, Verdict):
        return answers
    wrong, none = answers["wrong-key"], answers["documents"]
    holds = (wrong.status, _steady(wrong.body)) == (none.status, _steady(none.body))
    words = text(
        "{names}", names=f"no key: {none.status}, wrong key: {wrong.status}, {'' if holds else 'not '}alike"
    )
    return verdict(words, facts.web.source, holds=holds)


def _steady(body: str) -> str:
    """Return an answer without the number of the request in it."""
    return re.sub(r"[0-9a-f]{16}", "", body)
