"""What the TensorRT engine asks of TensorRT, compared with the real bindings of all that it is meant for."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from inspectd.engine.tensorrt import api as tensorrt
from tests.engine.bindings import (
    REFUSAL,
    RELEASES,
    MissingError,
    Reading,
    Surface,
    fetch,
    places,
    signatures,
    stubs,
    title,
)

SOURCE = Path(tensorrt.__file__).read_text()
RTX = "tensorrt_rtx"


class Binding(NamedTuple):
    """One set of bindings, to be loaded by other processes."""

    module: str
    environment: dict[str, str]
    surface: Surface

    @property
    def rtx(self) -> bool:
        return self.module == RTX

    @property
    def version(self) -> str:
        return self.surface[""]["__version__"]["text"]


def ask(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run([sys.executable, "-P", *command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return stubs(tmp_path_factory.mktemp("stubs"))
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=[*RELEASES, RTX], ids=title)
def binding(request: pytest.FixtureRequest) -> Binding:
    environment, module = dict(os.environ), RTX
    if request.param == RTX:
        if importlib.util.find_spec(RTX) is None:
            pytest.skip("TensorRT-RTX is not installed")
    else:
        try:
            folder = fetch(request.param)
        except MissingError as error:
            pytest.skip(str(error))
        module = "tensorrt_bindings"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        environment["LD_LIBRARY_PATH"] = str(request.getfixturevalue("stub_folder"))
    script = Path(__file__).parents[1] / "bindings.py"
    return Binding(module, environment, json.loads(ask(environment, str(script), module)))


LIBRARY = """
import importlib, json, sys
sys.modules["tensorrt"] = {module}
from inspectd.engine.tensorrt import api as tensorrt
library = tensorrt.library()
trt = library.module
"""
FACTS = """
heard, told = [], []
logger = tensorrt._logger(library, heard)
for severity in trt.ILogger.Severity.__members__.values():
    logger.log(severity, severity.name)
