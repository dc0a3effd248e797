#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the hand-made part of the fuzz corpora: small valid files of every kind, named seed-*.

    tests/fuzz/make_seeds.py [FOLDER]        (default: tests/fuzz/corpus)

The rest of a corpus is what libFuzzer found from these (scripts/run_fuzz.sh --merge).
"""

import io
import json
import pathlib
import struct
import sys
import zipfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent


def safetensors():
    """Two bytes of data size, then the JSON header."""

    def case(data, header):
        return struct.pack("<H", data) + (header if isinstance(header, bytes) else json.dumps(header).encode())

    def tensor(dtype, shape, begin, end, **more):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}

    yield case(0, {})
    yield case(0, {"__metadata__": {"format": "pt"}})
    yield case(0, {"__metadata__": None})
    yield case(36, {"__metadata__": {"a": "b"}, "w": tensor("F32", [2, 3], 0, 24), "b": tensor("BF16", [4], 24, 32),
                    "s": tensor("F32", [], 32, 36)})
    yield case(5, {"x": tensor("U8", [5], 0, 5, unknown=[1, {"a": [None, -1.5e3, True]}])})
    yield case(3, {"x": tensor("F4", [3, 2], 0, 3), "z": tensor("F64", [0, 7], 3, 3)})
    yield case(16, {"é\u0001\"": tensor("I64", [1, 1, 1, 1, 1, 1, 1, 2], 0, 16)})
    yield case(6, b' \t\n{"x":{"shape":[2],"data_offsets":[0,6],"dtype":"F6_E2M3"},"y":[1],"\\u0079":{}}  ')
    yield case(1, b'{"x":{"dtype":"U8","shape":[281474976710656,65536],"data_offsets":[0,18446744073709551615]}}')
    yield case(4, b'{"x":{"dtype":"C64","shape":[-1,1.0,1e9,"1"],"data_offsets":[0]}}')


def json_configs():
    yield json.dumps({"_class_name": "FluxTransformer2DModel", "num_layers": 19, "guidance_embeds": True,
                      "axes_dims_rope": [16, 56, 56], "out_channels": None, "x": {"y": [1.5, "z"]}}, indent=2).encode()
    yield b'{"guidance_scale": 3.5e0, "names": ["a", "\\u00e9\\ud83d\\ude00"], "latents_mean": [-0.7571, 1]}'
    yield b'[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]'
    yield b'[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]'
    yield b'{"a":1,"a":2}'
    yield b'{"num_layers": 18446744073709551615, "guidance_scale": 1e999}'
    yield b'"\\ud800" '
    yield "\ufeff{}".encode()
    yield b'{"num_layers":-0,"_class_name":null}x'


def png(width, height, depth, colour, rows, extra=b"", interlace=0):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
            + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def images():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    yield png(2, 2, 8, 2, b"\0" + bytes(range(6)) + b"\1" + bytes(range(6)))
    yield png(3, 1, 8, 6, b"\4" + bytes(range(12)))
    yield png(5, 2, 1, 0, b"\0\xa8\2\x50")
    yield png(1, 2, 16, 4, b"\0\1\2\3\4\3\5\6\7\x08")
    yield png(4, 1, 2, 3, b"\0\x1b", chunk(b"PLTE", bytes(range(12))) + chunk(b"tRNS", b"\0\x80"))
    yield png(3, 3, 8, 0, b"\0\1" * 3 + b"\0\1\2\0\3\4\5\0\6", interlace=1)
    yield png(1, 1, 8, 2, b"\0abc", chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"sRGB", b"\0"))
    for path in sorted((HERE.parent / "io/data").glob("*.jpg")):
        data = path.read_bytes()
        if len(data) < 4096:
            yield data


def symbols():
    def file(batch, heads, q, kv, bq, bkv, c, s):
        head = struct.pack("<II6I", 0x59534F46, 1, batch, heads, q, kv, bq, bkv)
        body = head + b"".join(struct.pack("<Q", w) for w in c + s)
        return body + struct.pack("<I", zlib.crc32(body))

    yield file(1, 1, 64, 64, 64, 64, [1], [1])
    yield file(1, 2, 130, 70, 64, 32, [0b111, 0b101], [0b111, 0b1, 0b110, 0b111, 0, 0b10])
    yield file(2, 1, 40, 40, 32, 32, [0b11, 0b01], [0b11, 0b10, 0b01, 0])
    yield file(1, 1, 33, 64 * 66, 32, 64, [0b11], [2**64 - 1, 3, 1, 0])

    def ragged(block, ends, c, s):
        head = struct.pack("<II6I", 0x59534F46, 2, 1, 1, ends[-1], ends[-1], block, block)
        body = head + struct.pack(f"<I{len(ends)}I", len(ends), *ends)
        body += b"".join(struct.pack("<Q", w) for w in c + s)
        return body + struct.pack("<I", zlib.crc32(body))

    yield ragged(32, [3, 35, 36, 40], [0b1011], [0b0111, 0b1111, 0, 0b1001])
    yield ragged(128, [1], [1], [1])


def npz():
    """An even byte and a whole archive, or an odd one and one .npy array."""

    def array(header, values=b"", version=1):
        text = header.encode()
        size = struct.pack("<H" if version == 1 else "<I", len(text) + 1)
        return b"\x93NUMPY" + bytes([version, 0]) + size + text + b"\n" + values

    def header(descr, shape):
        return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"

    def archive(members, method=zipfile.ZIP_STORED, comment=b"", zip64=False):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as file:
            for name, data in members.items():
                info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
                info.compress_type = method
                with file.open(info, "w", force_zip64=zip64) as member:
                    member.write(data)
            file.comment = comment
        return out.getvalue()

    indptr = array(header("<i4", "(4,)"), struct.pack("<4i", 0, 2, 2, 5))
    indices = array(header("<i8", "(5,)"), struct.pack("<5q", 0, 1, 0, 1, 2))
    mask = array(header("|b1", "(1, 2, 3)"), b"\1\0\1\0\1\1")
    scalar = array(header("<i8", "()"), struct.pack("<q", 128))
    yield b"\0" + archive({"indptr": indptr, "indices": indices, "R": scalar, "C": scalar}, zip64=True)
    yield b"\0" + archive({"mask": mask, "block_q": scalar}, zipfile.ZIP_DEFLATED)
    yield b"\0" + archive({"x": array(header("<f4", "(0, 3)")), "y": array(header("<U3", "()"), b"a\0\0\0" * 3)})
    yield b"\0" + archive({}, comment=b"nothing")
    yield b"\1" + mask
    yield b"\1" + array(header("<u2", "(1, 1, 1, 1, 1, 1, 1, 2)"), b"ab", version=2)
    yield b"\1" + array("{'shape': (), \"descr\": '|O', 'fortran_order': True}    ", version=3)
    yield b"\1" + array("{'descr': [('a', '<i4', (2,)), ('b', '|u1')], 'fortran_order': False, 'shape': (3,)}")


def varint(value):
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def message(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def tokenizers():
    """A text with its length in front, then a sentencepiece.ModelProto."""

    def piece(text, score, kind=1):
        return message(1, message(1, text.encode()) + b"\x15" + struct.pack("<f", score)
                       + (b"\x18" + varint(kind) if kind != 1 else b""))

    def model(pieces, kind=1, normalizer=b""):
        trainer = b"\x18" + varint(kind) + b"\xc0\x02\x00\xc8\x02\x01\xd0\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
        return b"".join(pieces) + message(2, trainer) + message(3, normalizer)

    special = [piece("<unk>", 0, 2), piece("</s>", 0, 3)]
    words = [piece("\u2581", -2), piece("a", -3), piece("b", -3.5), piece("ab", -4), piece("\u2581red", -5),
             piece("\u2581apple", -6)]
    unigram = model(special + words)
    yield b"\x09red apple" + unigram
    yield b"\x05ab\xff\xc3\xa9" + unigram
    yield b"\x04abab" + model(special + words, kind=2)
    yield b"\x02ab" + model(special + words, kind=3)
    yield b"\x02ab" + model(special + words, kind=4)
    yield b"\x00" + model(special)
    # A character map: the size of the trie, the trie (4-byte units), replacement texts.
    chars = struct.pack("<I", 8) + struct.pack("<II", 0, 0) + b"\0"
    yield b"\x03aXb" + model(special + words, normalizer=message(1, b"x") + message(2, chars) + b"\x18\x01\x20\x01\x28\x01")


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "corpus"
    kinds = {"safetensors": safetensors, "json": json_configs, "image": images, "symbols": symbols,
             "tokenizer": tokenizers, "npz": npz}
    for kind, seeds in kinds.items():
        folder = root / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds()):
            (folder / f"seed-{number:02}").write_bytes(data)


if __name__ == "__main__":
    main()
