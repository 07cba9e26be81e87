"""The tables of the plugin, one file for each subject."""

from .aspects import AspectBasis
from .embeddings import EMBEDDING_DIM, Embedding
from .experiments import Experiment
from .feedback import DailyStatistic, Event, EventDay, Preference, Surface
from .outbox import OutboxEntry
from .rules import MerchandisingRule
from .sweeps import SweepRun
from .versions import ModelVersion, weights_storage
from .visual_queries import VisualQuery
from .visual_query_means import VisualQueryMean

__all__ = [
    "EMBEDDING_DIM",
    "AspectBasis",
    "DailyStatistic",
    "Embedding",
    "Event",
    "EventDay",
    "Experiment",
    "MerchandisingRule",
    "ModelVersion",
    "OutboxEntry",
    "Preference",
    "Surface",
    "SweepRun",
    "VisualQuery",
    "VisualQueryMean",
    "weights_storage",
]
