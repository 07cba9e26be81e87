"""Where Prometheus reads what a worker counts: a port of its own, for a worker has no pages."""

from __future__ import annotations

import logging
import os

from shop_similarity import meters
from shop_similarity.conf import get_settings
from shop_similarity.monitoring import exposition

logger = logging.getLogger(__name__)


def start() -> None:
    """Listen where ``WORKER_METRICS_PORT`` says so. A port that is taken is logged, and the worker goes on without."""
    settings = get_settings()
    if not settings.metrics or not settings.worker_metrics_port:
        return
    if not meters.is_installed():
        logger.error("%s", exposition.NotInstalled())
        return
    import prometheus_client

    meters.begin()
    registry = prometheus_client.REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        # Of a pool of processes: what its children counted lies in files, what this one takes of memory does not.
        registry = exposition.registry(of_database=False)
        prometheus_client.ProcessCollector(registry=registry)
    host, port = settings.worker_metrics_host, settings.worker_metrics_port
    try:
        prometheus_client.start_http_server(port, host, registry)
    except OSError as error:
        logger.error("The worker tells no metrics on %s:%d: %s. It goes on without.", host, port, error)
