"""What transformers' image processors make of the pictures of `images.py`, with Pillow.

Needs Pillow beside transformers. Writes Golden/images/processors.json, each processor's preprocessor_config.json by name, and processors.safetensors with
`PROCESSOR.PICTURE` [C, H, W] of each of them for each picture.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from golden import GOLDEN, versions, write_json, write_tensors

FOLDER = GOLDEN / "images"
PICTURES = ["photo.png", "rgba.png", "grey.png", "palette.png", "full.jpg"]
PROCESSORS = {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 12}, crop_size={"height": 10, "width": 10}),
    "clip-odd": CLIPImageProcessorPil(size={"shortest_edge": 11}, crop_size={"height": 8, "width": 6}),
    "clip-larger-crop": CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 13, "width": 12}),
    "clip-no-crop": CLIPImageProcessorPil(size={"height": 6, "width": 9}, do_center_crop=False, resample=2),
    "vit": ViTImageProcessorPil(size={"height": 8, "width": 8}),
}


def main():
    configurations, tensors = {}, {}
    for name, processor in PROCESSORS.items():
        with tempfile.TemporaryDirectory() as folder:
            processor.save_pretrained(folder)
            configurations[name] = json.loads((Path(folder) / "preprocessor_config.json").read_text())
        for picture in PICTURES:
            image = Image.open(FOLDER / picture)
            if not name.startswith("clip"):
                image = image.convert("RGB")
            values = processor(image, return_tensors="np")["pixel_values"][0]
            tensors[f"{name}.{picture}"] = torch.from_numpy(np.asarray(values))
            print(name, picture, values.shape, values.dtype)
    write_json(FOLDER / "processors.json", configurations)
    write_tensors(FOLDER / "processors.safetensors", tensors)
    facts = versions() | {"pillow": PIL.__version__}
    write_json(FOLDER / "processors-manifest.json", {"generator": "Tools/golden/processors.py", "versions": facts})


if __name__ == "__main__":
    main()
