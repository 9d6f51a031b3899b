"""minimoe: a Qwen3 Mixture-of-Experts that you can read.

Importing it loads nothing heavy until a name is used (PEP 562).
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

WHERE = {
    "MinimoeError": "minimoe.errors",
    "ModelConfig": "minimoe.model.config",
    "Transformer": "minimoe.model.transformer",
    "KVCache": "minimoe.model.cache",
    "Tokenizer": "minimoe.text.tokenizer",
    "generate": "minimoe.text.generate",
    "sample": "minimoe.text.generate",
    "load": "minimoe.checkpoint.read",
    "load_model": "minimoe.checkpoint.read",
    "save": "minimoe.checkpoint.save",
    "verify": "minimoe.checkpoint.verify",
    "quantise": "minimoe.checkpoint.quantise",
    "stream": "minimoe.scale.stream",
    "record_routing": "minimoe.routing.trace",
    "RoutingTrace": "minimoe.routing.trace",
    "record_documents": "minimoe.routing.documents",
    "TracedDocument": "minimoe.routing.documents",
    "synthetic_trace": "minimoe.routing.synthetic",
    "from_sglang": "minimoe.routing.importers",
    "from_vllm": "minimoe.routing.importers",
    "ablate": "minimoe.routing.ablation",
    "explore": "minimoe.routing.explorer.explore",
    "export_html": "minimoe.routing.explorer.export",
    "find": "minimoe.paths",
    "show_code": "minimoe.course.source",
    "course_map": "minimoe.course.chapters",
    "check": "minimoe.course.checking",
    "hint": "minimoe.course.hints",
    "solution": "minimoe.course.hints",
    "progress": "minimoe.course.progress",
    "workbench": "minimoe.course.workbench",
}
__all__ = sorted([*WHERE, "model"])


def __getattr__(name: str) -> Any:
    if name == "model":
        return import_module("minimoe.model")
    if name not in WHERE:
        raise AttributeError(f"module 'minimoe' has no attribute {name!r}")
    value = getattr(import_module(WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
