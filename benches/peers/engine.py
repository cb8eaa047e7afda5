"""One engine on one tower in a process of its own: prints a line of JSON when ready and after each "run".

    python engine.py onnxruntime|openvino MODEL.onnx INPUTS.npz THREADS REPETITIONS

INPUTS.npz holds an array for every input of the graph. The process keeps to as many processors as it
has threads, so that threads of the engine cannot spread further.
"""
from __future__ import annotations

import json
import os
import sys
import time

engine, model, inputs_file, threads, repetitions = sys.argv[1:]
threads, repetitions = int(threads), int(repetitions)
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

import numpy as np  # noqa: E402  (after the affinity, which thread pools look at)

inputs = dict(np.load(inputs_file))


def onnxruntime_engine():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)[0]


def openvino_engine():
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Otherwise what is not int8 runs in bfloat16 where the processor can.
        "INFERENCE_PRECISION_HINT": os.environ.get("OPENVINO_PRECISION", "f32"),
        "ENABLE_CPU_PINNING": False,
    })
    request = compiled.create_infer_request()
    feed = {name: array for name, array in inputs.items()}

    def infer():
        request.infer(feed)
        return request.get_output_tensor(0).data
    return infer


def say(**values) -> None:
    print(json.dumps(values), flush=True)


start = time.perf_counter()
infer = {"onnxruntime": onnxruntime_engine, "openvino": openvino_engine}[engine]()
load = (time.perf_counter() - start) * 1e3
embedding = np.array(infer()).ravel().astype(float)
say(load_ms=load, embedding=embedding.tolist())
for line in sys.stdin:
    for _ in range(3):
        infer()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        infer()
        times.append((time.perf_counter() - start) * 1e3)
    with open("/proc/self/status") as status:
        peak = next(int(row.split()[1]) for row in status if row.startswith("VmHWM"))
    say(median_ms=float(np.median(times)), p95_ms=float(np.percentile(times, 95, method="nearest")), peak_kib=peak)
