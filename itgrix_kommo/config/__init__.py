"""The configuration: `/etc/itgrix_amo/config.json`, checked as a whole before anything starts.

`load` gives an immutable `Config` with all secrets resolved, or a ConfigError that lists every problem.
"""

from __future__ import annotations

from itgrix_kommo.config.hours import Span, WorkingHours
from itgrix_kommo.config.importing import Imported, imported
from itgrix_kommo.config.links import (
    Admin,
    Ami,
    Http,
    Integration,
    Kommo,
    Listener,
    Logging,
    Node,
    PbxDatabase,
    Recordings,
    Storage,
    Tokens,
)
from itgrix_kommo.config.loading import load, looks_like_vendors
from itgrix_kommo.config.patterns import NumberPattern
from itgrix_kommo.config.reference import json_schema, starting_file
from itgrix_kommo.config.rules import (
    HOOKS,
    Business,
    Customizations,
    Employee,
    Hook,
    ListEntry,
    Numbers,
    Originate,
    Replacement,
    Route,
    Tasks,
)
from itgrix_kommo.config.settings import Config

__all__ = [
    "HOOKS",
    "Admin",
    "Ami",
    "Business",
    "Config",
    "Customizations",
    "Employee",
    "Hook",
    "Http",
    "Imported",
    "Integration",
    "Kommo",
    "ListEntry",
    "Listener",
    "Logging",
    "Node",
    "NumberPattern",
    "Numbers",
    "Originate",
    "PbxDatabase",
    "Recordings",
    "Replacement",
    "Route",
    "Span",
    "Storage",
    "Tasks",
    "Tokens",
    "WorkingHours",
    "imported",
    "json_schema",
    "load",
    "looks_like_vendors",
    "starting_file",
]
