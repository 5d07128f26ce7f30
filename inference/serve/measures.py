"""What is counted and measured of the server: numbers alone, nothing of any image."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

MEDIA_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Measures:
    """Counters of one server.

    Attributes:
        requests: by path and status.
        images: decided.
        refused: requests and images that were not, by reason.
        queue: images that are decoded or wait.
        connections: open ones.
        held: bytes of bodies in memory.
        ready: 1 once the ensemble is read.
        reading: seconds in which a body came.
        decoding: seconds an image.
        waiting: seconds of an image for a decoder and for its block.
        deciding: seconds a block.
        answering: seconds a request, from its head to its answer.
        blocks: images of a block.
    """

    def __init__(self) -> None:
        """All at 0."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "radfuse_requests", "Requests answered.", ("path", "status"), registry=registry
        )
        self.images = Counter("radfuse_images", "Images decided.", registry=registry)
        self.refused = Counter(
            "radfuse_refused",
            "Requests and images that were not decided.",
            ("reason",),
            registry=registry,
        )
        self.queue = Gauge(
            "radfuse_queue_images", "Images being decoded or waiting.", registry=registry
        )
        self.connections = Gauge("radfuse_connections", "Open connections.", registry=registry)
        self.held = Gauge("radfuse_held_bytes", "Bytes of bodies in memory.", registry=registry)
        self.ready = Gauge("radfuse_ready", "1 once the ensemble is read.", registry=registry)
        self.reading = self._seconds("reading", "In which a body came.")
        self.decoding = self._seconds("decoding", "An image.")
        self.waiting = self._seconds("waiting", "Of an image for a decoder and its block.")
        self.deciding = self._seconds("deciding", "A block.")
        self.answering = self._seconds("answering", "A request, from its head to its answer.")
        self.blocks = Histogram(
            "radfuse_block_images", "Images of a block.", buckets=_SIZES, registry=registry
        )

    def _seconds(self, what: str, text: str) -> Histogram:
        return Histogram(f"radfuse_{what}_seconds", text, buckets=_SECONDS, registry=self.registry)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
