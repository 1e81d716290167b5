"""Every kernel with all fixed that is fixed when it is compiled: in the shapes of models, and as it was tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import (
    decode_attention,
    extend_attention,
    flat_matmul,
    follow,
    gemv,
    pages,
    quantize_rows,
    quantized_matmul,
    rows,
    sampling,
    write_kv,
)
from .fp8_cache import EIGHT, EIGHT_BY_BITS
from .products import LAUNCH
from .tuning import Launch, table

ALL_TARGETS = (80, 90, 100)
TENSORS = {**dict.fromkeys(("Q", "K", "V", "Out"), "*bf16"), "Scales": "*fp32"}
NUMBERS = {"scale": "fp32", "cap": "fp32"}


@dataclass(frozen=True, slots=True)
class Variant:
    """A kernel with everything fixed that is fixed when it is compiled."""

    name: str
    kernel: Any
    pointers: Mapping[str, str]  # those that are not "*i32"
    constants: Mapping[str, Any]
    scalars: Mapping[str, str] = field(default_factory=dict)
    warps: int = 4
    stages: int = 2
    tensor_cores: bool = False  # whether it must use them: wgmma on sm_90
    targets: tuple[int, ...] = ALL_TARGETS  # what it is for


def variants() -> Iterator[Variant]:
    """Every kernel in the shapes that models have, and every launch of tuning.json."""
    yield from _attention_variants()
    yield from _row_variants()
    yield from _product_variants()
    yield from _tuned_products()


def extend_variant(head: int, launch: Launch, *, windowed: bool = False, name: str = "", kind: int = 0) -> Variant:
    """The prefill kernel by a launch of the table; `kind`: of the cache's numbers, see `fp8_cache`."""
    constants = {
        "HKV": 8, "GROUP": 4, "D": head, "BLOCK_D": head, "PAGE": 16, "TOKENS": launch["tile_rows"] // 4,
        "BLOCK_M": launch["tile_rows"], "BLOCK_N": launch["block_n"], "WINDOWED": windowed, "CAPPED": windowed,
        "EXACT": False, "KIND": kind,
    }  # fmt: skip
    shown = name or f"extend_attention head {head}" + (" window, cap" if windowed else "")
    return Variant(
        shown, extend_attention._extend, _tensors(kind), constants, NUMBERS, launch["warps"], launch["stages"],
        tensor_cores=launch["tile_rows"] >= 64,
    )  # fmt: skip


def decode_variant(head: int, launch: Launch, *, block_m: int = 16, name: str = "", kind: int = 0) -> Variant:
    """The decode kernel by a launch of the table; `block_m`: 16 for pieces with one reader, more for several."""
    constants = {
        "HEADS": 32, "GROUP": 4, "D": head, "BLOCK_D": head, "PAGE": 16,
        "BLOCK_M": block_m, "BLOCK_N": launch["block_n"], "CAPPED": False,
        "EXACT": False, "KIND": kind, "UNIFY": bool(launch.get("unified", 0)),
    }  # fmt: skip
    tensors = {**_tensors(kind), "Mixed": "*fp32", "Weight": "*fp32"}
    shown = name or f"decode_attention head {head}" + (" shared" if block_m > 16 else "")
    return Variant(
        shown, decode_attention._decode, tensors, constants, NUMBERS, launch["warps"], launch["stages"]
    )  # fmt: skip


def _tensors(kind: int) -> dict[str, str]:
    """An fp8 cache is bytes to a kernel."""
    return {**TENSORS, "K": "*u8", "V": "*u8"} if kind else TENSORS


