"""Compiling kernels as a whole: the functions that a kernel calls are optimized once, inside it.

Numba compiles each function so that it can be called separately: LLVM optimizes it, generates
machine code, and repeats this for each function that calls it. Of a kernel's fifty functions, only
the kernel is called from outside. The other functions are `inner` functions: they remain
unoptimized until they are linked into the kernel.

About half of a kernel's compile time is Numba's (type inference and generating LLVM instructions),
and half is LLVM's. Both are proportional to the number of instructions. `tensors.py` and
`ranges.py` generate a third of Numba's usual number.

This module replaces non-public parts of Numba. If a version of Numba lacks one of `PARTS`, plain
Numba compiles the kernels. That takes longer.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any

import numba
from llvmlite import binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering
from numba.core.untyped_passes import IRProcessing

from elman.kernels.codegen.ranges import replace_ranges

# Methods and attributes of Numba's libraries that this module replaces or uses.
PARTS = (
    "_finalize_final_module",
    "_optimize_final_module",
    "_optimize_functions",
    "add_linking_library",
    "finalize",
    "get_pointer_to_function",
)


class InnerLibrary(JITCodeLibrary):
    """Code of a function that only compiled functions call: not optimized, no machine code."""

    @property
    def codegen(self) -> Any:
        """Code generator that sets no environments; only calls from Python read them."""
        codegen = copy(self._codegen)
        codegen.set_env = _ignore
        return codegen

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def add_linking_library(self, library: Any) -> None:
        """Add the library of a function that this one calls."""
        self._linking_libraries.append(library)

    def get_pointer_to_function(self, name: str) -> int:
        """Address of machine code: none exists."""
        return 0

    def module(self) -> Any:
        """Module of this function without callees. It may be linked more than once."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = llvm.Linkage.linkonce_odr
        return self._final_module


class KernelLibrary(JITCodeLibrary):
    """Code of a kernel and all functions that it calls, optimized once."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.inner: dict[InnerLibrary, None] = {}  # in the order of their first calls

    def add_linking_library(self, library: Any) -> None:
        """Add the library of a function that the kernel calls, and the libraries it depends on."""
        if not isinstance(library, InnerLibrary):
            super().add_linking_library(library)
        elif library not in self.inner:
            self.inner[library] = None
            for called in library._linking_libraries:
                self.add_linking_library(called)

    def finalize(self) -> None:
        """Link, optimize, and generate machine code."""
        for library in self.inner:
            self._final_module.link_in(library.module(), preserve=True)
        super().finalize()

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        # Level 3 and loop unrolling each take a fifth longer; the code is no faster.
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization, options.loop_unrolling = True, False
        builder = llvm.create_pass_builder(self._codegen._tm, options)
        builder.getModulePassManager().run(self._final_module, builder)


# Numba's passes for features that kernels do not use: variables that change their type, functions
# inlined before type inference, literals, branches on None, whole-array expressions, parallel
# loops, reference counts. They take a fifth of the time.
NEEDLESS = {
    "WithLifting",
    "InlineClosureLikes",
    "RewriteSemanticConstants",
    "DeadBranchPrune",
    "RewriteDynamicRaises",
    "MakeFunctionToJitFunction",
    "InlineInlinables",
    "FindLiterallyCalls",
    "LiteralUnroll",
    "LiteralPropagationSubPipelinePass",
    "InlineOverloads",
    "NopythonRewrites",
    "NoPythonSupportedFeatureValidation",
    "IRLegalization",
    "ReconstructSSA",
    "PreLowerStripPhis",
    "DumpParforDiagnostics",
}


class _Lower(Lower):
    """Lowering of functions without reference counts and debug information.

    Numba's own lowering clears variables, releases their old values, and asks LLVM for their sizes.
    """

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        """Allocate a variable."""
        with self.builder.goto_entry_block():
            return self.builder.alloca(lltype, name=name)

    def storevar(self, value: Any, name: str, argidx: Any = None) -> None:
        """Store a value in a variable."""
        self._alloca_var(name, self.typeof(name))
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))


@register_pass(mutates_CFG=False, analysis_only=False)
class _Processing(IRProcessing):
    """First pass over a function; it replaces ranges by ranges of few instructions."""

    _name = "elman_processing"

    def run_pass(self, state: Any) -> bool:
        """Run the pass."""
        changed = super().run_pass(state)
        replace_ranges(state.func_ir.blocks)
        return bool(changed)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Pass that lowers a function by `_Lower`."""

    _name = "elman_lowering"

    @property
    def lowering_class(self) -> Any:
        """Class that lowers a function."""
        return _Lower


OWN = {IRProcessing: _Processing, NativeLowering: _Lowering}


class FewPasses(Compiler):
    """Compiler without the passes that kernels do not need."""

    def define_pipelines(self) -> list[Any]:
        """Pipelines of passes."""
        (pipeline,) = super().define_pipelines()
        passes = [one for one in pipeline.passes if one[0].__name__ not in NEEDLESS]
        pipeline.passes = [(OWN.get(one, one), description) for one, description in passes]
        pipeline.finalize()
        return [pipeline]


class InnerCompiler(FewPasses):
    """Compiler of inner functions."""

    def __init__(self, typing: Any, target: Any, library: Any, *arguments: Any) -> None:
        library = library or InnerLibrary(target.codegen(), "inner")
        super().__init__(typing, target, library, *arguments)


class KernelCompiler(FewPasses):
    """Compiler of kernels."""

    def compile_extra(self, function: Any) -> Any:
        """Compile a Python function."""
        codegen = self.state.targetctx.codegen()
        self.state.library = KernelLibrary(codegen, function.__qualname__)
        self.state.library.enable_object_caching()
        with _no_collection():
            return super().compile_extra(function)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause garbage collection: it takes a fifth of the time and finds little."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _supported() -> bool:
    """Return True if this version of Numba has the parts that this module replaces and uses."""
    return {*PARTS} <= {*dir(JITCodeLibrary)}


# Options of all compiled functions. Threads that count references to the same arrays would wait for
# each other. Without reference counts, functions cannot allocate arrays. All options are named:
# otherwise a function would be compiled once for each set of options of its callers.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
    "no_cfunc_wrapper": True,
    "forceinline": False,
}
KERNEL, INNER = OPTIONS, OPTIONS
if _supported():
    KERNEL = OPTIONS | {"pipeline_class": KernelCompiler}
    INNER = OPTIONS | {"pipeline_class": InnerCompiler, "no_cpython_wrapper": True}

# Options of functions that LLVM must inline. LLVM's own decision depends on the caller's size, and
# a call at every step costs a few percent.
INLINED: dict[str, Any] = {"forceinline": True}


def inner(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorate a function to be called by compiled functions; options are Numba's.

    A call from Python raises a TypeError.
    """
    if function is None:
        return partial(inner, **options)
    dispatcher = numba.njit(**INNER | options)(function)
    if INNER is not OPTIONS:
        # Python calls the address that `_insert` receives; inner functions have no address.
        dispatcher._insert = _ignore
        dispatcher._compile_for_args = _refuse
        dispatcher.get_call_template = partial(_call_template, dispatcher)
    return dispatcher


def _call_template(dispatcher: Any, arguments: Any, keywords: Any) -> Any:
    """Template of a call, the same for a literal as for any number of its type."""
    numbers = tuple(map(numba.types.unliteral, arguments))
    return type(dispatcher).get_call_template(dispatcher, numbers, keywords)


def _ignore(*arguments: Any) -> None:
    """Do nothing."""


def _refuse(*arguments: Any, **named: Any) -> None:
    raise TypeError("only compiled functions can call this function: it has no separate code")
