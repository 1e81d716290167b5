"""Lets the tests import what the peers' processes import: the modules of benchmarks/peers by their bare names."""

from __future__ import annotations

import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"

if str(PEERS) not in sys.path:
    sys.path.append(str(PEERS))
