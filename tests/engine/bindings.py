"""The real TensorRT bindings without TensorRT: fetched once, loaded on stub libraries, listed, and compared with
what a source text does with them.

Run as a script it prints the surface of a module as JSON: `python bindings.py tensorrt_rtx`.
"""

import ast
import builtins
import ctypes
import importlib
import inspect
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

RELEASES = [text.strip() for text in Path(__file__).with_suffix(".txt").read_text().split("\n\n")[1:]]
"""Each a requirements text for one set of wheels."""
REFUSING = "createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL"
SILENT = [
    "createInferRefitter_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
]
LIBRARIES = "nvinfer", "nvonnxparser", "nvinfer_plugin"
LOG_SLOTS = {10: 0, 11: 4}
"""By TensorRT's major version: where ILogger::log stands in the table of its virtual functions."""
REFUSAL = "no driver in sight"
STUB = (
    # What TensorRT does where there is no driver: it says so and gives nothing.
    "typedef void (*log_t)(void *logger, int severity, const char *text);\n"
    + "".join(
        f'void *{name}(void *logger) {{ (*(log_t **)logger)[LOG_SLOT](logger, 1, "{REFUSAL}"); return 0; }}\n'
        for name in REFUSING
    )
    + "".join(f"void *{name}(void) {{ return 0; }}\n" for name in SILENT)
)
Surface = dict[str, dict[str, dict[str, Any]]]
"""By class, "" for the module, and by member: its kind and what is known of its type."""


class MissingError(Exception):
    """The bindings can't be had here; `str()` says why."""


def title(release: str) -> str:
    """As tensorrt-cu12-bindings==10.3.0."""
    return release.split()[0]


