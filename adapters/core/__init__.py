"""What all adapters share."""

from adapters.core.adapter import Adapter, ServiceConfig, adapter_classes, services
from adapters.core.deadline import deadline, remaining
from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unconfigured, Unexpected, Unreachable
from adapters.core.model import Category, Health, Metric, Sample, Service, Setting, State, Unit, utcnow

__all__ = [
    "Adapter",
    "AdapterError",
    "Category",
    "Denied",
    "Health",
    "Metric",
    "Rejected",
    "Sample",
    "Service",
    "ServiceConfig",
    "Setting",
    "State",
    "TimedOut",
    "Unconfigured",
    "Unexpected",
    "Unit",
    "Unreachable",
    "adapter_classes",
    "deadline",
    "remaining",
    "services",
    "utcnow",
]