monitor = tensorrt._monitor(library, lambda *step: told.append(step))
monitor.phase_start("tactics", None, 7)
monitor.phase_start("kernels", "tactics", 3)
going_on = monitor.step_complete("kernels", 0) and monitor.step_complete("tactics", 6)
monitor.phase_finish("kernels")
monitor.phase_finish("tactics")
monitor.phase_finish("never begun")
print(json.dumps({
    "library": [library.name, library.version, library.rtx],
    "targets": tensorrt.targets(library),
    "flags": 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
    "dtypes equal": {trt.DataType.UINT8} == {trt.DataType.UINT8} != {trt.DataType.INT8},
    "shape": tuple(trt.Dims((1, 4, 6, 3))),
    "heard": heard,
    "told": told,
    "going on": going_on,
}))
"""


def run(binding: Binding, code: str) -> Any:
    """The JSON on the last line that a process prints in which `library()` finds these bindings."""
    module = "None" if binding.rtx else f'importlib.import_module("{binding.module}")'
    return json.loads(ask(binding.environment, "-c", LIBRARY.format(module=module) + code).splitlines()[-1])


@pytest.fixture(scope="module")
def facts(binding: Binding) -> dict[str, Any]:
    """What the module does with these bindings without making an engine."""
    return run(binding, FACTS)


def test_all_that_is_used_is_there(binding: Binding) -> None:
    assert Reading(SOURCE, binding.surface, binding.rtx).problems == set()


def test_no_attribute_is_overlooked(binding: Binding) -> None:
    """Each one of the module is looked at, with RTX or without; whose they are is known, or it is a problem."""
    seen = set.union(*(Reading(SOURCE, binding.surface, rtx).seen for rtx in (False, True)))
    assert places(SOURCE) - seen == set()


@pytest.mark.parametrize("binding", [RELEASES[-1], RTX], ids=title, indirect=True)
def test_any_misspelling_would_be_found(binding: Binding) -> None:
    used = {use.rpartition(".")[2] for use in Reading(SOURCE, binding.surface, binding.rtx).uses}
    names = sorted(name for name in used if name[0] not in "_<")
    assert len(names) > 30
    for name in names:
        wrong, count = re.subn(rf"(\.|def ){name}\b", rf"\1{name}g", SOURCE)
        assert count, name
        assert any(f"{name}g" in problem for problem in Reading(wrong, binding.surface, binding.rtx).problems)


def test_what_it_uses_is_known(binding: Binding) -> None:
    """A few uses that are hard to see in the source: the reader is not blind to them."""
    uses = Reading(SOURCE, binding.surface, binding.rtx).uses
    assert uses >= {
        "__version__",
        "DataType.UINT8",
        "ExecutionContextAllocationStrategy.USER_MANAGED",
        "IBuilderConfig.progress_monitor",
        "ICudaEngine.name",
        "IExecutionContext.execute_async_v3",
        "IHostMemory.<buffer>",
        "ILogger.Severity.INTERNAL_ERROR",
        "IProgressMonitor.step_complete",
        "ITensor.shape",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "ParserError.desc",
    }
    only_rtx = {"IRuntimeCache.serialize", "IRuntimeConfig.set_runtime_cache", "Runtime.get_engine_validity"}
    assert uses & only_rtx == (only_rtx if binding.rtx else set())


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("Builder.build_serialized_network", ["network", "config"]),
        ("ICudaEngine.create_execution_context", ["strategy"]),
        ("IExecutionContext.execute_async_v3", ["stream_handle"]),
        ("IExecutionContext.set_device_memory", ["memory", "size"]),
        ("IExecutionContext.set_tensor_address", ["name", "memory"]),
        ("ILogger.log", ["severity", "msg"]),
        ("IProgressMonitor.phase_start", ["phase_name", "parent_phase", "num_steps"]),
        ("IProgressMonitor.step_complete", ["phase_name", "step"]),
        ("OnnxParser.__init__", ["network", "logger"]),
    ],
)
def test_the_order_of_arguments_is_as_we_give_them(binding: Binding, method: str, names: list[str]) -> None:
    owner, _, name = method.partition(".")
    assert names in [found.names for found in signatures(name, binding.surface[owner][name]["doc"])]


@pytest.mark.parametrize("binding", [RTX], indirect=True)
def test_the_order_of_arguments_for_rtx(binding: Binding) -> None:
    engine, config = binding.surface["ICudaEngine"], binding.surface["IBuilderConfig"]
    found = signatures("create_execution_context", engine["create_execution_context"]["doc"])
    assert [signature.names for signature in found] == [["strategy"], ["runtime_config"]]
    (signature,) = signatures("set_compute_capability", config["set_compute_capability"]["doc"])
    assert (signature.names, signature.result) == (["compute_capability", "index"], "bool")


def test_the_library_is_found_and_told_apart(binding: Binding, facts: dict[str, Any]) -> None:
    name = "TensorRT-RTX" if binding.rtx else "TensorRT"
    assert facts["library"] == [name, binding.version, binding.rtx]
    assert bool(facts["targets"]) == binding.rtx


def test_values_are_of_the_types_that_we_need(facts: dict[str, Any]) -> None:
    assert facts["flags"] > 0
    assert facts["dtypes equal"]
    assert facts["shape"] == [1, 4, 6, 3]


def test_errors_are_heard_and_nothing_else(facts: dict[str, Any]) -> None:
    assert facts["heard"] == ["INTERNAL_ERROR", "ERROR"]


def test_steps_are_told_with_their_phase(facts: dict[str, Any]) -> None:
    assert facts["told"] == [["kernels", 1, 3], ["tactics", 7, 7]]
    assert facts["going on"]


@pytest.mark.parametrize("binding", RELEASES, ids=title, indirect=True)
@pytest.mark.parametrize(
    "call",
    [
        'build(library, b"", "graph", shape, "sm86", print)',
        'TensorRtNetwork(library, b"", "graph", shape, Results((1, 2, 2)), b"", print)',
    ],
    ids=["builder", "runtime"],
)
def test_a_refusal_by_tensorrt_is_an_error_in_its_own_words(binding: Binding, call: str) -> None:
    """As where there is no driver, or an old one."""
    code = f"""
from inspectd.runtime.slots import Shape
from inspectd.engine.backend import ScoreLayout as Results
shape = Shape(8, 8, 1)
try:
    tensorrt.{call}
except tensorrt.PlanError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    assert run(binding, code) == ["PlanError", REFUSAL]


# The reader itself, on a made-up library that writes its docstrings as pybind11 does.

MADE_UP = '''
class Flag:
    __members__ = {}
    def __int__(self): ...
Flag.FAST = Flag()

class Config:
    def set_flag(self, flag): "set_flag(self: tensorrt_x.Config, flag: tensorrt_x.Flag) -> None"
    def set_pool(self, size, kind): "set_pool(self: tensorrt_x.Config, size: int, kind: str = 'a') -> bool"
    def guess(self): "It doesn't say what it gives."
    level = property(lambda self: None)
Config.level.fget.__doc__ = "(arg0: tensorrt_x.Config) -> int"

class Builder:
    def __init__(self, monitor): "__init__(self: tensorrt_x.Builder, monitor: tensorrt_x.Monitor) -> None"
    def config(self): """config(*args, **kwargs)
Overloaded function.

1. config(self: tensorrt_x.Builder) -> x::v1::IConfig

2. config(self: tensorrt_x.Builder, flag: tensorrt_x.Flag) -> x::v1::IConfig
"""

class Monitor:
    def step(self, number): "step(self: tensorrt_x.Monitor, number: int) -> bool"
'''


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Surface:
    folder = tmp_path_factory.mktemp("made_up")
    (folder / "tensorrt_x.py").write_text(MADE_UP)
    script = Path(__file__).parents[1] / "bindings.py"
    return json.loads(ask({**os.environ, "PYTHONPATH": str(folder)}, str(script), "tensorrt_x"))


