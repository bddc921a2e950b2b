"""Makes python.safetensors, written by the reference implementation (safetensors 0.8, torch 2.11).

  python make.py python.safetensors          writes the golden file
  python make.py --check lathe.safetensors   compares a file that Lathe wrote, tensor by tensor
"""

import sys

import safetensors.torch
import torch

DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "bool": torch.bool,
}


def tensors():
    result = {}
    for name, dtype in DTYPES.items():
        values = torch.arange(6)
        if dtype.is_floating_point:
            values = values.double() * 0.5 - 1.25
        elif dtype == torch.bool:
            values = values % 3 == 0
        elif dtype != torch.uint8:
            values = values - 3
        result[f"model.{name}.weight"] = values.to(dtype).reshape(2, 3)
    result["scalar"] = torch.tensor(-7.5)
    result["empty"] = torch.zeros(0, 3, dtype=torch.bfloat16)
    result["odd"] = torch.tensor([1, -2, 3], dtype=torch.int8)
    result['quote " slash \\ newline \n bell \x07 and 中文'] = torch.tensor([1.0, 2.0])
    return result


def main():
    if sys.argv[1] != "--check":
        safetensors.torch.save_file(tensors(), sys.argv[1], metadata={"format": "pt"})
        return
    found = safetensors.torch.load_file(sys.argv[2])
    expected = tensors()
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    print(f"{len(found)} tensors are equal")


if __name__ == "__main__":
    main()
