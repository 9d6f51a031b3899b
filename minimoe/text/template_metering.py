"""Metering of chat templates: a transform of Jinja's syntax tree.

Loops, `~`, comparisons, slices and literals are compiled to plain Python, which Jinja's sandbox cannot intercept.
`Metering` inserts filters into the tree that charge the budget; `Sandbox` in template_sandbox.py defines them.
"""

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


class Metering(NodeTransformer):
    """Adds charges to the constructs that Jinja compiles to plain Python."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.body.insert(0, step(node.body))
        if node.test is not None:
            node.test = nodes.And(filtered(nodes.Const(0), "step"), node.test)
        return node

    def visit_Macro(self, node: Any) -> Any:
        node = self.generic_visit(node)
        node.body.insert(0, step(node.body))
        return node

    visit_CallBlock = visit_Block = visit_Macro

    def visit_Concat(self, node: nodes.Concat) -> nodes.Concat:
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.nodes = [filtered(part, "text") for part in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.expr = filtered(node.expr, "read")
        for operand in node.ops:
            operand.expr = filtered(operand.expr, "read")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        node = self.generic_visit(node)  # type: ignore[assignment]
        return filtered(node, "new") if isinstance(node.arg, nodes.Slice) else node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.key = filtered(node.key, "read")
        return node

    def visit_List(self, node: Any) -> Any:
        node = self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else filtered(node, "new")

    visit_Tuple = visit_Dict = visit_List


def filtered(node: nodes.Expr, name: str) -> nodes.Expr:
    """`node | name`. A constant is free, except as the argument of `step`."""
    if isinstance(node, nodes.Const) and name != "step":
        return node
    return nodes.Filter(node, f"minimoe.{name}", [], [], None, None, lineno=node.lineno)


def step(body: list[nodes.Node]) -> nodes.Node:
    """The statement that charges for one execution of `body`."""
    return nodes.ExprStmt(filtered(nodes.Const(sum(map(template_characters, body))), "step"), lineno=1)


def template_characters(node: nodes.Node) -> int:
    """Characters of template text in `node`; nested loops and macros are charged separately."""
    if isinstance(node, nodes.TemplateData):
        return len(node.data)
    if isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock | nodes.Block):
        return 0
    return sum(map(template_characters, node.iter_child_nodes()))
