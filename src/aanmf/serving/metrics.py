"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one service. With several workers (PROMETHEUS_MULTIPROC_DIR is set) they are added up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        given: Any = {"registry": self._registry}
        self.requests = Counter("aanmf_requests", "Requests answered.", ["method", "route", "status"], **given)
        self.overload = Counter("aanmf_requests_overload", "Requests refused since too many were in work.", **given)
        self.seconds = Histogram("aanmf_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, **given)
        self.predictions = Counter("aanmf_predictions", "Ratings predicted by /v1/predict.", **given)
        self.stored = Counter("aanmf_ratings_stored", "Ratings stored.", **given)
        self.loads = Counter("aanmf_model_loads", "Model folders loaded.", ["outcome"], **given)
        self.batch = Histogram("aanmf_batch_requests", "Requests per batch.", buckets=(1, 2, 4, 8, 16, 32, 64), **given)
        oldest: Any = {**given, "multiprocess_mode": "min"}  # of the worker that is behind the others
        self.loaded = Gauge("aanmf_model_loaded_seconds", "When the model was loaded (Unix time).", **oldest)
        summed: Any = {**given, "multiprocess_mode": "livesum"}
        self.in_work = Gauge("aanmf_requests_in_work", "Requests in work or waiting for the model.", **summed)
        self.bound = Gauge("aanmf_requests_bound", "How many requests may be in work at a time.", **summed)
        self.list_bytes = Gauge("aanmf_cached_lists_bytes", "Memory that cached lists take.", **summed)
        self.saved = Gauge("aanmf_model_saved_seconds", "When the model was saved (Unix time).", **oldest)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        everywhere = CollectorRegistry()
        MultiProcessCollector(everywhere)
        return generate_latest(everywhere)
