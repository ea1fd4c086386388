"""Small edits that make a program wrong: comparisons, signs, constants, conditions, lost statements.

Edits are text for text, so a faulty file differs from the sound one in one expression or statement.
What cannot matter is left alone: annotations, docstrings, decorators, assertions, messages of errors,
and the strictness of a ``zip``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
OPPOSITES = {"min": "max", "minimum": "maximum", "any": "all"}
OPPOSITES |= {there: here for here, there in OPPOSITES.items()}


@dataclass(frozen=True)
class Edit:
    """The bytes from ``start`` to ``end`` of a file become ``new``; ``scope`` is the function around."""

    operator: str
    scope: str
    start: int
    end: int
    old: str
    new: str


def edits(source: str) -> list[Edit]:
    """Returns every edit of a file, in the order of the text."""
    return list(Walk(source).of(ast.parse(source), ()))


class Walk:
    """A walk over a file's syntax tree that knows where each node stands in the text."""

    def __init__(self, source: str) -> None:
        self.content = source.encode()
        self.line_starts = [0]
        for line in self.content.splitlines(keepends=True):
            self.line_starts.append(self.line_starts[-1] + len(line))

    def of(self, node: ast.AST, scope: tuple[str, ...]) -> Iterator[Edit]:
        """Yields the edits of a node and of what is below it."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = (*scope, node.name)
        for operator, old, new in variants(node):
            yield self.edit(operator, scope, old, ast.unparse(new))
        for child in worth_editing(node):
            yield from self.of(child, scope)

    def edit(self, operator: str, scope: tuple[str, ...], node: ast.AST, new: str) -> Edit:
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self.line_starts[node.lineno - 1] + node.col_offset
        end = self.line_starts[node.end_lineno - 1] + node.end_col_offset
        return Edit(
            operator, ".".join(scope) or "module", start, end, self.content[start:end].decode(), new
        )


def worth_editing(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the children of a node that decide something."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(
                child, ast.Assert | ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr
            ):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            if (
                isinstance(child, ast.Assign)
                and isinstance(node, ast.Module)
                and is_type(child.value)
            ):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.AST):
                yield child


def is_type(value: ast.expr) -> bool:
    """Whether a name at the top of a file is given a union of types or a generic one."""
    return isinstance(value, ast.BinOp | ast.Subscript)


def variants(node: ast.AST) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Yields (operator, node to replace, its replacement) of one node."""
    match node:
        case ast.Compare(ops=[only]):
            for other in COMPARISONS[type(only)]:
                yield "comparison", node, changed(node, ops=[other()])
        case ast.BinOp(left=ast.List() | ast.Constant(value=str())):
            return  # a sequence repeated or joined: any other operator is an error of types
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            yield "arithmetic", node, changed(node, op=ARITHMETIC[type(node.op)]())
        case ast.BoolOp():
            other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "boolean", node, changed(node, op=other_op)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield "sign or not", node, node.operand
        case ast.Constant(value=bool() | int() | float() as value):
            yield "constant", node, ast.Constant(other_number(value))
        case ast.Call(func=ast.Name(id=name)) if name in OPPOSITES:
            yield "min or max", node.func, ast.Name(OPPOSITES[name])
        case ast.Call(func=ast.Attribute(attr=name)) if name in OPPOSITES:
            yield "min or max", node.func, changed(node.func, attr=OPPOSITES[name])
        case ast.Call(func=ast.Name(id="range"), args=[*_, last]):
            yield "off by one", last, ast.BinOp(last, ast.Sub(), ast.Constant(1))
        case ast.Slice(lower=ast.expr() as lower):
            yield "off by one", lower, ast.BinOp(lower, ast.Add(), ast.Constant(1))
        case ast.Slice(upper=ast.expr() as upper):
            yield "off by one", upper, ast.BinOp(upper, ast.Sub(), ast.Constant(1))
        case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.Compare):
            yield "condition", node.test, ast.UnaryOp(ast.Not(), node.test)
        case ast.AugAssign() | ast.Continue() | ast.Break():
            yield "lost statement", node, ast.Pass()
        case ast.Expr() if not isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom):
            yield "lost statement", node, ast.Pass()


def other_number(value: float) -> float:
    """Returns the other truth value, the next whole number, or twice a number; 1 for 0.0."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 2 * value or 1.0


def changed(node: ast.AST, **fields: object) -> ast.AST:
    """Returns a copy of a node with other fields."""
    copy = deepcopy(node)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy
