"""The report as people get it: one file that needs nothing else, read in a browser as well."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from appliance.audit.edition import Edition
from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.facts_host import Account, Host
from appliance.audit.formats import page as html_page
from appliance.audit.result import audit
from appliance.audit.site import read_rules
from tests.test_audit_checks import cases, facts_of
from tests.test_audit_site import own_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from appliance.audit.outcome import AuditResult
    from appliance.text import Language

HOSTILE = "<script>alert(1)</script>"
#: Of the page, its script and its first frames; a layout for each item would be a thousand.
LAYOUTS_MOST = 20
CHROMIUM = Path("/usr/bin/chromium")


@cache
def facts() -> AuditFacts:
    """Return facts of a server that is right in most things, under a name that no page may believe."""
    merged: dict[str, object] = {}
    for case in cases():
        if case.status == "pass":
            merged = {**case.facts, **merged}
    about = Host(name=HOSTILE, os="Debian GNU/Linux 12", kernel="6.1", virtualization="none")
    return msgspec.structs.replace(
        facts_of(merged), host=Fact(source="uname", value=about, unread=None), appliance="0.1.0"
    )


@cache
def result() -> AuditResult:
    return audit(facts(), "S")


def html(result: AuditResult, language: Language) -> str:
    return html_page.render(Edition(result, language)).decode()


def test_the_page_loads_nothing_from_anywhere() -> None:
    page = html(result(), "ko")
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!#)[a-z/]""", page)
    assert not re.findall(r"<[^>]*://[^>]*>", page), "no attribute names another place"


def test_the_policy_names_the_digests_of_the_one_script_and_style() -> None:
    page = html(result(), "ko")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src &#39;none&#39;")
    for tag in ("style", "script"):
        ((content),) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"sha256-{digest}".replace("+", "&#43;") in policy.replace("+", "&#43;")


def test_what_the_server_says_of_itself_is_never_markup() -> None:
    page = html(result(), "ko")
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(("language", "word"), [("ko", "보안 점검 보고서"), ("en", "Security audit report")])
def test_the_page_speaks_both_languages(language: str, word: str) -> None:
    page = html(result(), "ko" if language == "ko" else "en")
    assert word in page
    # Titles of the guides and what the server's own banner says stay as they are.
    ours = re.sub(r'class="(t|name|weight \w*)">[^<]*|<i>[^<]*|승인된 사용자[^<]*', "", page)
    assert bool(re.search("[가-힣]", ours)) == (language == "ko")


def test_the_page_claims_nothing_that_the_institution_decides() -> None:
    for language in ("ko", "en"):
        page = html(result(), "ko" if language == "ko" else "en")
        assert "준수" not in page
        assert "complian" not in page.lower()


def test_no_password_hash_can_be_in_the_facts() -> None:
    told = json.loads(msgspec.json.encode(facts()))
    assert "password" not in Account.__struct_fields__
    assert not re.search(r"\$(y|6|5)\$", json.dumps(told))


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - the other tests do without a browser

    if not CHROMIUM.exists():
        pytest.skip("the page is looked at in Chromium (Debian package chromium)")
    file = tmp_path / "audit.html"
    file.write_text(html(result(), "ko"), "utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page()
        page.goto(file.as_uri())
        yield page
        browser.close()


@pytest.mark.real
def test_the_table_can_be_filtered_without_a_network(page: Page) -> None:
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.reload()
    assert page.locator(".all .one:visible").count() == len(result().results)
    page.click(".all button[data-status=manual]")
    assert page.locator(".all .one:visible").count() == result().counts["manual"]
    page.click(".all button[data-status='']")
    page.fill("#words", "U-18")
    assert page.locator(".all .one:visible").evaluate_all("found => found.map(one => one.id)") == [
        "host.shadow-permissions"
    ]
    page.fill("#words", "")
    page.select_option("#area", "key")
    assert page.locator(".all .group:visible").count() == 1
    in_area = sum(one.area == "key" for one in result().results)
    assert page.locator("#shown").inner_text() == str(in_area)
    assert faults == [], "its own policy must let the page work"


@pytest.mark.real
def test_the_items_of_the_guides_are_folded_and_can_be_searched(page: Page) -> None:
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.reload()
    asked = sum(one.applies for guide in result().guides for one in guide.controls)
    assert page.locator(".controls .one:visible").count() == 0, "a thousand rows are nothing to begin with"
    assert page.locator(".controls .shown").inner_text() == str(asked)
    page.fill(".controls input", "u-64")
    assert page.locator(".controls .one:visible .name code").first.text_content() == "U-64"
    page.fill(".controls input", "N2SF-EA-1")
    (only,) = page.locator(".controls .one:visible").all()
    only.locator("summary").click()
    only.locator("a").click()
    assert page.locator("#crypto\\.validated-module").get_attribute("open") == "", (
        "evidence leads to its check"
    )
    page.fill(".controls input", "")
    page.select_option(".controls select", "institution")
    kinds = [one.answered for guide in result().guides for one in guide.controls if one.applies]
    assert page.locator(".controls .one:visible").count() == kinds.count("institution")
    page.select_option(".controls select", "")
    assert page.locator(".controls .one:visible").count() == 0
    assert faults == [], "its own policy must let the page work"


@pytest.mark.real
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_fits_a_telephone_and_a_desk(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    page.fill(".controls input", "N2SF")
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.real
def test_a_thousand_items_are_one_layout(tmp_path: Path) -> None:
    """What makes it open within a second (docs/benchmarks.md): small, folded, laid out once."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - as above

    if not CHROMIUM.exists():
        pytest.skip("the page is looked at in Chromium (Debian package chromium)")
    many = tmp_path / "site" / "checklists" / "ours.yaml"
    many.parent.mkdir(parents=True)
    many.write_text(own_list(1000), "utf-8")
    file = tmp_path / "audit.html"
    file.write_text(html(audit(facts(), "S", read_rules(tmp_path / "site")), "ko"), "utf-8")
    assert file.stat().st_size < 1_500_000
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        told = page.context.new_cdp_session(page)
        told.send("Performance.enable")
        page.goto(file.as_uri())
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        metrics = {one["name"]: one["value"] for one in told.send("Performance.getMetrics")["metrics"]}
        assert page.locator(".controls .one").count() > 1400
        browser.close()
    assert metrics["LayoutCount"] <= LAYOUTS_MOST


@pytest.mark.real
def test_on_paper_everything_is_unfolded(page: Page) -> None:
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".all details:not([open])").count() == 0
    assert page.locator(".controls .group:not([open])").count() == 0, "of the guides each item is a row"
    assert page.locator(".controls .one.bad:not([open])").count() == 0, "and what is to be mended is in full"
    assert page.locator(".controls .one.ask[open]").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
