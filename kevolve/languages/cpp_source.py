"""What can be said of C++ text without a compiler: its tokens, its entry, and names that a kernel has no use for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<comment> //(?:\\\r?\n|[^\n])* | /\*.*?(?:\*/|\Z) )
  | (?P<string> (?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)" | (?:u8|[uUL])?"(?:\\.|[^"\\\n])*" )
  | (?P<char> (?:u8|[uUL])?'(?:\\.|[^'\\\n])+' )
  | (?P<directive> ^[ \t]*(?:\#|%:)(?:\\\r?\n|/\*.*?\*/|[^\n])* )
  | (?P<number> \.?\d(?:[eEpP][+-]|'?[\w.])* )
  | (?P<name> [A-Za-z_]\w* )
  | (?P<space> (?:\s|\\\r?\n)+ )
  | (?P<mark2> <<=|>>=|<=>|\.\.\.|->\*|::|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|. )
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_CONTINUED = re.compile(r"\\[ \t]*\r?\n")
Token = tuple[str, str]  # kind, text


def tokens(source: str) -> Iterator[Token]:
    """Kinds and texts, without comments and layout; lines that end in a backslash are joined."""
    for match in _TOKEN.finditer(_CONTINUED.sub("", source)):
        kind = match.lastgroup or ""
        kind = "string" if kind == "mark" else kind
        if kind not in ("comment", "space"):
            yield ("mark" if kind == "mark2" else kind), match.group()


def normalise(source: str) -> str:
    """The tokens, one a space; directives on lines of their own."""
    words = [" ".join(text.split()) if kind == "directive" else text for kind, text in tokens(source)]
    return " ".join(words)


_CLOSES = {")": "(", "]": "[", "}": "{"}


def parse_problem(source: str, entry: str) -> str | None:
    """Brackets that do not match, or an entry that is not exported; None where a compiler may be asked."""
    found = list(tokens(source))
    opened: list[str] = []
    for kind, text in found:
        if kind != "mark":
            continue
        if text in "([{":
            opened.append(text)
        elif text in _CLOSES and (not opened or opened.pop() != _CLOSES[text]):
            return f"brackets: {text!r} closes nothing"
    if opened:
        return f"brackets: {opened[-1]!r} is never closed"
    exported = exports(found)
    if entry not in exported:
        wanted = f"TVM_FFI_DLL_EXPORT_TYPED_FUNC({entry}, {entry});"
        return f"no entry: expected {wanted} got exports of {', '.join(sorted(exported)) or 'nothing'}"
    return None


def exports(found: list[Token]) -> set[str]:
    """The names that the text exports."""
    return {
        found[at + 2][1] for at, (_, text) in enumerate(found[:-2]) if text == "TVM_FFI_DLL_EXPORT_TYPED_FUNC" and found[at + 1][1] == "("
    }


_STANDARD = """
    algorithm any array atomic bit bitset cassert cctype cfenv cfloat charconv cinttypes climits cmath complex cstddef cstdint
    cstdio cstdlib cstring deque exception forward_list functional initializer_list iterator limits list map memory new numeric
    optional ostream queue random ratio set sstream stack stdexcept string string_view tuple type_traits typeinfo unordered_map
    unordered_set utility valarray variant vector assert.h float.h inttypes.h limits.h math.h stddef.h stdint.h stdlib.h string.h
    omp.h immintrin.h x86intrin.h arm_neon.h arm_sve.h
