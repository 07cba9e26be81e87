"""The tables of the plugin, one file for each subject."""

from .aspects import AspectBasis
from .dashboards import Dashboard
from .embeddings import EMBEDDING_DIM, Embedding
from .engine_copies import EngineChange, EngineCopy
from .experiments import Experiment
from .feedback import VOTERS, DailyStatistic, Event, EventDay, ExperimentGroup, Preference, Surface
from .heartbeats import Heartbeat
from .outbox import OutboxEntry
from .recall_samples import RecallSample
from .rules import MerchandisingRule
from .sweeps import SweepRun
from .versions import ModelVersion, weights_storage
from .visual_queries import VisualQuery
from .visual_query_means import VisualQueryMean

__all__ = [
    "EMBEDDING_DIM",
    "VOTERS",
    "AspectBasis",
    "DailyStatistic",
    "Dashboard",
    "Embedding",
    "EngineChange",
    "EngineCopy",
    "Event",
    "EventDay",
    "Experiment",
    "ExperimentGroup",
    "Heartbeat",
    "MerchandisingRule",
    "ModelVersion",
    "OutboxEntry",
    "Preference",
    "RecallSample",
    "Surface",
    "SweepRun",
    "VisualQuery",
    "VisualQueryMean",
    "weights_storage",
]