def _attention_variants() -> Iterator[Variant]:
    for kernel, make in (("extend_attention", _extend_variants), ("decode_attention", _decode_variants)):
        for key, launch in table()[kernel].items():
            device, _, shape = key.partition(" / ")
            targets = ALL_TARGETS if device == "any" else (int(device.removeprefix("sm_")),)
            for made in make(shape, launch):
                name = f"{made.name}, the default" if shape == "any" else made.name
                yield replace(made, name=name if device == "any" else f"{name}, {device}", targets=targets)
    narrow = table()["extend_attention"]["any / head 128"], table()["decode_attention"]["any / head 128"]
    kinds: tuple[tuple[int, str, tuple[int, ...]], ...] = (
        (int(EIGHT), "fp8 KV", (90, 100)), (int(EIGHT_BY_BITS), "fp8 KV by bits", (80,))
    )  # fmt: skip
    for kind, shown, eight in kinds:
        prefill = narrow[0] if kind == int(EIGHT) else {**narrow[0], "block_n": 32}  # as `extend_attention` has it
        for one in (extend_variant(128, prefill, kind=kind), decode_variant(128, narrow[1], kind=kind)):
            yield replace(one, name=f"{one.name}, {shown}", targets=eight)
    masked = table()["extend_attention"]["any / head 128 masked"]
    for one in (extend_variant(128, masked), decode_variant(128, narrow[1])):  # neither is a power of two
        odd = {"D": 80, "GROUP": 3, "HEADS": 24, "TOKENS": masked["tile_rows"] // 3}
        constants = {name: odd.get(name, value) for name, value in one.constants.items()}
        kernel, _, _ = one.name.partition(" ")
        yield replace(one, name=f"{kernel} head 80, groups of 3", constants=constants)
    yield decode_variant(128, {**narrow[1], "unified": 1}, name="decode_attention head 128, unified maximum")
    for head in (64, 128, 256):
        merge = {"HEADS": 32, "D": head, "BLOCK_D": head, "BLOCK_P": 16}
        merged = {"Mixed": "*fp32", "Weight": "*fp32", "Out": "*bf16"}
        yield Variant(f"merge head {head}", decode_attention._merge, merged, merge)


def _extend_variants(shape: str, launch: Launch) -> Iterator[Variant]:
    """A row for "any" must do for the largest head, with masks and without."""
    head = 256 if shape == "any" else int(shape.split()[1])
    if not shape.endswith("masked"):
        yield extend_variant(head, launch)
    if shape.endswith("masked") or shape == "any":
        yield extend_variant(head, launch, windowed=True)


def _decode_variants(shape: str, launch: Launch) -> Iterator[Variant]:
    """A row for "any" must do for the largest head, shared."""
    head = 256 if shape == "any" else int(shape.split()[1])
    shared = shape == "any" or shape.endswith("shared")
    yield decode_variant(head, launch, block_m=(64 if head == 256 else 128) if shared else 16)


def _row_variants() -> Iterator[Variant]:
    half = {"X": "*bf16", "Residual": "*bf16", "Out": "*bf16", "W": "*fp32", "Table": "*bf16"}
    for add in (False, True):
        yield Variant(
            f"rms_norm 4096{' with residual' if add else ''}", rows._rms_norm, half, {"BLOCK": 4096, "ADD": add},
            {"eps": "fp32"}, 8,
        )  # fmt: skip
    for tanh in (False, True):
        yield Variant(f"gated {'gelu' if tanh else 'silu'}", rows._gated, half, {"BLOCK": 1024, "TANH": tanh})
    yield Variant("take_rows", rows._take_rows, half, {"BLOCK": 1024, "SCALED": True}, {"scale": "fp32"})
    cache = {"QKV": "*bf16", "Q": "*bf16", "K": "*bf16", "V": "*bf16", "Cos": "*fp32", "Sin": "*fp32",
             "q_norm": "*fp32", "k_norm": "*fp32", "Scales": "*fp32"}  # fmt: skip
    for name, normed, kind in (("", False, 0), (" with norms", True, 0), (" fp8 KV", False, int(EIGHT))):
        constants = {
            "H": 32, "HKV": 8, "D": 128, "HALF": 64, "TOGETHER": 8, "Q_NORM": normed, "K_NORM": normed, "KIND": kind
        }  # fmt: skip
        pointers = {**cache, "K": "*u8", "V": "*u8"} if kind else cache
        yield Variant(f"write_kv{name}", write_kv._write_kv, pointers, constants, {"eps": "fp32"}, 2)
    yield Variant("apply_masks", sampling._apply_masks, {"Logits": "*fp32"}, {"BLOCK": 4096}, warps=8)
    drawn = {"Logits": "*fp32", "temperature": "*fp32", "top_p": "*fp32", "min_p": "*fp32", "seed": "*i64",
             "Logprob": "*fp32", "Edited": "*fp32", "Total": "*fp32"}  # fmt: skip
    yield Variant("sample", sampling._sample, drawn, {"BLOCK": 4096}, warps=16)
    edits = dict.fromkeys(("Logits", "Bias", "Factor", "Penalty"), "*fp32")
    yield Variant("edit", sampling._edit, edits, {"BLOCK": 256})
    yield Variant("follow", follow._follow, {}, {"BLOCK": 1024})
    yield Variant("move_pages", pages._move_pages, {"Source": "*bf16", "Target": "*bf16"}, {"CHUNK": 4096})


def product_variant(format: str, kernel: str, rows_asked: int, launch: Launch, name: str = "") -> Variant | None:
    """A product by a launch of the table, for so many rows; None for the library's."""
    weight, scales = {
        "fp32": ("*fp32", None), "bf16": ("*bf16", None), "int8": ("*i8", "*fp32"), "fp8": ("*u8", "*fp32"),
        "int4": ("*u8", "*i32"),
    }[format]  # fmt: skip
    half = "*fp32" if format == "fp32" else "*bf16"
    tensors = {"X": half, "Out": half, "Bias": "*fp32"}
    packed = {"W": weight} | ({"Scales": scales} if scales else {})
    absent: dict[str, Any] = {} if scales else {"Scales": None}
    few, high = _power_of_2(rows_asked), flat_matmul.rows_of_tile(rows_asked)
    warps = launch.get("warps", 4)
    if kernel == "gemv" and format == "int4":
        tile = {"ROWS": few, "BLOCK_N": launch.get("block_n", 8), "WORDS": launch.get("words", 128)}
        return Variant(name, gemv._int4_gemv, {**tensors, "Packed": "*i32"}, tile, {}, warps)
    if kernel == "gemv":
        tile = {
            "ROWS": few, "BLOCK_N": launch.get("block_n", 4), "BLOCK_K": launch.get("block_k", 1024), "UNIT": 8
        }  # fmt: skip
        return Variant(name, gemv._gemv, tensors | packed, {**absent, **tile}, {}, warps)
    if kernel == "flat":
        split = launch.get("splits", 1) > 1
        tile = {
            "BLOCK_M": high, "BLOCK_N": launch.get("block_n", 64), "BLOCK_K": launch.get("block_k", 64),
            "SPLIT": split,
        }  # fmt: skip
        tensors |= {"Out": "*fp32"} if split else {}
        called = warps if high <= 64 else 2 * warps
        cores = high >= 64 and format != "fp32"
        if format == "int4":
            stages = launch.get("stages", 3)
            four = {**tensors, "Packed": "*u8"}
            return Variant(name, quantized_matmul._int4, four, tile, {}, called, stages, tensor_cores=cores)
        stages = launch.get("stages", 4)
        return Variant(
            name, flat_matmul._flat, tensors | packed, {**absent, **tile}, {}, called, stages, tensor_cores=cores
        )
    if kernel == "w8a8":
        eight = {**tensors, "X": "*i8", "XScales": "*fp32", "W": "*i8", "Scales": "*fp32"}
        tile = {"BLOCK_M": max(32, high), "BLOCK_N": launch.get("block_n", 64), "GROUP": quantize_rows.GROUP}
        warps, stages = launch.get("warps", 8), launch.get("stages", 3)
        return Variant(name, quantized_matmul._w8a8, eight, tile, {}, warps, stages, tensor_cores=high >= 64)
    return None


def _power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _product_variants() -> Iterator[Variant]:
    for format in ("bf16", "int8", "fp8", "int4"):
        four = format == "int4"
        for asked in (1, 2) if four else (1, 4):
            name = f"int4_gemv {asked} rows" if four else f"gemv {format} {asked} rows"
            yield _named(name, format, "gemv", asked, {"words": 256} if four else {})
        for asked, cuts in ((16, 2), (64, 1), (128, 1)):
            name = f"int4_matmul {asked} rows" if four else f"flat_matmul {format} {asked} rows"
            block_k = 64 if format == "bf16" or asked > 64 else 128  # as `products.by_rule` has it
            yield _named(name, format, "flat", asked, {"splits": cuts, "block_k": block_k})
    halves = {"X": "*bf16", "Out": "*bf16", "Bias": "*fp32"}
    yield Variant("int4_unpacked", quantized_matmul._int4_unpacked, {**halves, "Packed": "*u8"}, {"BLOCK": 512})
    for asked in (64, 128):
        yield _named(f"w8a8_matmul {asked} rows", "int8", "w8a8", asked)
    yield Variant("add_parts", flat_matmul._add_parts, {**halves, "Parts": "*fp32"}, {"BLOCK": 256})
    for name, values, constants in (
        ("quantize_rows int8", "*i8", {"GROUPS": 16, "GROUP": 128, "MOST": 127.0}),
        ("quantize_rows fp8", "*u8", {"GROUPS": 1, "GROUP": 16384, "MOST": 448.0}),
    ):
        tensors = {"X": "*bf16", "Values": values, "Scales": "*fp32"}
        yield Variant(name, quantize_rows._quantize_rows, tensors, constants, {}, 4 if "int8" in name else 16)


def _named(name: str, format: str, kernel: str, asked: int, launch: Launch | None = None) -> Variant:
    made = product_variant(format, kernel, asked, launch or {}, name)
    assert made is not None, f"{kernel} is no kernel of ours"
    return made


def _tuned_products() -> Iterator[Variant]:
    """Each launch of the products' table once, whatever matrices it is for."""
    seen = set()
    products: Mapping[str, Any] = table().get("products", {})
    for device, entries in products.items():
        for entry in entries:
            launch = {name: value for name, value in entry.items() if name in LAUNCH}
            shown = ", ".join(f"{name} {value}" for name, value in sorted(launch.items()))
            name = f"{entry['kernel']} {entry['format']} {entry['rows']} rows, {device}: {shown or 'as by rule'}"
            made = product_variant(entry["format"], entry["kernel"], entry["rows"], launch, name)
            if made is not None and name not in seen:
                seen.add(name)
                yield replace(made, targets=(int(device.removeprefix("sm_")),))
