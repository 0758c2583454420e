"""What a PowerShell script uses that PowerShell 2.0 does not have, or that behaves differently there.

Nothing that is not listed in powershell_2_0.yml passes. The parser is tree-sitter-powershell's, which reads the newest
dialect: so it is the lists that refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import tree_sitter_powershell
import yaml
from tree_sitter import Language, Node, Parser

LISTS: Final[Mapping[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "powershell_2_0.yml").read_text(encoding="utf-8")
)

_PARSER: Final = Parser(Language(tree_sitter_powershell.language()))
_SUFFIX: Final = re.compile(r"[0-9.]+[kmgtp]b", re.IGNORECASE)


def _flat(name: str) -> frozenset[str]:
    return frozenset(each.lower() for row in LISTS[name] for each in row)


_SYNTAX: Final = _flat("syntax")
_TYPES: Final = _flat("types")
_OPERATORS: Final = _flat("operators")
_TOKENS: Final = _OPERATORS | {each.lower() for each in (*LISTS["keywords"], *LISTS["punctuation"])}
_COMMANDS: Final = {name.lower(): {each.lower() for each in has} for name, has in LISTS["commands"].items()}
_AUTOMATIC: Final = {name.lower() for name in LISTS["automatic_variables"]}


def _arguments(listed: Any) -> set[Any]:
    return set(listed) if isinstance(listed, list) else {listed}


_STATIC: Final = {
    (type_.lower(), name.lower()): _arguments(listed)
    for type_, members in LISTS["static_members"].items()
    for name, listed in members.items()
}
_MEMBERS: Final[dict[str, set[Any]]] = {}
for _of_type in LISTS["members"].values():
    for _name, _listed in _of_type.items():
        _MEMBERS.setdefault(_name.lower(), set()).update(_arguments(_listed))


@dataclass(frozen=True)
class Script:
    """A parsed script.

    Attributes:
        root: the whole of it.
    """

    root: Node

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All of it, in the order of the text."""
        return tuple(_below(self.root))

    def of(self, *kinds: str) -> Iterator[Node]:
        """The nodes of these kinds."""
        return (node for node in self.nodes if node.is_named and node.type in kinds)

    @cached_property
    def functions(self) -> Mapping[str, frozenset[str]]:
        """Its own functions by their names in lower case, with the names of their parameters."""
        return {
            _text(_child(node, "function_name")).lower(): frozenset(
                _variable(_child(each, "variable")) for each in _below(node) if each.type == "script_parameter"
            )
            for node in self.of("function_statement")
        }

    @cached_property
    def assigned(self) -> frozenset[str]:
        """The variables that it gives a value somewhere: by assignment, as a parameter, in foreach."""
        targets = [each for node in self.of("left_assignment_expression") for each in _assigned_by(node)]
        parameters = [_child(node, "variable") for node in self.of("script_parameter", "foreach_statement")]
        return frozenset(_variable(each) for each in (*targets, *parameters))


def parse(text: bytes) -> Script:
    """The script, however wrong it may be."""
    return Script(_PARSER.parse(text).root_node)


def problems(text: bytes) -> list[str]:
    """What is wrong with the script, each with its line; nothing is good."""
    script = parse(text)
    found = [(node.start_point.row + 1, problem) for check in _CHECKS for node, problem in check(script)]
    return [f"{line}: {problem}" for line, problem in sorted(set(found))]


Problems = Iterator[tuple[Node, str]]


def _syntax(script: Script) -> Problems:
    for node in script.nodes:
        if node.is_error or node.is_missing:
            yield node, f"does not parse: {_text(node)[:60]!r}"
        elif node.is_named and node.type.lower() not in _SYNTAX:
            yield node, f"syntax {node.type}"


def _tokens(script: Script) -> Problems:
    """Keywords and operators."""
    for node in script.nodes:
        token = node.type.lower()
        known = _TOKENS | {*LISTS["switch_parameters"]} if _parent(node) == "switch_parameter" else _TOKENS
        if not node.is_named and token not in known and not _is_name(node):
            yield node, f"operator or keyword {token}"


