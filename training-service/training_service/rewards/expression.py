"""A user's own reward as an expression over what is known of a row."""

import ast
import difflib
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import simpleeval

from training_service.rewards.function_calling import SCORERS
from training_service.rewards.row import RewardError, Row, score

LOWEST, HIGHEST = -10.0, 10.0
LONGEST_EXPRESSION = 2000
MOST_PARTS = 300
BIGGEST_BASE, BIGGEST_POWER = 1e6, 16

TEXT_NAMES = ("completion", "prompt", "expected")
NUMBER_NAMES = ("length", *SCORERS)
NAMES = (*TEXT_NAMES, *NUMBER_NAMES)

Expression = Callable[[Row, int], float]


def _text(*values: Any) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"a text is needed where {_shown(value)} stands")


def _numbers(*values: Any) -> None:
    for value in values:
        if not isinstance(value, int | float):
            raise TypeError(f"a number is needed where {_shown(value)} stands")


def _shown(value: Any) -> str:
    return "a text" if isinstance(value, str) else repr(value)


def _of_texts(apply: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        _text(*values)
        return apply(*values)

    return checked


def _of_numbers(apply: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        _numbers(*values)
        return apply(*values)

    return checked


def _power(base: float, exponent: float) -> float:
    if abs(base) > BIGGEST_BASE or abs(exponent) > BIGGEST_POWER:
        raise ValueError(f"** takes a base up to {BIGGEST_BASE:.0f} and a power up to {BIGGEST_POWER}")
    if base < 0 and exponent != int(exponent):
        raise ValueError("a negative number has no such root")
    return float(base**exponent)


# name: what it does, fewest and most values it takes
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "min": (_of_numbers(min), 2, 16),
    "max": (_of_numbers(max), 2, 16),
    "abs": (_of_numbers(abs), 1, 1),
    "len": (_of_texts(len), 1, 1),
    "lower": (_of_texts(str.lower), 1, 1),
    "contains": (_of_texts(operator.contains), 2, 2),
    "startswith": (_of_texts(str.startswith), 2, 2),
    "endswith": (_of_texts(str.endswith), 2, 2),
    "count": (_of_texts(str.count), 2, 2),
}

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _of_numbers(_power),
    ast.USub: _of_numbers(operator.neg),
    ast.UAdd: _of_numbers(operator.pos),
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
    ast.In: lambda part, whole: FUNCTIONS["contains"][0](whole, part),
    ast.NotIn: lambda part, whole: not FUNCTIONS["contains"][0](whole, part),
}
_ALLOWED = (
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.Load,
    ast.boolop,
    *_OPERATORS,
)
_REFUSED = {
    ast.Attribute: "`.` (attributes)",
    ast.Subscript: "`[...]`",
    ast.JoinedStr: "f-texts",
    ast.Lambda: "lambda",
    ast.ListComp: "comprehensions",
    ast.SetComp: "comprehensions",
    ast.DictComp: "comprehensions",
    ast.GeneratorExp: "comprehensions",
    ast.List: "lists",
    ast.Tuple: "lists",
    ast.Dict: "lists",
    ast.Set: "lists",
    ast.NamedExpr: "assignments",
}
_FAILURES = (ArithmeticError, TypeError, ValueError, RecursionError, simpleeval.InvalidExpression)


def expression(source: str) -> Expression:
    """The expression as a function of a row and its number; ValueError says what is wrong with it and what to do."""
    tree = _parsed(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    _try_out(source, tree)

    def evaluate(row: Row, number: int) -> float:
        try:
            result = _evaluate(source, tree, _values(row, used))
        except _FAILURES as failure:
            raise RewardError(f"Row {number}: the reward `{_short(source)}` failed: {_said(failure)}.") from None
        if not isinstance(result, int | float) or result != result:  # noqa: PLR0124 - NaN alone
            raise RewardError(f"Row {number}: the reward `{_short(source)}` gave {_shown(result)}, not a number.")
        return float(min(HIGHEST, max(LOWEST, result)))

    return evaluate


def _values(row: Row, used: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"completion": row.completion, "prompt": row.prompt, "expected": row.expected}
    values["length"] = len(row.completion)
    values.update((name, score(name, row)) for name in SCORERS if name in used)
    return values


def _evaluate(source: str, tree: ast.expr, values: Mapping[str, Any]) -> Any:
    functions = {name: apply for name, (apply, _, _) in FUNCTIONS.items()}
    evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions=functions, names=values)
    return evaluator.eval(source, previously_parsed=tree)


def _parsed(source: str) -> ast.expr:
    if len(source) > LONGEST_EXPRESSION:
        raise ValueError(f"is {len(source)} characters long; shorten it to {LONGEST_EXPRESSION}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("is not one expression; write one such as 0.5*format + 0.5*schema") from None
    nodes = list(ast.walk(tree))
    if len(nodes) > MOST_PARTS:
        raise ValueError(f"has {len(nodes)} parts; bring it down to {MOST_PARTS}")
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        _check_node(node, id(node) in called)
    return tree


def _check_node(node: ast.AST, called: bool) -> None:
    if not isinstance(node, _ALLOWED):
        what = _REFUSED.get(type(node), f"`{type(node).__name__}`")
        raise ValueError(f"holds {what}, which a reward cannot use; use numbers, texts, {_list(NAMES)} and functions")
    if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
        raise ValueError(f"holds {node.value!r}; only numbers and texts can stand there")
    if isinstance(node, ast.Name):
        known = tuple(FUNCTIONS) if called else NAMES
        if node.id not in known:
            raise ValueError(_unknown("function" if called else "name", node.id, known))
    if isinstance(node, ast.Call):
        _check_call(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        power = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
        if isinstance(power, ast.Constant) and isinstance(power.value, int | float) and power.value > BIGGEST_POWER:
            raise ValueError(f"raises to a power above {BIGGEST_POWER}; use a smaller one")


def _check_call(node: ast.Call) -> None:
    if isinstance(node.func, ast.Attribute):
        return
    if not isinstance(node.func, ast.Name):
        raise ValueError(f"calls something other than a function; the functions are {_list(FUNCTIONS)}")
    if node.keywords:
        raise ValueError(f"names a value it gives to {node.func.id}; give values by their place alone")
    if node.func.id in FUNCTIONS:
        _, fewest, most = FUNCTIONS[node.func.id]
        if not fewest <= len(node.args) <= most:
            takes = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"gives {len(node.args)} values to {node.func.id}, which takes {takes}")


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {_list(known)}"
    return f"uses the unknown {what} `{name[:50]}`; {hint}"


def _list(names: Any) -> str:
    return ", ".join(names)


def _try_out(source: str, tree: ast.expr) -> None:
    """Both answers of most conditions are tried, so that a text in place of a number is found before a run begins."""
    for text, number in (("some text", 0.5), ("", 0.0), ("some text", 1.0)):
        values: dict[str, Any] = dict.fromkeys(TEXT_NAMES, text) | dict.fromkeys(NUMBER_NAMES, number)
        values["length"] = len(text)
        try:
            result = _evaluate(source, tree, values)
        except ArithmeticError:
            continue
        except _FAILURES as failure:
            raise ValueError(f"cannot be worked out: {_said(failure)}") from None
        if not isinstance(result, int | float):
            raise ValueError(f"gives {_shown(result)}; it must give a number")


def _said(failure: Exception) -> str:
    if isinstance(failure, TypeError) and "not supported between" in str(failure):
        return "a text and a number cannot be compared"
    return str(failure)[:200]


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
