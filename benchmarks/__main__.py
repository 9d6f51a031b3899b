"""Run benchmarks: python -m benchmarks [NAME ...].

Without a name, all in ALL run; those in LARGE need gigabytes of disk and memory, a large GPU, or packages that
`make setup` does not install, and run by name only.
"""

import sys

from benchmarks import (
    decode,
    experts,
    explorer,
    gpu_parity,
    gpu_resume,
    gpu_transformers,
    gpu_whole,
    loading,
    other_engines,
    packed,
    parity,
    plot,
    real_width,
    recording,
    speed,
    streaming,
    training,
    whole_checkpoint,
    whole_rank,
    wide,
)

ALL = {
    "parity": parity.main,
    "recording": recording.main,
    "speed": speed.main,
    "experts": experts.main,
    "decode": decode.main,
    "packed": packed.main,
    "loading": loading.main,
    "training": training.main,
    "explorer": explorer.main,
}
LARGE = {
    "plot": plot.main,
    "whole_checkpoint": whole_checkpoint.main,
    "whole_rank": whole_rank.main,
    "real_width": real_width.main,
    "streaming": streaming.main,
    "wide": wide.main,
    "other_engines": other_engines.main,
    "gpu_whole": gpu_whole.main,
    "gpu_parity": gpu_parity.main,
    "gpu_resume": gpu_resume.main,
    "gpu_transformers": gpu_transformers.main,
}

if __name__ == "__main__":
    names = sys.argv[1:] or list(ALL)
    known = ALL | LARGE
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"benchmarks: {', '.join(sorted(unknown))} is not one of {', '.join(known)}")
    for name in names:
        known[name]()
