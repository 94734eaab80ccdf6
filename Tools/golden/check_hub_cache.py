"""What huggingface_hub makes of a cache, and the cache that it makes.

    python check_hub_cache.py read CACHE MODEL FILE…   finds a model and its files without asking anybody
    python check_hub_cache.py pull CACHE MODEL         fetches a model from HF_ENDPOINT

Prints JSON: `folder`, the snapshot's, and `found`, for each FILE whether it is there.
"""

import json
import sys

from huggingface_hub import snapshot_download, try_to_load_from_cache

mode, cache, model, *files = sys.argv[1:]
folder = snapshot_download(model, cache_dir=cache, local_files_only=mode == "read")
found = {name: isinstance(try_to_load_from_cache(model, name, cache_dir=cache), str) for name in files}
print(json.dumps({"folder": folder, "found": found}))
