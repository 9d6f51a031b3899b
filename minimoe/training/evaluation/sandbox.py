"""Run a small, untrusted Python function written by a model.

Its syntax tree may contain only what the functions of the small world need: no import, no while, and only a few
harmless calls. It then runs in a separate process with a memory limit and a timeout (SECONDS).
"""

import ast
import json
import subprocess
import sys
from collections.abc import Sequence

ALLOWED_NODES = (
    *(ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.If, ast.For, ast.Assign, ast.AugAssign),
    *(ast.Expr, ast.Name, ast.Constant, ast.List, ast.ListComp, ast.GeneratorExp, ast.comprehension, ast.Call),
    *(ast.Attribute, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Subscript, ast.Slice, ast.IfExp),
    *(ast.Load, ast.Store, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.USub, ast.And, ast.Or, ast.Not),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
ALLOWED_CALLS = ("sum", "len")
ALLOWED_METHODS = ("append", "count", "startswith")
SECONDS = 30
RUNNER = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
except (ImportError, OSError, ValueError):
    pass  # not available on Windows
source, name, probes = json.load(sys.stdin)
scope = {"__builtins__": {"sum": sum, "len": len}}
exec(source, scope)
out = []
for probe in probes:
    try:
        out.append(repr(scope[name](probe))[:500])
    except Exception as error:
        out.append(type(error).__name__)
json.dump(out, sys.stdout)
"""


def only_function(source: str) -> str | None:
    """The name of the single function in `source`, or None if there is none or it uses syntax that is not allowed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef) or tree.body[0].decorator_list:
        return None
    return tree.body[0].name if all(is_harmless(node) for node in ast.walk(tree)) else None


def is_harmless(node: ast.AST) -> bool:
    """Whether a node of a syntax tree is allowed."""
    if not isinstance(node, ALLOWED_NODES):
        return False
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) or (
            isinstance(node.func, ast.Name) and node.func.id in ALLOWED_CALLS
        )
    if isinstance(node, ast.Attribute):
        return node.attr in ALLOWED_METHODS
    if isinstance(node, ast.Name | ast.arg):
        return not (node.id if isinstance(node, ast.Name) else node.arg).startswith("_")
    return True


def results(source: str, probes: Sequence[object]) -> list[str]:
    """For each probe, the repr of what the function in `source` returns, or the name of the exception it raises.

    Empty if there is no function, its syntax is not allowed, or it does not finish in time.
    """
    name = only_function(source)
    if name is None:
        return []
    command = [sys.executable, "-I", "-S", "-c", RUNNER]
    message = json.dumps([source, name, list(probes)])
    try:
        done = subprocess.run(command, input=message, capture_output=True, text=True, timeout=SECONDS, check=True)
        return list(json.loads(done.stdout))
    except (subprocess.SubprocessError, ValueError):
        return []
