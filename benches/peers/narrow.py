#!/usr/bin/env python3
"""Makes an onnxruntime that sees a processor without AVX-512, for comparisons by AVX2.

    python benches/peers/narrow.py OUT
    PYTHONPATH=OUT ONEDNN_MAX_CPU_ISA=AVX2 python benches/peers/towers.py … --kernels avx2

onnxruntime asks the processor what it can do and has no switch to ask for less. OUT gets a copy of the
installed package in whose libraries every `cpuid` instruction is an undefined one of the same two bytes
(`ud2`); a handler of the signal that follows (`narrow.c`) gives the processor's own answer less AVX-512 and
AVX-VNNI. Nothing else of the package is changed. Needs gcc and objdump (Debian: binutils).
"""
from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime

HERE = Path(__file__).parent
CPUID, UNDEFINED = b"\x0f\xa2", b"\x0f\x0b"
LOADER = ("import ctypes as _ctypes, os as _os\n"
          "_ctypes.CDLL(_os.path.join(_os.path.dirname(_os.path.abspath(__file__)), 'narrow.so'))\n")


def output(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def sections(library: Path) -> list[tuple[int, int, int]]:
    """(address, size, place in the file) of the sections of a library."""
    rows = re.findall(r"^ *\d+ \S+ +([0-9a-f]+) +([0-9a-f]+) +[0-9a-f]+ +([0-9a-f]+)", output("objdump", "-h", library), re.M)
    return [(int(address, 16), int(size, 16), int(place, 16)) for size, address, place in rows]


def narrow(library: Path) -> int:
    """Replaces the `cpuid` instructions of a library; how many there were."""
    code = bytearray(library.read_bytes())
    places = sections(library)
    found = re.findall(r"^ *([0-9a-f]+):\t0f a2 +\tcpuid", output("objdump", "-d", library), re.M)
    for address in (int(text, 16) for text in found):
        start, _, place = next(row for row in places if row[0] <= address < row[0] + row[1])
        at = address - start + place
        assert code[at:at + 2] == CPUID
        code[at:at + 2] = UNDEFINED
    library.write_bytes(code)
    return len(found)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    source = Path(onnxruntime.__file__).parent
    copy = Path(sys.argv[1]) / "onnxruntime"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    found = {library.name: narrow(library) for library in sorted(copy.rglob("*.so*"))}
    for name, count in found.items():
        print(f"{name}: {count} cpuid instructions")
    if not any(found.values()):
        raise SystemExit(f"{copy}: no cpuid instruction was found, so the copy sees what the original sees")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", copy / "narrow.so", HERE / "narrow.c"], check=True)
    start = copy / "__init__.py"
    text = start.read_text()
    if "from __future__" in text:
        raise SystemExit(f"{start}: begins with a __future__ import; the loader must come after it")
    start.write_text(LOADER + text)


if __name__ == "__main__":
    main()
