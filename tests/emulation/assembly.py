"""Assembly of the kernels' parts for processors that this machine does not have."""

import re
from collections.abc import Callable
from typing import Any

from llvmlite import binding as llvm
from numba import types
from numba.core.compiler import Flags, compile_extra
from numba.core.registry import cpu_target

from elman.kernels.codegen.linking import InnerCompiler


def assembly(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    triple: str,
    processor: str,
) -> str:
    """Assembly of a function without a result, for arguments of these Numba types."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=processor, opt=3)
    code = unoptimized(function, arguments)
    code = re.sub(r"target triple = .*", f'target triple = "{triple}"', code)
    code = re.sub(r"target datalayout = .*", f'target datalayout = "{machine.target_data}"', code)
    module = llvm.parse_assembly(code)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    return str(machine.emit_assembly(module))


def unoptimized(function: Callable[..., None], arguments: tuple[Any, ...]) -> str:
    """LLVM code of a function, before any pass."""
    flags = Flags()
    flags.no_cfunc_wrapper = flags.no_cpython_wrapper = True
    typing, target = cpu_target.typing_context, cpu_target.target_context
    compiled = compile_extra(
        typing, target, function, arguments, types.none, flags, {}, pipeline_class=InnerCompiler
    )
    return str(compiled.library._final_module)


def loops(code: str) -> list[list[str]]:
    """Instructions of each loop without inner loops."""
    lines = [re.split(r"\s*(?://|#)", line)[0].strip() for line in code.splitlines()]
    starts = {line[:-1]: n for n, line in enumerate(lines) if re.fullmatch(r"\.LBB\w+:", line)}
    found = []
    for n, line in enumerate(lines):
        target = re.match(r"(?:b\.\w+|cbn?z.*,|j\w+)\s+(\.LBB\w+)$", line)
        if target and starts.get(target[1], n) < n:
            body = lines[starts[target[1]] + 1 : n + 1]
            found.append([one for one in body if one and not one.startswith(".")])
    return found
