"""Reads a GGUF file: its metadata, its list of tensors, and their values as float32. Plain Python, no packages."""

import array
import mmap
import struct

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_F32, _Q4_1, _Q8_0 = 0, 3, 8
# Tensor kind -> (elements in a block, bytes of a block).
_BLOCKS = {_F32: (1, 4), _Q4_1: (32, 20), _Q8_0: (32, 34)}
_LOW_NIBBLE = bytes(byte & 15 for byte in range(256))
_HIGH_NIBBLE = bytes(byte >> 4 for byte in range(256))


class Tensor:
    """A tensor's name, shape (outermost dimension first) and place in the file."""

    def __init__(self, name, shape, kind, offset):
        self.name, self.shape, self.kind, self.offset = name, shape, kind, offset
        self.elements = 1
        for extent in shape:
            self.elements *= extent


class File:
    """`metadata`: key -> value. `tensors`: list of Tensor. `values(tensor)`: its elements as array('f')."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._position = 4
        if self._data[:4] != b"GGUF" or self._scalar("<I") != 3:
            raise SystemExit("%s: not a GGUF file of version 3" % path)
        tensors, keys = self._scalar("<Q"), self._scalar("<Q")
        self.metadata = {}
        for _ in range(keys):
            key = self._string()
            self.metadata[key] = self._value(self._scalar("<I"))
        self.tensors = [self._tensor() for _ in range(tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        self._start = -(-self._position // alignment) * alignment

    def values(self, tensor):
        if tensor.kind not in _BLOCKS:
            raise SystemExit("%s: unsupported GGUF tensor type %d" % (tensor.name, tensor.kind))
        block, size = _BLOCKS[tensor.kind]
        begin = self._start + tensor.offset
        data = self._data[begin:begin + tensor.elements // block * size]
        out = array.array("f")
        if tensor.kind == _F32:
            out.frombytes(data)
        elif tensor.kind == _Q8_0:
            for scale, *quants in struct.iter_unpack("<e32b", data):
                out.extend([scale * quant for quant in quants])
        else:
            # The first half of a block's values are the low nibbles. Python's doubles hold scale * quant + minimum
            # exactly, so that storing it as float32 rounds once, as float32 arithmetic does.
            for scale, minimum, nibbles in struct.iter_unpack("<ee16s", data):
                value = [scale * quant + minimum for quant in range(16)].__getitem__
                out.extend(map(value, nibbles.translate(_LOW_NIBBLE)))
                out.extend(map(value, nibbles.translate(_HIGH_NIBBLE)))
        return out

    def _scalar(self, kind):
        (value,) = struct.unpack_from(kind, self._data, self._position)
        self._position += struct.calcsize(kind)
        return value

    def _string(self):
        length = self._scalar("<Q")
        self._position += length
        return self._data[self._position - length:self._position].decode()

    def _value(self, kind):
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            kind, count = self._scalar("<I"), self._scalar("<Q")
            return [self._value(kind) for _ in range(count)]
        return self._scalar(_SCALARS[kind])

    def _tensor(self):
        name = self._string()
        shape = [self._scalar("<Q") for _ in range(self._scalar("<I"))]
        return Tensor(name, shape[::-1], self._scalar("<I"), self._scalar("<Q"))
