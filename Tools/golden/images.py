"""Pictures, and what Pillow makes of them.

Needs Pillow beside numpy and safetensors; no PyTorch.

Golden/images:
    NAME.png, NAME.jpg               small pictures of each kind that is read
    t10k-8.idx3, t10k-8.idx1         eight made-up digits of 28 × 28 and their labels, as MNIST is published; .gz of both
    expected.safetensors
        NAME                         [H, W, C] the decoded bytes, C as stored (1, 3, 4)
        NAME.rgb, NAME.grey          convert("RGB"), convert("L")
        photo.WxH.FILTER             resize of the picture in RGB
        photo.vit                    [3, 8, 8] as ViTImageProcessor: resize, divide by 255, mean and deviation 0.5
        photo.clip                   [3, 10, 10] as CLIPImageProcessor: shortest edge 12 bicubic, crop 10, CLIP's mean and deviation
        digits                       [8, 28, 28]
"""

import gzip
import json
import platform
import struct
from pathlib import Path

import numpy as np
import PIL
import safetensors
from PIL import Image, features
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parents[2] / "Tests" / "ParityTests" / "Golden" / "images"
SEED = 20261127
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def picture(random, height, width, channels):
    """Soft blobs with some noise: neither flat nor pure noise, which JPEG would not survive."""
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(channels):
        a, b, c = random.uniform(0.1, 0.5, 3)
        planes.append(127 + 90 * np.sin(a * x + 3 * c) * np.cos(b * y + c) + random.normal(0, 12, (height, width)))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def normalized(image, mean, deviation):
    values = np.asarray(image, np.float32) * np.float32(1 / 255)
    return np.ascontiguousarray(((values - mean) / deviation).transpose(2, 0, 1))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    expected = {}
    photo = Image.fromarray(picture(random, 23, 37, 3))
    kinds = {
        "grey.png": Image.fromarray(picture(random, 9, 14, 1)[..., 0]),
        "rgb.png": Image.fromarray(picture(random, 11, 7, 3)),
        "rgba.png": Image.fromarray(picture(random, 6, 8, 4)),
        "palette.png": Image.fromarray(picture(random, 10, 12, 3)).quantize(16),
        "photo.png": photo,
        "photo.jpg": photo,
        "full.jpg": Image.fromarray(picture(random, 19, 21, 3)),
        "grey.jpg": Image.fromarray(picture(random, 17, 9, 1)[..., 0]),
    }
    for name, image in kinds.items():
        options = {}
        if name.endswith("jpg"):
            options = {"quality": 90, "subsampling": 0 if name == "full.jpg" else 2}
        image.save(OUT / name, **options)
        read = Image.open(OUT / name)
        pixels = np.asarray(read.convert("RGB") if read.mode == "P" else read)
        expected[name] = pixels.reshape(*pixels.shape[:2], -1)
        expected[f"{name}.rgb"] = np.asarray(read.convert("RGB"))
        expected[f"{name}.grey"] = np.asarray(read.convert("RGB").convert("L"))[..., None]
    for width, height in [(8, 8), (37, 10), (11, 23), (60, 41), (1, 1), (20, 12)]:
        for name, filter in [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)]:
            expected[f"photo.{width}x{height}.{name}"] = np.asarray(photo.resize((width, height), filter))
    expected["photo.vit"] = normalized(photo.resize((8, 8), Image.BILINEAR), np.float32(0.5), np.float32(0.5))
    scaled = photo.resize((int(12 * 37 / 23), 12), Image.BICUBIC)
    left, top = (scaled.width - 10) // 2, (scaled.height - 10) // 2
    expected["photo.clip"] = normalized(scaled.crop((left, top, left + 10, top + 10)), MEAN, DEVIATION)

    digits = picture(random, 28, 28, 8).transpose(2, 0, 1)
    labels = np.array([7, 2, 1, 0, 4, 1, 4, 9], np.uint8)
    files = {
        "t10k-8.idx3": struct.pack(">4B3I", 0, 0, 8, 3, 8, 28, 28) + digits.tobytes(),
        "t10k-8.idx1": struct.pack(">4BI", 0, 0, 8, 1, 8) + labels.tobytes(),
    }
    for name, data in files.items():
        (OUT / name).write_bytes(data)
        (OUT / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
    expected["digits"] = digits
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in expected.items()}, OUT / "expected.safetensors")
    manifest = {
        "script": "images.py",
        "versions": {
            "python": platform.python_version(),
            "pillow": PIL.__version__,
            "libjpeg-turbo": features.version_feature("libjpeg_turbo"),
            "numpy": np.__version__,
            "safetensors": safetensors.__version__,
        },
        "seed": SEED,
    }
    (OUT / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