@cache
def fetch(release: str) -> Path:
    """The folder with the unpacked wheel, downloaded the first time; raises MissingError."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inspectd/bindings"
    folder = home / f"{title(release).replace('==', '-')}-cp{sys.version_info.major}{sys.version_info.minor}"
    if folder.is_dir():
        return folder
    if _failed:
        raise MissingError(_failed[0])
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(f"{home} can't be made: {error.strerror}") from None
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        wheel = _download(release, Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # by another test run
                raise
    return folder


_failed: list[str] = []
"""Why the first download failed: without a network each would take its time to do so."""


def _download(release: str, folder: Path) -> Path:
    (folder / "wanted.txt").write_text(release)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--retries", "1", "--timeout", "10"]
    command += ["--dest", str(folder), "--requirement", str(folder / "wanted.txt")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        _failed.append(f"{title(release)} is not downloaded within a minute")
        raise MissingError(_failed[-1]) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    assert "DO NOT MATCH THE HASHES" not in done.stderr, done.stderr
    offline = "Retrying" in done.stderr
    said = ["no network"] if offline else done.stderr.strip().splitlines() or ["pip doesn't say why"]
    reason = f"{title(release)} can't be downloaded: {said[-1]}"
    if offline:
        _failed.append(reason)
    raise MissingError(reason)


def stubs(folder: Path) -> Path:
    """Libraries by the names of TensorRT's own that refuse whatever is asked of them; raises MissingError."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise MissingError("there is no C compiler for the stub libraries")
    source = folder / "stub.c"
    source.write_text(STUB)
    for major, library in itertools.product(LOG_SLOTS, LIBRARIES):
        name, slot = f"lib{library}.so.{major}", f"-DLOG_SLOT={LOG_SLOTS[major]}"
        command = [
            compiler,
            "-shared",
            "-fPIC",
            slot,
            f"-Wl,-soname,{name}",
            "-o",
            str(folder / name),
            str(source),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise MissingError(f"the stub libraries can't be built: {done.stderr.strip().splitlines()[-1]}")
    return folder


def surface(module: ModuleType) -> Surface:
    """Everything that the module and its classes have."""
    found: Surface = {}
    waiting: list[tuple[str, Any]] = [("", module)]
    while waiting:
        name, owner = waiting.pop()
        found[name] = {member: _member(inspect.getattr_static(owner, member)) for member in dir(owner)}
        if isinstance(owner, type):
            if "__int__" in found[name] and "__members__" in found[name]:
                found[name]["<enum>"] = {"kind": "mark"}
            if _has_buffer(owner):
                found[name]["<buffer>"] = {"kind": "mark"}
        inner = [inspect.getattr_static(owner, member) for member in dir(owner)]
        waiting += [(c.__qualname__, c) for c in inner if _is_ours(c) and c.__qualname__ not in found]
    return found


def _is_ours(value: object) -> bool:
    return isinstance(value, type) and value.__module__.startswith("tensorrt")


def _member(value: Any) -> dict[str, Any]:
    if isinstance(value, property):
        return {"kind": "property", "doc": value.fget.__doc__ or "", "writable": value.fset is not None}
    if _is_ours(value):
        return {"kind": "class", "type": value.__qualname__}
    if _is_ours(type(value)):
        return {"kind": "object", "type": type(value).__qualname__}
    if callable(value):
        return {"kind": "method", "doc": value.__doc__ or ""}
    return {"kind": "value", "text": str(value)}


def _has_buffer(cls: type) -> bool:
    """Whether bytes() takes an object of it; never one that has been made properly."""
    try:
        return bool(ctypes.pythonapi.PyObject_CheckBuffer(ctypes.py_object(cls.__new__(cls))))
    except TypeError:
        return False


class Signature:
    """One line of what pybind11 writes into docstrings."""

    def __init__(self, names: list[str], types: list[str], required: int, result: str) -> None:
        self.names, self.types, self.required, self.result = names, types, required, result


def signatures(name: str, doc: str) -> list[Signature]:
    """Those in a docstring, without `self`; none: the docstring doesn't say."""
    found = []
    for inside, result in re.findall(rf"^(?:\d+\. )?(?:{re.escape(name)})?\((.*)\) -> (.+)$", doc, re.MULTILINE):
        parts = [part for part in _split(inside) if part][1:]
        names, types = [part.partition(":")[0] for part in parts], [part.partition(":")[2] for part in parts]
        required = sum(" = " not in part for part in parts)
        found.append(Signature(names, [t.partition(" = ")[0].strip() for t in types], required, result.strip()))
    return found


def _split(inside: str) -> list[str]:
    """At the commas that are in no bracket."""
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


class Thing(NamedTuple):
    """What an expression is: of the bindings, or on the way to them."""

    kind: str
    """module, class, object, method, members (of an enum): of the bindings. lost: likewise, but nobody knows what.
    library: the NamedTuple around the module. function, made, instance: a def, a class, its object in the text."""
    name: str
    member: str = ""


Things = frozenset[Thing]
PLAIN: Things = frozenset()
"""Nothing of the bindings."""
MODULE, LIBRARY = frozenset({Thing("module", "")}), frozenset({Thing("library", "")})
CONVERSIONS = {"bool", "bytes", "float", "hasattr", "int", "isinstance", "len", "range", "str", "tuple"}
NEEDED = {"bytes": ("<buffer>",), "int": ("__int__",), "len": ("__len__",), "tuple": ("__len__", "__getitem__")}
"""By these builtins of an object."""
PLAIN_TYPES = {"None", "bool", "bytes", "float", "int", "str"}
Scope = dict[str, Things]


class Reading:
    """Follows a source text in the order in which it would run, with or without RTX; notes what it asks of the
    bindings that they don't have, and whatever it can't follow.
    """

    def __init__(self, source: str, surface: Surface, rtx: bool) -> None:
        self.surface, self.rtx = surface, rtx
        self.uses: set[str] = set()
        self.problems: set[str] = set()
        self.seen: set[tuple[int, int]] = set()
        self._defs: dict[str, tuple[Any, Scope]] = {}
        self._attributes: dict[str, Scope] = {}
        self._running: list[str] = []
        for _ in range(2):  # the second time it is known what the methods below have set
            self._scope: Scope = {}
            tree = ast.parse(source)
            self._block(tree.body, self._scope)
            for node in tree.body:
                self._root(node)

    def _root(self, node: ast.stmt) -> None:
        """What others may call: anything without an underscore, with arguments of which only the type is known."""
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            self._run(_key(node), [], {})
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and (inner.name[0] != "_" or inner.name[:2] == "__"):
                    self._run(_key(inner), [self._self(node)], {})

    def _self(self, node: ast.ClassDef) -> Things:
        return LIBRARY if node.name == "Library" else frozenset({Thing("instance", _key(node))})

    def _problem(self, node: ast.AST, text: str) -> None:
        self.problems.add(f"line {getattr(node, 'lineno', 0)}: {text}")

    # statements; each returns whether nothing behind it runs

    def _block(self, body: list[ast.stmt], scope: Scope) -> bool:
        return any(self._statement(node, scope) for node in body)

    def _statement(self, node: ast.stmt, scope: Scope) -> bool:
        match node:
            case ast.FunctionDef():
                for part in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
                    self.read(part, scope)
                self._defs[_key(node)] = node, scope
                scope[node.name] = frozenset({Thing("function", _key(node))})
            case ast.ClassDef():
                self._class(node, scope)
            case ast.Assign():
                for target in node.targets:
                    self._assign(target, node.value, scope)
            case ast.AnnAssign():
                if node.value is not None:
                    self._assign(node.target, node.value, scope)
            case ast.Return():
                if node.value is not None:
                    scope["<return>"] = scope.get("<return>", PLAIN) | self.read(node.value, scope)
                return True
            case ast.Raise():
                self._parts(node, scope)
                return True
            case ast.If():
                return self._if(node, scope)
            case ast.For():
                self._set(node.target, self._each(node.iter, scope), scope)
                self._either([node.body, node.orelse], scope)
            case ast.Try():
                for handler in node.handlers:
                    caught = self.read(handler.type, scope) if handler.type is not None else PLAIN
                    scope[handler.name or ""] = self._lost(
                        handler.type or node, caught - {t for t in caught if t.kind == "made"}
                    )
                ended = self._either([[*node.body, *node.orelse], *(h.body for h in node.handlers)], scope)
                return self._block(node.finalbody, scope) or ended
            case ast.While() | ast.With():
                self._parts(node, scope)
                self._either([node.body], scope)
            case ast.Import():
                for alias in node.names:
                    ours = alias.name.startswith("tensorrt")
                    scope[alias.asname or alias.name.partition(".")[0]] = MODULE if ours else PLAIN
            case ast.ImportFrom() if not (node.module or "").startswith("tensorrt"):
                scope.update((alias.asname or alias.name, PLAIN) for alias in node.names)
            case ast.Expr() | ast.Assert() | ast.Pass() | ast.Global() | ast.Nonlocal():
                self._parts(node, scope)
            case ast.Continue() | ast.Break():
                return True
            case _:
                self._problem(node, f"a statement that can't be followed: {ast.unparse(node)}")
        return False

    def _parts(self, node: ast.stmt, scope: Scope) -> None:
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.expr):
                self.read(part, scope)
            elif isinstance(part, ast.withitem):
                value = self._lost(part.context_expr, self.read(part.context_expr, scope))
                if part.optional_vars is not None:
                    self._set(part.optional_vars, value, scope)

    def _if(self, node: ast.If, scope: Scope) -> bool:
        match node.test:
            case ast.Attribute(attr="rtx"):
                known = self.rtx
            case ast.UnaryOp(op=ast.Not(), operand=ast.Attribute(attr="rtx")):
                known = not self.rtx
            case _:
                known = None
        self.read(node.test, scope)
        if known is None:
            return self._either([node.body, node.orelse], scope)
        return self._block(node.body if known else node.orelse, scope)

    def _either(self, blocks: list[list[ast.stmt]], scope: Scope) -> bool:
        """Any of them may run; a name is whatever one of them made of it."""
        after, ended = [], []
        for block in blocks:
            copy = scope.copy()
            ended.append(self._block(block, copy))
            after.append(copy)
        for name in {name for copy in after for name in copy}:
            scope[name] = PLAIN.union(*(copy.get(name, PLAIN) for copy in after))
        return all(ended)

    def _assign(self, target: ast.expr, value: ast.expr, scope: Scope) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            values = [self.read(part, scope) for part in value.elts]
            for part, things in zip(target.elts, values, strict=True):
                self._set(part, things, scope)
        else:
            self._set(target, self.read(value, scope), scope)

    def _set(self, target: ast.expr, things: Things, scope: Scope) -> None:
        match target:
            case ast.Name():
                scope[target.id] = things
            case ast.Tuple() | ast.List():
                for part in target.elts:
                    self._set(part, self._lost(target, things), scope)
            case ast.Attribute():
                self.seen.add(place(target))
                for owner in self.read(target.value, scope):
                    if owner.kind == "instance":
                        known = self._attributes.setdefault(owner.name, {})
                        known[target.attr] = known.get(target.attr, PLAIN) | things
                    else:
                        self._member(target, owner, target.attr, stored=True)
            case _:
                self._parts(ast.Expr(target), scope)

    def _class(self, node: ast.ClassDef, scope: Scope) -> None:
        self._defs[_key(node)] = node, scope
        scope[node.name] = frozenset({Thing("made", _key(node))})
        base, own = self._base(_key(node)), scope.copy()
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef):
                self._statement(inner, own)
                self._defs[_key(inner)] = inner, scope
                if base:
                    self._overriding(inner, base)
                    self._run(_key(inner), [self._self(node)], {})
            else:
                self._statement(inner, own)

    def _base(self, key: str) -> str:
        """The class of the bindings from which one in the text is derived."""
        node, scope = self._defs[key]
        bases = [thing for base in node.bases for thing in self.read(base, scope)]
        return next((thing.name for thing in bases if thing.kind == "class"), "")

    def _overriding(self, node: ast.FunctionDef, base: str) -> None:
        """What TensorRT calls must exist and take what it gives."""
        name = node.name
        if name.startswith("_"):
            return
        self.uses.add(f"{base}.{name}")
        member = self.surface.get(base, {}).get(name)
        if member is None:
            self._problem(node, f"{base} has no {name} to override")
            return
        taken = len(node.args.args) - 1
        if not any(len(s.names) == taken for s in signatures(name, member.get("doc", ""))):
            self._problem(node, f"{base}.{name} is not called with {taken} arguments")

    # expressions

    def read(self, node: ast.expr, scope: Scope) -> Things:
        """What an expression is."""
        match node:
            case ast.Name():
                if node.id not in scope | self._scope and not hasattr(builtins, node.id):
                    self._problem(node, f"where does {node.id} come from?")
                return scope.get(node.id, self._scope.get(node.id, PLAIN))
            case ast.Attribute():
                self.seen.add(place(node))
                owners = self.read(node.value, scope)
                return PLAIN.union(*(self._member(node, owner, node.attr) for owner in owners))
            case ast.Call():
                return self._call(node, scope)
            case ast.BoolOp() | ast.IfExp():
                parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
                return PLAIN.union(*(self.read(part, scope) for part in parts))
            case ast.Compare() | ast.JoinedStr() | ast.UnaryOp():
                self._children(node, scope)
                return PLAIN
            case ast.Lambda():
                inner = scope | {argument.arg: _annotated(argument) for argument in node.args.args}
                return self._lost(node, self.read(node.body, inner))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                inner = scope.copy()
                for part in node.generators:
                    self._set(part.target, self._each(part.iter, inner), inner)
                    for test in part.ifs:
                        self.read(test, inner)
                made = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                return self._lost(node, PLAIN.union(*(self.read(part, inner) for part in made)))
            case ast.NamedExpr():
                self._set(node.target, self.read(node.value, scope), scope)
                return self.read(node.target, scope)
            case _:
                return self._lost(node, self._children(node, scope))

    def _children(self, node: ast.AST, scope: Scope) -> Things:
        things = PLAIN
        for part in ast.iter_child_nodes(node):
            things |= self.read(part, scope) if isinstance(part, ast.expr) else self._children(part, scope)
        return things

    def _lost(self, node: ast.AST, things: Things) -> Things:
        """Something made of these in a way that is not followed."""
        return frozenset({Thing("lost", ast.unparse(node))}) if things else PLAIN

    def _each(self, node: ast.expr, scope: Scope) -> Things:
        """What comes when it is iterated; of the members of an enum their names."""
        return self._lost(node, frozenset(t for t in self.read(node, scope) if t.kind != "members"))

    def _member(self, node: ast.AST, owner: Thing, name: str, stored: bool = False) -> Things:
        match owner.kind:
            case "library":
                return MODULE if name == "module" else PLAIN
            case "instance" | "made":
                return self._own(node, owner, name)
            case "module" | "class" | "object":
                return self._look_up(node, owner.name, name, stored)
        self._problem(node, f"what is {owner.name}, of which it wants {name}?")
        return PLAIN

    def _own(self, node: ast.AST, owner: Thing, name: str) -> Things:
        """An attribute of a class in the text or its object: its own, or one from the bindings' class beneath."""
        known, (made, _) = self._attributes.get(owner.name, {}), self._defs[owner.name]
        for inner in made.body:
            if isinstance(inner, ast.FunctionDef) and inner.name == name:
                return frozenset({Thing("function", _key(inner), owner.name)})
        if name in known or not (base := self._base(owner.name)):
            return known.get(name, PLAIN)
        return self._look_up(node, base, name, stored=False)

    def _look_up(self, node: ast.AST, owner: str, name: str, stored: bool) -> Things:
        full = f"{owner}.{name}".lstrip(".")
        self.uses.add(full)
        member = self.surface.get(owner, {}).get(name)
        if member is None:
            self._problem(node, f"{owner or 'the module'} has no {name}")
            return PLAIN
        if stored and not member.get("writable", False):
            self._problem(node, f"{full} can't be set")
        match member["kind"]:
            case _ if name == "__members__":
                return frozenset({Thing("members", full)})
            case "class" | "object":
                return frozenset({Thing(member["kind"], member["type"])})
            case "method":
                return frozenset({Thing("method", owner, name)})
            case "property":
                return self._result(full, signatures("", member["doc"]))
        return PLAIN  # a value such as __version__

    def _result(self, full: str, found: list[Signature]) -> Things:
        """Of a method or property, by its docstring."""
        things = PLAIN
        for signature in found:
            if signature.result not in PLAIN_TYPES:
                cls = self._class_of(signature.result)
                things |= {Thing("object", cls) if cls else Thing("lost", full)}
        return things if found else frozenset({Thing("lost", full)})

    def _class_of(self, written: str) -> str:
        """As tensorrt.INetworkDefinition or nvonnxparser::IParserError; "" if it is no class of the bindings."""
        last = re.split(r"::|\.", written)[-1]
        for name in (written.partition(".")[2].partition(".")[2], last, last.removeprefix("I")):
            if name and name in self.surface:
                return name
        return ""

    def _call(self, node: ast.Call, scope: Scope) -> Things:
        given = [self.read(argument, scope) for argument in node.args]
        named = {keyword.arg or "**": self.read(keyword.value, scope) for keyword in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id not in scope | self._scope:
            return self._builtin(node, node.func.id, given)
        called, things = self.read(node.func, scope), PLAIN
        if ast.unparse(node.func) == "importlib.import_module":
            return MODULE
        for one in called:
            match one.kind:
                case "function":
                    bound = [frozenset({Thing("instance", one.member)})] if one.member else []
                    things |= self._run(one.name, bound + given, named)
                case "made":
                    things |= self._make(one, given, named)
                case "class":
                    self._fits(node, one.name, "__init__", given, named)
                    things |= {Thing("object", one.name)}
                case "method":
                    # of a class, as base.__init__(self): the object comes first
                    of_class = isinstance(node.func, ast.Attribute) and any(
                        owner.kind == "class" for owner in self.read(node.func.value, scope)
                    )
                    self._fits(node, one.name, one.member, given[1:] if of_class else given, named)
                    doc = self.surface[one.name][one.member]["doc"]
                    things |= self._result(f"{one.name}.{one.member}()", signatures(one.member, doc))
                case _:
                    things |= self._lost(node, called)
        return things or (PLAIN if called else self._lost(node, PLAIN.union(*given, *named.values())))

    def _builtin(self, node: ast.Call, name: str, given: list[Things]) -> Things:
        match name, node.args:
            case "getattr", [_, ast.Constant(value=str(member)), *_]:
                return PLAIN.union(*(self._member(node, owner, member) for owner in given[0]))
            case "getattr", [_, _, *_]:
                enums = {t for t in given[0] if t.kind == "class" and "<enum>" in self.surface.get(t.name, {})}
                return frozenset(Thing("object", t.name) for t in enums) or self._lost(node, given[0])
        if name not in CONVERSIONS:
            return self._lost(node, PLAIN.union(*given))
        for thing in given[0] if given else ():
            for needed in NEEDED.get(name, ()) if thing.kind == "object" else ():
                self.uses.add(f"{thing.name}.{needed}")
                if needed not in self.surface[thing.name]:
                    self._problem(node, f"{name}() does not take a {thing.name}: it has no {needed}")
        return PLAIN

    def _make(self, made: Thing, given: list[Things], named: Scope) -> Things:
        node, _ = self._defs[made.name]
        things = self._self(node)
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                self._run(_key(inner), [things, *given], named)
        return things

    def _run(self, key: str, given: list[Things], named: Scope) -> Things:
        """A function of the text, with these arguments."""
        node, around = self._defs[key]
        if key in self._running:
            return PLAIN
        scope = around | {"<return>": PLAIN}
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for position, parameter in enumerate(parameters):
            come = given[position] if position < len(given) else named.get(parameter.arg)
            scope[parameter.arg] = (come or PLAIN) | _annotated(parameter) if come is None else come
        self._running.append(key)
        self._block(node.body, scope)
        self._running.pop()
        return scope["<return>"]

    def _fits(self, node: ast.Call, owner: str, name: str, given: list[Things], named: Scope) -> None:
        """Whether a method of the bindings takes these arguments in one of its signatures."""
        found = signatures(name, self.surface.get(owner, {}).get(name, {}).get("doc", ""))
        if found and not any(self._takes(signature, given, named) for signature in found):
            self._problem(node, f"{owner}.{name} does not take {ast.unparse(node)}")

    def _takes(self, signature: Signature, given: list[Things], named: Scope) -> bool:
        known = dict(zip(signature.names, signature.types, strict=True))
        pairs = [*zip(signature.types, given, strict=False), *((known.get(n, ""), t) for n, t in named.items())]
        return (
            signature.required <= len(given) + len(named) <= len(known)
            and set(named) <= set(signature.names[len(given) :])
            and all(self._is_a(things, type_) for type_, things in pairs)
        )

    def _is_a(self, things: Things, wanted: str) -> bool:
        cls = self._class_of(wanted)
        names = {self._base(t.name) if t.kind == "instance" else t.name for t in things}
        if any(thing.kind == "lost" for thing in things):
            return True
        return names == {cls} if cls else not names or wanted not in PLAIN_TYPES


def places(source: str) -> set[tuple[int, int]]:
    """Of all attributes in a text, but for those in annotations."""
    tree = ast.parse(source)
    typed = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    inside = {inner for node in typed if node is not None for inner in ast.walk(node)}
    return {place(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node not in inside}


def place(node: ast.Attribute) -> tuple[int, int]:
    """Where its name ends."""
    return node.end_lineno or 0, node.end_col_offset or 0


def _key(node: ast.FunctionDef | ast.ClassDef) -> str:
    return f"{node.name}:{node.lineno}"


def _annotated(parameter: ast.arg) -> Things:
    """What a parameter is of which only its annotation is known."""
    written = ast.unparse(parameter.annotation) if parameter.annotation is not None else "Any"
    if written == "Library":
        return LIBRARY
    return frozenset({Thing("lost", parameter.arg)}) if re.search(r"\b(Any|object)\b", written) else PLAIN


if __name__ == "__main__":
    print(json.dumps(surface(importlib.import_module(sys.argv[1]))))
