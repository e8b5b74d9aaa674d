"""How soon a report of a thousand items is there, in Chromium: ``python -m bench.page_time``."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from appliance.audit.edition import Edition
from appliance.audit.formats.page import render
from appliance.audit.result import audit
from appliance.audit.site import read_rules
from tests import audited
from tests.test_audit_site import own_list

CHROMIUM = "/usr/bin/chromium"
ITEMS, LOADS = 1000, 7
#: Milliseconds since the navigation began, as the browser itself counts them.
TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const painted = paint ? paint.startTime : 0;
  return {ready: page.domContentLoadedEventEnd, painted, loaded: page.loadEventEnd};
}"""
TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def page(folder: Path) -> Path:
    """Write the report of a server with so many items more than the guides', and return it."""
    many = folder / "site" / "checklists" / "ours.yaml"
    many.parent.mkdir(parents=True)
    many.write_text(own_list(ITEMS), "utf-8")
    file = folder / "audit.html"
    file.write_bytes(render(Edition(audit(audited.facts(), "S", read_rules(folder / "site")), "ko")))
    return file


def loads(file: Path) -> list[dict[str, float]]:
    """Open the page some times, each in a browser of its own, and return what each took."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only here a browser is needed

    found = []
    with sync_playwright() as playwright:
        for _ in range(LOADS):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            opened = browser.new_page()
            opened.goto(file.as_uri())
            opened.evaluate(TWO_FRAMES)
            found.append(opened.evaluate(TIMES))
            browser.close()
    return found


def main() -> None:
    """Print the medians, with the fastest and the slowest load."""
    with tempfile.TemporaryDirectory() as name:
        file = page(Path(name))
        told = loads(file)
        sys.stdout.write(f"{ITEMS} items of an own checklist, {file.stat().st_size / 1e6:.2f} MB\n")
    for key in ("ready", "painted", "loaded"):
        each = sorted(one[key] for one in told)
        sys.stdout.write(f"{key}: {statistics.median(each):.0f} ms ({each[0]:.0f} to {each[-1]:.0f})\n")


if __name__ == "__main__":
    main()
