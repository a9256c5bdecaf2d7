"""Connects Asterisk with Kommo (amoCRM): every call understood, registered once, open to customization."""

from __future__ import annotations

__version__ = "0.1.0"
