# SPDX-License-Identifier: Apache-2.0
"""Exceptions of this package. All say what was seen and what is supported."""

from __future__ import annotations


class UnsupportedError(NotImplementedError):
    """Well-formed, but this build, device, model or option cannot do it."""


class MissingTorchError(ImportError):
    """The torch operations were not built, or were built for another torch."""
