# SPDX-License-Identifier: Apache-2.0
"""The diffusers plug-in: attention processors and one hook on the scheduler (docs/python.md)."""

from .apply import apply
from .handle import Handle
from .report import Report

__all__ = ["Handle", "Report", "apply"]
