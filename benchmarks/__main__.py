"""python -m benchmarks [NAME ...], of those in ALL below: without a name, all of them."""

import os
import sys

os.environ.setdefault(
    "OMP_WAIT_POLICY", "passive"
)  # two spinning threads beside a busy process can be 100 times slower

from benchmarks import explorer, loading, parity, recording, speed, training, whole_rank

ALL = {
    "parity": parity.main,
    "recording": recording.main,
    "speed": speed.main,
    "loading": loading.main,
    "training": training.main,
    "explorer": explorer.main,
    "whole_rank": whole_rank.main,
}

if __name__ == "__main__":
    names = sys.argv[1:] or list(ALL)
    unknown = set(names) - set(ALL)
    if unknown:
        sys.exit(f"benchmarks: {', '.join(sorted(unknown))} is not one of {', '.join(ALL)}")
    for name in names:
        ALL[name]()
