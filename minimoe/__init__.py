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
    "load": "minimoe.checkpoint.load",
    "load_model": "minimoe.checkpoint.load",
    "save": "minimoe.checkpoint.save",
    "verify": "minimoe.checkpoint.verify",
    "quantise": "minimoe.checkpoint.quantise",
    "add_packed_products": "minimoe.quantisation.packed_products",
    "stream": "minimoe.scale.streaming.stream",
    "record_routing": "minimoe.routing.trace.trace",
    "RoutingTrace": "minimoe.routing.trace.trace",
    "show_token": "minimoe.routing.token_view.show",
    "record_documents": "minimoe.routing.trace.documents",
    "TracedDocument": "minimoe.routing.trace.documents",
    "synthetic_trace": "minimoe.routing.trace.synthetic",
    "from_hooks": "minimoe.routing.trace.captures",
    "from_llama_cpp": "minimoe.routing.trace.captures",
    "from_sglang": "minimoe.routing.trace.importers",
    "from_vllm": "minimoe.routing.trace.importers",
    "ablate": "minimoe.routing.ablation.ablate",
    "explore": "minimoe.routing.explorer.explore",
    "export_html": "minimoe.routing.explorer.export",
    "find": "minimoe.paths",
    "show_code": "minimoe.course.source",
    "course_map": "minimoe.course.chapters",
    "expect": "minimoe.course.expect",
    "check": "minimoe.course.checker.check",
    "hint": "minimoe.course.checker.hints",
    "solution": "minimoe.course.checker.hints",
    "progress": "minimoe.course.checker.progress",
    "exercises": "minimoe.course.exercise_copies",
    "workbench": "minimoe.course.workbench.replace_functions",
}
FOLDERS = ("model", "zoo")
__all__ = sorted([*WHERE, *FOLDERS])


def __getattr__(name: str) -> Any:
    if name in FOLDERS:
        return import_module(f"minimoe.{name}")
    if name not in WHERE:
        raise AttributeError(f"module 'minimoe' has no attribute {name!r}")
    value = getattr(import_module(WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
