from __future__ import annotations

collect_ignore_glob = ["make_*.py"]  # run by hand: they import the peers