START = """
from typing import Any
class Error(Exception):
    pass
class Library:
    module: Any
def monitor(library: Library):
    base = library.module.Monitor
    class Mine(base):
        def step(self, number: int): return True
    return Mine()
def build(library: Library, size: int):
    trt = library.module
    config = trt.Builder(monitor(library)).config()
"""


def problems(surface: Surface, line: str, rtx: bool = False, start: str = START) -> set[str]:
    """What is wrong with one more line in the function `build`."""
    found = Reading(start + f"    {line}\n", surface, rtx).problems
    return {problem.partition(": ")[2] for problem in found}


@pytest.mark.parametrize(
    "line",
    [
        "config.set_flag(trt.Flag.FAST)",
        "config.set_flag(flag=getattr(trt.Flag, size))",
        "config.set_pool(size); config.set_pool(size, kind='b')",
        "print(config.level, [name.lower() for name in trt.Flag.__members__])",
        "trt.Builder(monitor(library)).config(trt.Flag.FAST).set_pool(int(trt.Flag.FAST))",
        "x = trt if size else trt; x.Builder(monitor(library))",
        "pass\n    try: pass\n    except Error as error: error.with_traceback(None)",
        "_use(config, trt)\ndef _use(it: Any, of: Any): it.set_flag(of.Flag.FAST)",
    ],
)
def test_what_is_right_is_no_problem(made_up: Surface, line: str) -> None:
    assert problems(made_up, line) == set()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("config.set_flagg(trt.Flag.FAST)", "Config has no set_flagg"),
        ("config.set_flag(trt.Flag.FASTER)", "Flag has no FASTER"),
        ("trt.Bilder(None)", "the module has no Bilder"),
        ("getattr(config, 'levels')", "Config has no levels"),
        ("config.levels = size", "Config has no levels"),
        ("config.level = size", "Config.level can't be set"),
        ("config.set_flag(size)", "Config.set_flag does not take config.set_flag(size)"),
        ("config.set_flag()", "Config.set_flag does not take config.set_flag()"),
        ("config.set_pool(size, 'a', 'b')", "Config.set_pool does not take config.set_pool(size, 'a', 'b')"),
        ("config.set_pool(size, sort='a')", "Config.set_pool does not take config.set_pool(size, sort='a')"),
        ("config.set_pool(config)", "Config.set_pool does not take config.set_pool(config)"),
        ("bytes(config)", "bytes() does not take a Config: it has no <buffer>"),
        ("config.guess().go()", "what is Config.guess(), of which it wants go?"),
        ("[x.go() for x in (config, config)]", "what is (config, config), of which it wants go?"),
        ("trt.Flag.__members__.values()", "what is Flag.__members__, of which it wants values?"),
        ("strange.set_flag(trt.Flag.FAST)", "where does strange come from?"),
        ("_use(config)\ndef _use(it): it.set_flagg()", "Config has no set_flagg"),
        ("pass\ndef use(it: Any): it.set_flag()", "what is it, of which it wants set_flag?"),
        ("pass\n    try: pass\n    except trt.Config as e: e.args", "what is trt.Config, of which it wants args?"),
        ("pass\nimport tensorrt_x as other\nother.Bilder", "the module has no Bilder"),
        ("match config:\n        case _: pass", "a statement that can't be followed: match config:"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_can_not_be_followed_is_a_problem(made_up: Surface, line: str, problem: str) -> None:
    found = {text.partition("\n")[0] for text in problems(made_up, line)}
    assert problem in found


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("def step(", "def stepp(", "Monitor has no stepp to override"),
        ("number: int)", "number: int, of: int)", "Monitor.step is not called with 2 arguments"),
        ("(base)", "(object)", "Builder.__init__ does not take trt.Builder(monitor(library))"),
    ],
)
def test_an_override_that_tensorrt_would_not_call_is_a_problem(
    made_up: Surface, old: str, new: str, problem: str
) -> None:
    assert problem in problems(made_up, "pass", start=START.replace(old, new))


def test_what_is_for_rtx_alone_is_asked_of_rtx_alone(made_up: Surface) -> None:
    line = "if library.rtx: config.only_rtx()\n    else: config.only_other()"
    assert problems(made_up, line, rtx=True) == {"Config has no only_rtx"}
    assert problems(made_up, line, rtx=False) == {"Config has no only_other"}
    line = "if not library.rtx: return []\n    config.only_rtx()"
    assert problems(made_up, line, rtx=True) == {"Config has no only_rtx"}
    assert problems(made_up, line, rtx=False) == set()


def test_the_source_can_be_followed_without_any_bindings() -> None:
    """Also where nothing could be downloaded: no statement that the reader does not know."""
    found = Reading(SOURCE, {}, True).problems | Reading(SOURCE, {}, False).problems
    assert not [problem for problem in found if "followed" in problem or "come from" in problem]
