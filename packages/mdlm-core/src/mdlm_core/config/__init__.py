"""Settings: the schema, the layers they come from, and their rendering."""

from .render import to_dict, to_yaml
from .resolution import Resolved, read_run, resolve
from .schema import Component, RunConfig, TrainConfig

__all__ = [
    "Component",
    "Resolved",
    "RunConfig",
    "TrainConfig",
    "read_run",
    "resolve",
    "to_dict",
    "to_yaml",
]
