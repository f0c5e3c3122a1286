"""Paint a photo with an exported style: numpy, pillow and onnxruntime, no torch.

    content-client export --bundle style.mdfy --onnx --out style.onnx
    python examples/05_onnx_without_torch.py style.onnx face.jpg painted.png 7

The photo shows one face, aligned. The last word is the number of a style; the
picture is that of ``content-client stylize --no-align --seed 7``, to one level of 255.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, source, target, seed = [*sys.argv[1:], "0"][:4]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
meta = session.get_modelmeta().custom_metadata_map
known = json.loads(meta["styles"])
side, z_dim = session.get_inputs()[0].shape[2], session.get_inputs()[1].shape[1]
z = known.get(seed) or np.random.default_rng(int(seed)).standard_normal(z_dim)  # any other noise draws a style too
with Image.open(source) as image:
    face = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (side, side), Image.Resampling.BICUBIC)
photo = np.asarray(face, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1  # [1, 3, R, R]
feed = {"photo": photo, "z": np.array([z], np.float32), "strength": np.array(1, np.float32)}
(painted,) = session.run(["painted"], feed)
Image.fromarray(np.rint((painted[0].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)).save(target)
print(f"{target}: style {seed}{'' if seed in known else ' (drawn here)'} of {meta['name']}, {meta['licence']}")
sys.exit("torch was imported" if "torch" in sys.modules else 0)
