"""Pickles of torch read as plain data: containers and descriptions of tensors, nothing is called.

A pickle is a program that may call whatever it names. `torch.load(weights_only=True)` refuses a
file that names anything unknown, and with it every checkpoint that keeps its trainer's settings.
Here the program is followed by hand: names are never looked up, so that no class is made and no
function runs, whatever the file says. What is not a container, a number, a text or a tensor is an
`UnmadeObject`, which remembers its name.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO
from warnings import catch_warnings, simplefilter

PersistentLoad = Callable[[object], object]
"""What stands for an object outside the pickle, by its id there."""


@dataclass(frozen=True)
class GlobalName:
    """A class or function that a pickle names; it is not imported.

    Attributes:
        module: in which it lies.
        name: its own.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class StorageRecord:
    """Numbers in a row that tensors are cut from.

    Attributes:
        key: names them within the file.
        kind: torch's name of their type, `FloatStorage`.
        count: how many there are; of an `UntypedStorage`, bytes.
        first: where they start within those of the key.
    """

    key: str
    kind: str
    count: int
    first: int = 0


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as a file describes it; nothing of this is checked yet.

    Attributes:
        storage: where its numbers lie.
        offset: of its first number.
        shape: its lengths.
        strides: from one number to the next along each of them.
        kind: torch's name of its type where that is not the storage's, `bfloat16`.
    """

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    kind: str = ""


@dataclass(eq=False)
class UnmadeObject:
    """An object that a pickle would make; it is not made.

    Attributes:
        name: its class, or the function that would give it.
        state: what it would be filled with.
        items: what would be put into it, as into a dict.
    """

    name: str
    state: object = None
    items: dict[object, object] = field(default_factory=dict)


def read_pickle(
    stream: BinaryIO, *, passed_over: list[str], persistent: PersistentLoad | None = None
) -> object:
    """What a pickle holds, as plain data; the stream stands behind it afterwards.

    Args:
        stream: holds it from here on.
        passed_over: gets the name of each object that is not made.
        persistent: what stands for objects outside it; None for a pickle that has none.

    Raises:
        ValueError: it is cut short, broken, or no pickle.
    """
    reading, name = _Reading(passed_over, persistent), "start"
    try:
        with catch_warnings():
            simplefilter("error", DeprecationWarning)  # of escapes in a damaged text
            for opcode, argument, _ in pickletools.genops(stream):
                name = opcode.name
                if reading.step(name, argument):
                    return reading.stack.pop()
    except (IndexError, KeyError, TypeError, AttributeError, DeprecationWarning) as error:
        raise ValueError(f"broken pickle, {name}: {error}") from None
    raise ValueError("pickle without an end")


def printable(text: str, *, longest: int = 80) -> str:
    """A name out of a file as a message may show it, whatever its author put there."""
    plain = text if text.isprintable() else ascii(text)
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."


class _Reading:
    """The pickle machine: a stack, a memory, and no way out."""

    def __init__(self, passed_over: list[str], persistent: PersistentLoad | None) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memory: dict[int, object] = {}
        self.passed_over = passed_over
        self.persistent = persistent

    def step(self, name: str, argument: object) -> bool:
        """Follow one instruction; whether it was the last."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memory[argument] = stack[-1]  # type: ignore[index]  # a number
        elif name == "MEMOIZE":
            self.memory[len(self.memory)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])  # type: ignore[index]  # a number
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "STOP":
            return True
        elif name not in ("PROTO", "FRAME"):
            self._build(name, argument)
        return False

    def _build(self, name: str, argument: object) -> None:
        stack = self.stack
        if name in _TUPLES:
            stack.append(tuple(self._taken(_TUPLES[name])))
        elif name in ("TUPLE", "LIST", "FROZENSET"):  # sets are not hashed, an object may be in one
            found = self._marked()
            stack.append(tuple(found) if name == "TUPLE" else found)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            added = [stack.pop()] if name == "APPEND" else self._marked()
            if isinstance(stack[-1], list):
                stack[-1].extend(added)
        elif name in ("SETITEM", "SETITEMS"):
            added = self._taken(2) if name == "SETITEM" else self._marked()
            self._put(stack[-1], added)
        elif name == "DICT":
            added = self._marked()
            stack.append({})
            self._put(stack[-1], added)
        elif name == "POP":
            if self.marks and self.marks[-1] == len(stack):
                self.marks.pop()
            else:
                stack.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP_MARK":
            self._marked()
        else:
            self._name_or_call(name, argument)

    def _name_or_call(self, name: str, argument: object) -> None:
        stack = self.stack
        if name == "GLOBAL":
            stack.append(GlobalName(*str(argument).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            module, own = self._taken(2)
            if not isinstance(module, str) or not isinstance(own, str):
                raise ValueError("a name that is no text")
            stack.append(GlobalName(module, own))
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = self._taken(2)
            stack.append(self._call(function, arguments))
        elif name == "NEWOBJ_EX":
            function, arguments, _ = self._taken(3)
            stack.append(self._call(function, arguments))
        elif name == "INST":
            stack.append(
                self._call(GlobalName(*str(argument).split(" ", 1)), tuple(self._marked()))
            )
        elif name == "OBJ":
            function, *rest = self._marked()
            stack.append(self._call(function, tuple(rest)))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], UnmadeObject):
                stack[-1].state = state
        elif name in ("PERSID", "BINPERSID") and self.persistent is not None:
            stack.append(self.persistent(argument if name == "PERSID" else stack.pop()))
        else:  # extension registries, buffers beside the file
            raise ValueError(f"a pickle with {name}")

    def _taken(self, n: int) -> list[object]:
        """The last n on the stack, taken off it."""
        if len(self.stack) < n:
            raise IndexError("nothing to take")
        found = self.stack[-n:]
        del self.stack[-n:]
        return found

    def _marked(self) -> list[object]:
        """What lies above the last mark, taken off the stack."""
        at = self.marks.pop()
        found = self.stack[at:]
        del self.stack[at:]
        return found

    def _put(self, target: object, added: list[object]) -> None:
        items = target.items if isinstance(target, UnmadeObject) else target
        if not isinstance(items, dict):
            return
        for key, value in zip(added[::2], added[1::2], strict=True):
            if key is None or isinstance(key, str | bytes | int | float):
                items[key] = value
            else:  # hashing what a file nests may go as deep as it says
                self.passed_over.append(f"a key of type {_name_of(key)}")

    def _call(self, function: object, arguments: object) -> object:
        """What a call would give: a container, a tensor's description, or an object unmade."""
        name = _name_of(function)
        values = arguments if isinstance(arguments, tuple) else ()
        if name in _DICTS:
            made: dict[object, object] = {}
            pairs = values[0] if values and isinstance(values[0], list) else []
            for pair in pairs:
                if isinstance(pair, list | tuple) and len(pair) == 2:
                    self._put(made, [*pair])
            return made
        if name in _PLAIN:  # sizes, sets, texts in bytes: as they are told
            first = values[0] if values else []
            return tuple(first) if name == "torch.Size" and isinstance(first, tuple) else first
        if name in _UNIMPORTANT:
            return UnmadeObject(name)
        made_of = _tensor(name, values)
        if made_of is not None:
            return made_of
        if name.endswith("_reconstructor") and values:
            name = _name_of(values[0])
        self.passed_over.append(name)
        return UnmadeObject(name)


