"""Weight bundles from the object store through vLLM's own weight-transfer interface.

``register`` is a ``vllm.general_plugins`` entry point, so vLLM calls it in every process that holds
a model, tensor-parallel workers included.
"""

from dataclasses import dataclass

import numpy as np
from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from r1reward.engines.weight_buckets import unpack
from r1reward.types import WeightBucket

BACKEND = "r1reward_bundle"


@dataclass
class BundleInitInfo(WeightTransferInitInfo):
    """Nothing to agree on beforehand: engines pull."""


@dataclass
class BundleUpdateInfo(WeightTransferUpdateInfo):
    """One bucket: ``data`` is the uint8 array that holds the tensors one after the other."""

    header: WeightBucket
    data: np.ndarray


class BundleTransferEngine(WeightTransferEngine[BundleInitInfo, BundleUpdateInfo]):
    init_info_cls = BundleInitInfo
    update_info_cls = BundleUpdateInfo

    def init_transfer_engine(self, init_info: BundleInitInfo) -> None:
        pass

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: BundleUpdateInfo) -> None:
        tensors = unpack(update_info.header, update_info.data)
        self.model.load_weights((name, tensor.to(self.device)) for name, tensor in tensors)

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        # A tied head loads through the embedding, so the reload does not see it; kernels that
        # repack weights would go on using the packed copy of the old one.
        for module in self.model.modules():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        pass


def register() -> None:
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, BundleTransferEngine)
