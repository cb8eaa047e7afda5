#!/usr/bin/env python3
"""Makes tests/data/yuyv: a YUYV frame of 16 x 12 pixels and what OpenCV makes of it in RGB.

    pip install opencv-python-headless numpy
    python tests/scripts/yuyv_reference.py tests/data/yuyv
"""
import pathlib
import sys

import cv2
import numpy

out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
# Every value of luma and colour, those outside the range of television too.
frame = numpy.random.default_rng(6).integers(0, 256, (12, 16, 2), dtype=numpy.uint8)
(out / "frame.yuyv").write_bytes(frame.tobytes())
(out / "frame.rgb").write_bytes(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_YUYV).tobytes())