def _is_name(node: Node) -> bool:
    """Some variables' names are tokens of their own."""
    return _parent(node) == "variable"


def _commands(script: Script) -> Problems:
    for node in script.of("command"):
        name = _command(node)
        if _operator(node):
            if _operator(node) != "&" or name not in LISTS["run"]:
                yield node, f"runs {name}"
        elif name.lower() in _COMMANDS:
            yield from _arguments_of_cmdlet(node, name)
        elif name.lower() in script.functions:
            yield from _arguments_of_function(script, node, name)
        else:
            yield node, f"command {name}"


def _arguments_of_cmdlet(command: Node, name: str) -> Problems:
    """Every one named in full."""
    before = None
    for element in _elements(command):
        if element.type == "command_parameter":
            if _parameter(element) not in _COMMANDS[name.lower()]:
                yield element, f"parameter {_text(element)} of {name}"
        elif before is None or before.type != "command_parameter":
            yield element, f"argument of {name} without its parameter: {_text(element)[:40]}"
        else:
            yield from _value_of_parameter(before, element)
        before = element


def _value_of_parameter(parameter: Node, value: Node) -> Problems:
    text = _text(value)
    match _parameter(parameter):
        case "typename" if text.lower() not in _TYPES:
            yield value, f"type {text}"
        case "comobject" if text.strip("'") not in LISTS["com_objects"]:
            yield value, f"COM object {text}"
        case "name" if _command(_ancestor(value, "command")).lower() == "invoke-wmimethod":
            if text.strip("'") not in LISTS["methods_of_wmi"]:
                yield value, f"WMI method {text}"


def _arguments_of_function(script: Script, command: Node, name: str) -> Problems:
    for element in _elements(command):
        if element.type == "command_parameter" and _parameter(element) not in script.functions[name.lower()]:
            yield element, f"parameter {_text(element)} of {name}"


def _types(script: Script) -> Problems:
    for node in script.of("type_literal"):
        if _type(node) not in _TYPES:
            yield node, f"type {_text(node)}"


def _members(script: Script) -> Problems:
    for node in script.of("member_access", "invokation_expression"):
        target, operator, member = node.children[0], node.children[1].type, node.children[2]
        static = operator == "::"
        name = _text(member).lower()
        listed = _STATIC.get((_type(target), name), set()) if static else _MEMBERS.get(name, set())
        if _count(node) not in listed:
            yield node, f"member {operator}{_text(member)}, {_count(node)}"


def _count(node: Node) -> int | str:
    """How many arguments a call has; what is not called is a property."""
    if node.type == "member_access":
        return "property"
    given = [each for each in node.children[3].named_children if each.type == "argument_expression_list"]
    return len(given[0].named_children) if given else 0


def _variables(script: Script) -> Problems:
    for node in script.of("variable"):
        name = _variable(node)
        if name not in _AUTOMATIC | script.assigned:
            yield node, f"variable {_text(node)}, which nothing gives a value"
        elif name == "_" and not (_in(node, "catch_clause") or _in_sort_expression(node)):
            yield node, "$_ outside of catch and of Sort-Object's expressions"
        elif name == "matches" and not (_in_block_of_match(node) or _behind_guard(node)):
            yield node, "$matches where there may be none, or those of an earlier match"


def _in_sort_expression(node: Node) -> bool:
    entry = _ancestor(node, "hash_entry")
    return _text(_ancestor(node, "command")).lower().startswith("sort-object ") and _text(entry).startswith(
        "Expression"
    )


def _in_block_of_match(node: Node) -> bool:
    """In the block of an if with -match."""
    statement = _ancestor(node, "if_statement")
    within = [child for child in statement.children if child.start_byte <= node.start_byte < child.end_byte]
    return _asks_match(statement, negated=False) and [each.type for each in within] == ["statement_block"]


def _behind_guard(node: Node) -> bool:
    """Behind ``if (-not (... -match ...)) { return }`` of the same function."""
    body = _child(_ancestor(node, "function_statement"), "script_block") if _in(node, "function_statement") else node
    return any(
        statement.end_byte <= node.start_byte
        and _asks_match(statement, negated=True)
        and [_text(each) for each in statement.children if each.type == "statement_block"] == ["{ return }"]
        for statement in _below(body)
        if statement.type == "if_statement" and statement.parent == _first_list(body)
    )


