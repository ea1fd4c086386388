"""What a forked process has imported; only the server it is forked from loads this (``forked.py``)."""

import atexit
import gc
import os

os.environ["DS_ACCELERATOR"] = "cpu"
gc.disable()

import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: E402, F401  # DeepSpeed loads it at last
import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl  # noqa: E402
import transformers.models.qwen2_5_vl.processing_qwen2_5_vl  # noqa: E402, F401
from PIL import Image  # noqa: E402

import r1reward.cli.main  # noqa: E402
import r1reward.engines.in_process  # noqa: E402
import r1reward.engines.torch_sampler  # noqa: E402
import r1reward.pipeline.run  # noqa: E402, F401
import tests.samples  # noqa: E402, F401

Image.init()
gc.freeze()
atexit.register(gc.unfreeze)  # else libraries take what is frozen for leaks, and list it
gc.enable()
