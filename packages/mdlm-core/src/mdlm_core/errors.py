"""Errors meant for people: what is wrong, which value, which rule, the way out.

Every error the product raises on purpose derives from :class:`MdlmError`. The
command line prints ``error: <message>`` and leaves with ``exit_code``: 2 for
usage and configuration, 1 for a run that failed.
"""

from __future__ import annotations


class MdlmError(Exception):
    """Root of the errors that are addressed to a user."""

    exit_code = 1


class ConfigError(MdlmError):
    """A setting is unknown, of the wrong type, or out of its range."""

    exit_code = 2


class UsageError(MdlmError):
    """A command was called in a way that cannot work."""

    exit_code = 2


class UnknownNameError(ConfigError, LookupError):
    """A name is not in the catalog; the message lists near misses."""


class PluginError(MdlmError):
    """A plugin that is needed did not load, or two plugins claim one name."""


class MissingExtraError(MdlmError, ImportError):
    """An optional dependency is needed; the message says what to install."""


class DataError(MdlmError):
    """Data could not be read, or holds nothing that can be used."""


class CheckpointError(MdlmError):
    """A checkpoint is missing, damaged, or belongs to another model."""


class TrainingError(MdlmError):
    """A run had to stop: a loss that is not finite, a folder in use."""