""".split()
_INCLUDE = re.compile(r"^[ \t]*#\s*include\s*<([^>]+)>\s*$")
_DIRECTIVES = re.compile(r"^\s*#\s*(?:define|undef|if|ifdef|ifndef|elif|else|endif|error|warning|pragma|include)\b|^\s*#\s*$")
_PRAGMA = re.compile(r"^\s*#\s*pragma\s+(once\b|omp\b|unroll\b|clang\s+loop\b|GCC\s+(?:unroll|ivdep|diagnostic)\b)")

ASSEMBLER = ("asm", "__asm", "__asm__")
# Names that a kernel has no use for, by what they are for.
_USES = {
    "raw assembler": " ".join(ASSEMBLER),
    "starting programs": """
        system popen fork vfork execv execve execvp execvpe execl execlp execle fexecve posix_spawn posix_spawnp
    """,
    "ending or signalling": "abort exit _exit _Exit quick_exit atexit at_quick_exit sigaction sigprocmask longjmp setjmp terminate",
    "looking up libraries": "dlopen dlsym dlvsym dlmopen dladdr dl_iterate_phdr",
    "sockets": "socket socketpair sendto sendmsg recvfrom recvmsg getaddrinfo",
    "files": """
        fopen fdopen freopen openat creat pread pwrite fread fwrite ifstream ofstream fstream tmpfile mkstemp unlink mkdir rmdir
        chdir opendir readdir
    """,
    "threads of its own (OpenMP is there)": "jthread pthread_create thrd_create",
    "system calls": "mmap munmap mprotect mremap memfd_create shm_open ptrace syscall prctl process_vm_readv process_vm_writev",
    "the environment": "getenv secure_getenv setenv putenv unsetenv environ __environ",
    "the allocator's settings": "mallopt malloc_trim mallinfo mallinfo2 __malloc_hook malloc_usable_size",
    "floating-point modes": """
        _mm_setcsr fesetenv fesetround feenableexcept feupdateenv _MM_SET_FLUSH_ZERO_MODE _MM_SET_DENORMALS_ZERO_MODE
    """,
    "settings of the process's OpenMP": "omp_set_num_threads omp_set_dynamic omp_set_schedule omp_set_max_active_levels omp_set_nested",
    "waiting": "usleep nanosleep clock_nanosleep sleep pause alarm setitimer timer_create",
    "the priorities of processes": """
        setpriority nice sched_setaffinity sched_setscheduler sched_setparam sched_setattr setrlimit prlimit pthread_setaffinity_np
    """,
    "clocks": "clock_gettime gettimeofday __rdtsc _rdtsc __rdtscp omp_get_wtime",
    "tvm_ffi's registry of other functions": """
        GetGlobal GetGlobalRequired SetGlobal RemoveGlobal ListNames TVMFFIFunctionGetGlobal TVMFFIFunctionSetGlobal
        TVMFFIEnvModLookupFromImports TVMFFIHandleInitOnce
    """,
    "code that runs when the library is loaded": "TVM_FFI_STATIC_INIT_BLOCK TVM_FFI_EMBED_CUBIN",
}
# Common words: refused only behind "::", where they cannot be the kernel's own.
_QUALIFIED_USES = {
    "threads of its own (OpenMP is there)": "thread async",
    "files": "open read write rename filesystem",
    "sockets": "connect listen accept send recv",
    "ending or signalling": "kill raise signal",
    "starting programs": "clone",
    "clocks": "chrono clock",
    "tvm_ffi's registry of other functions": "Module reflection",
}
_REFUSED = {name: use for use, names in _USES.items() for name in names.split()}
_QUALIFIED = {name: use for use, names in _QUALIFIED_USES.items() for name in names.split()}
_ATTRIBUTES = {
    "constructor",
    "__constructor__",
    "destructor",
    "__destructor__",
    "optimize",
    "__optimize__",
    "target",
    "__target__",
    "ifunc",
    "__ifunc__",
    "init_priority",
    "__init_priority__",
    "weakref",  # another name for a function of a library, in a string
    "__weakref__",
}


def _no_use(words: list[Token], at: int) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a language with C++'s text has beyond it.

    ``header``: whether a file may be included. ``refused``: what the name at a place of the tokens would be used for and may not.
    ``assembler``: whether the assembler at a place is the device's own, which is allowed.
    """

    header: Callable[[str], bool] = lambda name: False
    refused: Callable[[list[Token], int], str | None] = _no_use
    assembler: Callable[[list[Token], int], bool] = lambda words, at: False


CPP = Dialect()


# What may be declared of another library without its header: g++ takes libmvec's versions of them in `omp simd` loops only then.
_MATHEMATICS = frozenset(
    f"{name}{kind}"
    for name in """
        exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh asin acos atan atan2 asinh acosh atanh pow sqrt cbrt erf erfc hypot
    """.split()
    for kind in ("", "f", "l")
)
_INTERPRETER = re.compile(r"_?Py[A-Z_]\w*|_r_debug|_dl_\w+|link_map|_rtld_\w+")