def _first_list(body: Node) -> Node | None:
    """The statements of a function's body."""
    return next((each for each in _below(body) if each.type == "statement_list"), None)


def _asks_match(statement: Node, *, negated: bool) -> bool:
    asked = [each.type for child in statement.children if child.type == "pipeline" for each in _below(child)]
    return bool({"-match", "-cmatch", "-imatch"} & {*asked}) and ("-not" in asked) is negated


def _loops(script: Script) -> Problems:
    """Over $null, 2.0 runs a loop once."""
    for node in script.of("foreach_statement"):
        iterated = _innermost(node.children[node.children.index(_child(node, "in")) + 1])
        if (
            iterated.type not in {"array_expression", "array_literal_expression"}
            and _text(iterated) not in LISTS["iterated"]
        ):
            yield iterated, f"foreach over {_text(iterated)[:60]}"


def _lengths(script: Script) -> Problems:
    """One object and $null have neither .Count nor .Length in 2.0."""
    for node in script.of("member_access"):
        target = node.children[0]
        if _text(node.children[2]).lower() not in {"count", "length"}:
            continue
        if target.type != "array_expression" and _text(target) not in LISTS["lengths_of"]:
            yield node, f"{_text(node)} may be there or not"


def _numbers(script: Script) -> Problems:
    for node in script.of("generic_token", "command_name", "integer_literal", "real_literal"):
        if _SUFFIX.fullmatch(_text(node)):
            yield node, f"number {_text(node)}"


_CHECKS: Final[tuple[Callable[[Script], Problems], ...]] = (
    _syntax,
    _tokens,
    _commands,
    _types,
    _members,
    _variables,
    _loops,
    _lengths,
    _numbers,
)


def _below(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _below(child)


def _text(node: Node | None) -> str:
    return "" if node is None or node.text is None else node.text.decode("utf-8", "replace")


def _child(node: Node, kind: str) -> Node:
    return next(each for each in node.children if each.type == kind)


def _parent(node: Node) -> str:
    return node.parent.type if node.parent else ""


def _ancestor(node: Node, kind: str) -> Node:
    """The nearest of that kind that it is part of, or the whole script."""
    while node.type != kind and node.parent:
        node = node.parent
    return node


def _in(node: Node, kind: str) -> bool:
    return _ancestor(node, kind).type == kind


def _innermost(node: Node) -> Node:
    """What an expression is in which no operator does anything."""
    while node.type != "array_expression" and node.child_count == 1:
        node = node.children[0]
    return node


def _variable(node: Node) -> str:
    """Its name, in lower case, without a dollar sign and braces."""
    return _text(node).lstrip("$").strip("{}").lower()


def _assigned_by(left: Node) -> list[Node]:
    """The variables of ``$a, $b = ...``; what stands deeper, as in ``$a[$b] = ...``, is only read."""
    inner = _innermost(left)
    each = inner.children if inner.type == "array_literal_expression" else [inner]
    return [node for node in map(_uncast, each) if node.type == "variable"]


def _uncast(node: Node) -> Node:
    inner = _innermost(node)
    return _innermost(inner.children[-1]) if inner.type == "cast_expression" else inner


def _type(node: Node) -> str:
    """In lower case, without brackets: what an array is of."""
    return _text(node).lower().strip("[]")


def _command(node: Node) -> str:
    found = [each for each in node.children if each.type in {"command_name", "command_name_expr"}]
    return _text(found[0]) if found else ""


def _operator(node: Node) -> str:
    return "".join(_text(each) for each in node.children if each.type == "command_invokation_operator")


def _elements(command: Node) -> list[Node]:
    """Parameters and arguments."""
    found = [each for each in command.children if each.type == "command_elements"]
    return [each for each in found[0].named_children if each.type != "command_argument_sep"] if found else []


def _parameter(node: Node) -> str:
    return _text(node).lstrip("-").rstrip(":").lower()
