"""Loading the weights of a Hugging Face directory: time and memory, beside copying the same bytes.

    python benchmarks/load.py [--runs 5] [--layers 12] [--json FILE]

Random weights of roberta-base's size are written in float32, float16 and bfloat16 to a
temporary folder (1 GB in all), and lie in the system's cache. Then, each time in a process of its own, in turns whose
order is drawn anew, since a process finds memory in the state in which the one before it left it:

- ours: `hf.read_params`, which gives one float32 vector, kernels turned around, every number checked to be finite;
- theirs: `safetensors.numpy.load_file`, which copies each tensor as it lies (not for bfloat16, which NumPy lacks; there
  the ratio is that to their float16).

Time is that of the call alone, by the clock and of the processor; the latter is what a busy machine leaves sound.
Memory is the peak of anonymous memory (RssAnon, sampled each millisecond) above what there was before the call; the
file's mapping is not in it. The ratio is to the bytes of the float32 parameters.

The targets: 1.5 times their time from float32, and 1.1 times the parameters from any type.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import Machine, median, parser, positive, say, span, table, write

ROOT = Path(__file__).resolve().parents[1]
TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
CHILD = """
import json, sys, threading, time
from pathlib import Path
import numpy as np

side, directory, measured = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
if side == "ours":
    from pyroberta.formats.directory import Directory
    from pyroberta.presets import hf
    config = hf.read_config(Directory(directory))
    load = lambda: hf.read_params(Directory(directory), config)
else:
    from safetensors.numpy import load_file
    load = lambda: load_file(directory / "model.safetensors")

def anonymous():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])

peak, over = anonymous(), threading.Event()
before = peak
def watch():
    global peak
    while not over.wait(0.001):
        peak = max(peak, anonymous())
if measured == "memory":
    watcher = threading.Thread(target=watch)
    watcher.start()
started, worked = time.perf_counter(), time.process_time()
kept = load()
seconds, worked = time.perf_counter() - started, time.process_time() - worked
peak = max(peak, anonymous())
over.set()
print(json.dumps({"seconds": seconds, "cpu": worked, "bytes": peak - before}))
"""


def tensors(layers: int) -> dict[str, np.ndarray]:
    from pyroberta.model.config import RobertaConfig
    from pyroberta.presets import hf
    from pyroberta.presets.renaming import stored_shapes

    config = RobertaConfig(50265, layers, 12, 768, 3072)
    rng = np.random.default_rng(0)
    shapes = stored_shapes(hf.renaming(config), config)
    made = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    made[hf.TOKEN_TYPE] = np.zeros((1, 768), np.float32)
    return made


def write_directory(directory: Path, made: dict[str, np.ndarray], kind: str, layers: int) -> None:
    """config.json and model.safetensors, the latter by hand: NumPy has no bfloat16 to give to safetensors."""
    directory.mkdir()
    sizes = {"vocab_size": 50265, "num_hidden_layers": layers, "max_position_embeddings": 514, "type_vocab_size": 1}
    (directory / "config.json").write_text(json.dumps({"model_type": "roberta", "layer_norm_eps": 1e-5, **sizes}))
    header: dict[str, Any] = {}
    stop = 0
    for name, values in made.items():
        start, stop = stop, stop + values.size * (4 if kind == "float32" else 2)
        header[name] = {"dtype": TYPES[kind], "shape": values.shape, "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(directory / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in made.values():
            if kind == "bfloat16":
                file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
            else:
                file.write(values.astype(kind).tobytes())


def measure(side: str, directory: Path, measured: str) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, side, str(directory), measured]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    made_parser = parser(__doc__, runs=5)
    made_parser.add_argument("--layers", type=positive, default=12, help="fewer for a quick look (default: 12)")
    arguments = made_parser.parse_args()
    machine = Machine.this()
    say(str(machine))
    with tempfile.TemporaryDirectory() as folder:
        made = tensors(arguments.layers)
        size = 4 * sum(values.size for values in made.values())
        for kind in TYPES:
            write_directory(Path(folder, kind), made, kind, arguments.layers)
        del made
        sides = [("ours", kind) for kind in TYPES] + [("theirs", "float32"), ("theirs", "float16")]
        times: dict[str, dict[str, list[float]]] = {
            which: {f"{side} {kind}": [] for side, kind in sides} for which in ("seconds", "cpu")
        }
        peaks = {}
        for side, kind in sides:
            peaks[f"{side} {kind}"] = measure(side, Path(folder, kind), "memory")["bytes"]
        order = random.Random(0)
        for _ in range(arguments.runs):
            for side, kind in order.sample(sides, len(sides)):
                measured = measure(side, Path(folder, kind), "time")
                for which in times:
                    times[which][f"{side} {kind}"].append(measured[which])
    rows = []
    for side, kind in sides:
        name, other = f"{side} {kind}", "theirs float32" if kind == "float32" else "theirs float16"
        row = [name]
        for seconds in times.values():
            row += [f"{median(seconds[name]):.2f} ({span(seconds[name])})"]
            row += [f"{f(seconds[name]) / f(seconds[other]):.2f}" if side == "ours" else "" for f in (median, min)]
        rows.append([*row, f"{peaks[name] / size:.3f}"])
    head = [
        "",
        "s, median (from to)",
        "x theirs",
        "minima",
        "s of the processor",
        "x theirs",
        "minima",
        "peak x parameters",
    ]
    say(table(head, rows))
    write(arguments.json, {"machine": str(machine), **times, "bytes": peaks, "parameters": size})


if __name__ == "__main__":
    main()