def _tensor(function: str, values: tuple[object, ...]) -> TensorRecord | None:
    """A tensor as torch's own functions are told to build it; None for other functions or calls."""
    if function in _WRAPPED and values and isinstance(values[0], TensorRecord):
        return values[0]
    if function == "torch._tensor._rebuild_from_type_v2" and len(values) >= 3:
        inner, _, arguments = values[:3]  # its class and further attributes are left
        return _tensor(_name_of(inner), arguments) if isinstance(arguments, tuple) else None
    kind = ""
    if function == "torch._utils._rebuild_tensor_v3" and len(values) >= 7:
        kind = values[6].name if isinstance(values[6], GlobalName) else "?"
        flags = values[7:]
    elif function == "torch._utils._rebuild_tensor_v2":
        flags = values[6:]
    elif function == "torch._utils._rebuild_tensor":
        flags = values[4:]
    else:
        return None
    if any(flags) or len(values) < 4:  # values that are to be negated or conjugated
        return None
    storage, offset, shape, strides = values[:4]
    if not isinstance(storage, StorageRecord) or not isinstance(offset, int):
        return None
    lengths, steps = _whole_numbers(shape), _whole_numbers(strides)
    if lengths is None or steps is None or len(lengths) != len(steps):
        return None
    return TensorRecord(storage, offset, lengths, steps, kind)


def _whole_numbers(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, tuple | list) or not all(isinstance(v, int) for v in value):
        return None
    return tuple(value)


def _name_of(value: object) -> str:
    return str(value) if isinstance(value, GlobalName) else type(value).__name__


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], object]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

_DICTS = {
    *("collections.OrderedDict", "collections.defaultdict", "collections.Counter"),
    *("builtins.dict", "__builtin__.dict"),
}
_PLAIN = {
    *("torch.Size", "_codecs.encode", "builtins.set", "builtins.frozenset", "builtins.list"),
    *("__builtin__.set", "__builtin__.frozenset", "builtins.bytearray", "__builtin__.bytearray"),
}
_UNIMPORTANT = {"torch.device", "torch.serialization._get_layout"}
"""Not made either, but nothing that a reader would miss."""

_WRAPPED = {
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
}
"""Functions whose first argument is the tensor itself."""
