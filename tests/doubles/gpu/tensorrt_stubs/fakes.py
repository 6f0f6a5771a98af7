"""Fake objects of TensorRT, whose virtual functions run in Python, for its real bindings over stubs.c.

The place of a function in the table of its class differs between versions. So it is learnt: a method of the bindings is
called once, and the number that arrives belongs to that method from then on. A number that was not learnt is an error.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Word = ctypes.c_size_t
Handler = ctypes.CFUNCTYPE(Word, ctypes.c_ssize_t, ctypes.POINTER(Word))
WORDS = 11
"""Of the arguments of a call: six in registers and five on the stack, see stubs.c."""
EXPORTS = {-1: "create_builder", -2: "create_runtime", -3: "create_parser"}


class Dims(ctypes.Structure):
    """TensorRT's shapes: a number of dimensions and room for eight."""

    _fields_ = (("count", ctypes.c_int32), ("sizes", ctypes.c_int64 * 8))


class Dims8(ctypes.Structure):
    """The same in TensorRT 8."""

    _fields_ = (("count", ctypes.c_int32), ("sizes", ctypes.c_int32 * 8))


def int32(argument: int) -> int:
    """Read the lower half of the register. The upper half is undefined."""
    return ctypes.c_int32(argument).value


def boolean(argument: int) -> bool:
    return bool(argument & 0xFF)


def text_at(address: int) -> str:
    """Read the C string that an argument points at."""
    return ctypes.string_at(address).decode()


def shape_at(address: int) -> list[int]:
    """Read the shape that an argument points at."""
    dims = Dims.from_address(address)
    return dims.sizes[: dims.count]


def shape_8_in(words: Sequence[int]) -> list[int]:
    """Read a shape of TensorRT 8 that is passed by value, from the words on the stack."""
    dims = Dims8.from_buffer_copy((Word * len(words))(*words))
    return dims.sizes[: dims.count]


def bytes_at(address: int, size: int, *_: int) -> str:
    """Read bytes from an address and a size. Each byte becomes the character of its number."""
    return ctypes.string_at(address, size).decode("latin-1")


def each(*readers: Callable[[int], Any]) -> Callable[..., list[Any]]:
    """Make a reader of several arguments from one reader for each."""
    return lambda *arguments: [read(argument) for read, argument in zip(readers, arguments, strict=False)]


def virtual(address: int, number: int, result: Any, *types: Any) -> Callable[..., Any]:
    """Return a virtual function of a C++ object, such as a logger that Python code derived from ILogger."""
    table = Word.from_address(address).value
    function = Word.from_address(table + number * ctypes.sizeof(Word)).value
    bound = ctypes.CFUNCTYPE(result, Word, *types)(function)
    return lambda *arguments: bound(address, *arguments)


class Fake:
    """One object: `address` is what a function of TensorRT returns for it."""

    def __init__(self, name: str, table: int) -> None:
        self.name = name
        self._implementation = (Word * 1)(table)
        self._object = (Word * 2)(table, ctypes.addressof(self._implementation))
        self.address = ctypes.addressof(self._object)
        self.addresses = (self.address, ctypes.addressof(self._implementation))


def as_word(result: Any, target: int, kind: type[Dims | Dims8]) -> int:
    """Convert a result to the value that C++ returns. A shape is written to `target`."""
    if isinstance(result, Fake):
        return result.address
    if isinstance(result, bytes):  # the caller keeps it alive
        return ctypes.cast(result, ctypes.c_void_p).value or 0
    if isinstance(result, tuple):
        ctypes.memmove(target, ctypes.byref(kind(len(result), result)), ctypes.sizeof(kind))
        return target
    return int(result)


class Fakes:
    """The fake objects and what was learnt about them. The name of a method is `name.method`."""

    def __init__(self, library: str, dims: type[Dims | Dims8] = Dims) -> None:
        self._dims = dims
        self.calls: list[str] = []
        """The methods called, in order."""
        self.arrived: defaultdict[str, list[Any]] = defaultdict(list)
        """Method -> what its calls were given, for those that are read."""
        self.results: dict[str, Any] = {}
        """Method -> a number, a Fake, bytes (their address), a tuple (a shape), or a function that gives one of them"""
        self.readers: dict[str, Callable[..., Any]] = {}
        """Method -> what makes of its arguments that which is noted."""
        self._objects: dict[str, Fake] = {}
        self._by_address: dict[int, Fake] = {}
        self._methods: dict[tuple[int, int], str] = {}
        self._to_learn: dict[str, str] = {}
        """Name -> its method that will be called."""
        self._failure: Exception | None = None
        self._stubs = ctypes.CDLL(library)
        self._table = ctypes.addressof(ctypes.c_char.in_dll(self._stubs, "virtual_table")) + 2 * ctypes.sizeof(Word)
        self._handler = Handler(self._handle)
        self._stubs.set_handler(self._handler)

    def __getitem__(self, name: str) -> Fake:
        """Return the object of that name. It is made at the first use, without methods."""
        if name not in self._objects:
            self._objects[name] = fake = Fake(name, self._table)
            self._by_address |= dict.fromkeys(fake.addresses, fake)
        return self._objects[name]

    def learn(self, method: str, result: Any, call: Callable[[], Any], read: Callable[..., Any] | None = None) -> Any:
        """Find a method by calling it, and let it return `result` from now on -> the result of the bindings."""
        self.results[method] = result
        if read:
            self.readers[method] = read
        self._to_learn = {method.partition(".")[0]: method}
        with self.checked():
            returned = call()
        if self._to_learn:
            raise AssertionError(f"{method} called no new function")
        return returned

    def learn_free(self, drop: Callable[[], Any]) -> None:
        """Find `name.free`, the destructors of the objects that are deleted with their last Python objects."""
        self._to_learn = {name: f"{name}.free" for name in self._objects}
        self.results |= dict.fromkeys(self._to_learn.values(), 0)
        with self.checked():
            drop()
        self._to_learn = {}

    def forget_calls(self) -> None:
        """Forget the calls, and keep what was learnt."""
        self.calls.clear()
        self.arrived.clear()

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Raise an error of a result at the end of the block, since it cannot pass through C."""
        try:
            yield
        finally:
            failure, self._failure = self._failure, None
            if failure:
                raise failure

    def _handle(self, number: int, arguments: Any) -> int:
        try:
            return self._call(number, arguments[:WORDS])
        except Exception as error:
            self._failure = self._failure or error
            return 0

    def _call(self, number: int, arguments: list[int]) -> int:
        if number < 0:
            method, given, target = EXPORTS[number], arguments, 0
        else:
            # A structure is returned at the address in the first argument. `this` is then the second one.
            at = 0 if arguments[0] in self._by_address else 1
            method, given, target = self._method(arguments[at], number), arguments[at + 1 :], arguments[0]
        self.calls.append(method)
        if method in self.readers:
            self.arrived[method].append(self.readers[method](*given))
        result = self.results[method]
        return as_word(result() if callable(result) else result, target, self._dims)

    def _method(self, this: int, number: int) -> str:
        name = self._by_address[this].name
        if (this, number) not in self._methods:
            if name not in self._to_learn:
                raise AssertionError(f"function {number} of {name} was called but not learnt")
            self._methods[this, number] = self._to_learn.pop(name)
        return self._methods[this, number]