def policy_problem(source: str, dialect: Dialect = CPP) -> str | None:
    """What a kernel may not do, with the reason; None where it may be built.

    Hardening, not isolation: the sandbox holds where the text deceives.
    """
    found = list(tokens(source))
    for kind, text in found:
        problem = _directive_problem(text, dialect) if kind == "directive" else None
        if problem:
            return problem
    words = found + [token for kind, text in found if kind == "directive" for token in _macro_tokens(text)]
    for at, (kind, text) in enumerate(words):
        if kind != "name":
            continue
        use = _refused_use(words, at) or dialect.refused(words, at)
        if use and not (text in ASSEMBLER and dialect.assembler(words, at)):
            return f"{text}: a kernel may not use {use}"
        if text == "extern" and (foreign := _foreign(words, at)):
            return f'extern "C" {foreign}: a kernel may not declare functions of other libraries (include their header)'
        if _INTERPRETER.fullmatch(text):
            return f"{text}: a kernel may not use the insides of the interpreter or the loader"
        if text in ("__attribute__", "__declspec") and (named := _attributes(words, at) & _ATTRIBUTES):
            return f"__attribute__(({sorted(named)[0]})): not allowed in a kernel"
        if text in ("gnu", "_Pragma", "__builtin_apply", "__builtin_return_address", "__builtin_frame_address"):
            return f"{text}: not allowed in a kernel"
    return None


def _macro_tokens(directive: str) -> Iterator[Token]:
    """What a ``#define`` stands for; an ``#include``'s name is checked elsewhere."""
    words = list(tokens(directive.replace("#", " ", 1)))
    return iter(words if words and words[0][1] in ("define", "if", "elif") else ())


def _foreign(words: list[Token], at: int) -> str | None:
    """The name that an ``extern "C"`` at a place declares without defining it; None for definitions and mathematical functions."""
    if at + 1 >= len(words) or words[at + 1][0] != "string":
        return None
    if at + 2 < len(words) and words[at + 2][1] == "{":
        return next(filter(None, (_undefined(words, place) for place in _declared(words, at + 3))), None)
    return _undefined(words, at + 2)


def _declared(words: list[Token], begin: int) -> Iterator[int]:
    """Where the declarations of a block begin."""
    depth, fresh = 0, True
    for place in range(begin, len(words)):
        text = words[place][1]
        if depth == 0 and text == "}":
            return
        if fresh and depth == 0:
            yield place
        depth += (text == "{") - (text == "}")
        fresh = depth == 0 and text in (";", "}")


def _undefined(words: list[Token], begin: int) -> str | None:
    """The name that is declared from a place on, unless it is defined there or mathematical."""
    end = next((place for place in range(begin, len(words)) if words[place][1] in (";", "{")), len(words))
    named = [words[place][1] for place in range(begin, end) if words[place][0] == "name" and _called(words, place)]
    if not named:
        return " ".join(text for _, text in words[begin:end])
    return None if named[0] in _MATHEMATICS or (end < len(words) and words[end][1] == "{") else named[0]


def _called(words: list[Token], at: int) -> bool:
    return at + 1 < len(words) and words[at + 1][1] == "(" and not words[at][1].startswith("__")


def _refused_use(words: list[Token], at: int) -> str | None:
    """What a name would be used for, or what the compiler's own name for it; ``x.name`` is a method of the kernel's own."""
    before, name = words[at - 1][1] if at else "", words[at][1].removeprefix("__builtin_")
    if before == "::" and name in _QUALIFIED:
        return _QUALIFIED[name]
    return _REFUSED.get(name) if before not in (".", "->") else None


def _attributes(words: list[Token], at: int) -> set[str]:
    names, depth = set(), 0
    for _, text in words[at + 1 : at + 64]:
        depth += (text == "(") - (text == ")")
        names.add(text)
        if depth == 0:
            break
    return names


def _directive_problem(text: str, dialect: Dialect) -> str | None:
    line = re.sub(r"/\*.*?\*/|//.*", " ", text.replace("\\\n", " "), flags=re.DOTALL).replace("%:", "#").strip()
    if not _DIRECTIVES.match(line):
        return f"{line:.60}: not a directive that a kernel needs"
    if re.match(r"#\s*include", line):
        return _include_problem(line, dialect)
    if re.match(r"#\s*pragma", line) and not _PRAGMA.match(line):
        return f"{line:.60}: only omp, unroll and GCC unroll, ivdep or diagnostic pragmas are allowed"
    if re.match(r"#\s*define", line) and "##" in line:
        return f"{line:.60}: names put together by ## are not allowed"
    return None


def _include_problem(line: str, dialect: Dialect) -> str | None:
    match = _INCLUDE.match(line)
    if match is None:
        return f"{line:.60}: only #include <…> is allowed"
    name = match[1].strip()
    if ".." not in name and (name in _STANDARD or name.startswith(("tvm/ffi/", "dlpack/")) or dialect.header(name)):
        return None
    return f"#include <{name}>: expected a header of the C++ library, omp.h, immintrin.h, tvm/ffi/… or dlpack/…"
