# SPDX-License-Identifier: Apache-2.0
"""Shared settings of the Python tests."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
