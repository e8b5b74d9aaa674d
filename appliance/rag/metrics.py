"""What the API counts, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

if TYPE_CHECKING:
    from appliance.rag.answer import Citations

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one running API."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ("route", "method", "status")
        self._requests = Counter(
            "banip_requests", "Requests by how they ended.", names, registry=self._registry
        )
        self._seconds = Histogram(
            "banip_request_seconds",
            "Time from a request's first byte to its answer's last.",
            ("route",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._answers = Counter("banip_answers", "Answers by outcome.", ("outcome",), registry=self._registry)
        self._citations = Counter(
            "banip_citations", "Citations in answers, as checked.", ("kind",), registry=self._registry
        )
        for outcome in ("answered", "nothing_found", "failed"):
            self._answers.labels(outcome)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answer(self, outcome: str, citations: Citations | None = None) -> None:
        """Count an answer: ``answered``, ``nothing_found`` or ``failed``."""
        self._answers.labels(outcome).inc()
        for kind, numbers in (citations.as_json() if citations else {}).items():
            self._citations.labels(kind).inc(len(numbers))

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
