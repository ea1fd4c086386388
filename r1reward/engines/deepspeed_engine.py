"""One rank of the learner: a DeepSpeed engine around the policy model.

Every method that touches the model is a collective: all ranks call it, with the same number of
micro-batches.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import distributed as dist

from r1reward.algorithm.batch import BatchSize, RankBatch
from r1reward.algorithm.learning_rate import learning_rate
from r1reward.algorithm.supervised import supervised_loss
from r1reward.engines.deepspeed_setup import (
    RankAddress,
    build_optimizer,
    deepspeed_config,
    join_process_group,
    steps_plain_optimizer,
)
from r1reward.engines.library_calls import learner_calls, require_calls
from r1reward.engines.rank_loss import policy_loss_share, split_rows
from r1reward.engines.rank_weights import file_pieces, weight_buckets
from r1reward.engines.weight_buckets import unpack
from r1reward.errors import InputError
from r1reward.metrics import Metrics, Name, last, maximum, mean, merge, total
from r1reward.models.image_check import IMAGES_LOST, images_matter
from r1reward.models.lora import add_lora
from r1reward.models.parts import freeze_parts, move_frozen, parameter_groups
from r1reward.models.policy import (
    DTYPES,
    MicroBatchBuilder,
    PolicyModel,
    load_policy_model,
    neutral_generation_config,
)
from r1reward.models.processor import PolicyProcessor
from r1reward.models.weight_names import whole_weights
from r1reward.recipe.components import LearnerSettings
from r1reward.runs.storage import fetched, forget, scratch_folder, written_to
from r1reward.types import Location, TraceSample, TrainingSample, WeightBucket

S = TypeVar("S", bound=TraceSample)
# A micro-batch's share of the loss of the whole batch, and its metrics.
LossShare = Callable[[Sequence[S], BatchSize], tuple[torch.Tensor, Metrics]]
HOST = torch.device("cpu")


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient is not a finite number; the step was not taken."""


class DeepSpeedRank:
    """The policy, its optimizer and, where the settings ask for it, the reference model.

    Whoever starts it has decided on ``learner.packing`` (``models/packing_rules.py``).
    """

    def __init__(self, settings: LearnerSettings, address: RankAddress) -> None:
        self.settings = settings
        self.address = address
        cuda = settings.placement.device == "cuda"
        self.device = torch.device("cuda", 0) if cuda else torch.device("cpu")
        join_process_group(settings, address)
        require_calls(learner_calls(settings))
        import deepspeed

        learner = settings.learner
        self.processor = PolicyProcessor(settings.model)
        dtype = DTYPES[settings.model.dtype]
        self.builder = MicroBatchBuilder(self.processor, dtype, learner.image_cache_mb)
        self.num_updates = 0
        self.images_arrive = False
        self.reference: PolicyModel | None = None
        if settings.algorithm.needs_reference:
            self.reference = self.load_model().to(self.device).eval()
        model = self.load_model().train()
        self.weight_names = list(whole_weights(model.hf))
        freeze_parts(model.hf, learner)
        if learner.lora is not None:
            add_lora(model.hf, learner.lora, settings.seed)
        groups = parameter_groups(model.hf, learner)
        self.lr_scales = [group.pop("lr_scale") for group in groups]
        optimizer = build_optimizer(groups, learner)
        optimizer.register_step_pre_hook(self.before_step)
        self.grad_norm = math.nan
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=deepspeed_config(settings)
        )

    def load_model(self) -> PolicyModel:
        learner = self.settings.learner
        return load_policy_model(
            self.settings.model,
            learner.logprob_chunk_tokens,
            learner.gradient_checkpointing,
            learner.packing is True,
        )

    def logprobs(
        self, batch: RankBatch[TraceSample], model: Literal["policy", "reference"]
    ) -> list[list[np.ndarray]]:
        """Log-probs of the response tokens, per micro-batch and sample, arrays [R]."""
        self.check_images(batch)
        module = self.engine if model == "policy" else self.reference
        assert module is not None, "the recipe did not ask for a reference model"
        results: list[list[np.ndarray]] = []
        with torch.no_grad():
            for samples, is_padding in batch.rounds():
                inputs = self.builder.build(samples).to(self.device)
                logprobs_BT, _ = module(inputs)
                if not is_padding:
                    results.append(split_rows(logprobs_BT, inputs.mask_BT))
        return results

    def update(self, batch: RankBatch[TrainingSample]) -> Metrics:
        """One RL step over this rank's micro-batches."""
        return self.step(batch, self.policy_share)

    def fit(self, batch: RankBatch[TraceSample]) -> Metrics:
        """One supervised optimizer step."""
        return self.step(batch, self.supervised_share)

    def evaluate_loss(self, batch: RankBatch[TraceSample]) -> Metrics:
        """The supervised loss and its metrics, without a gradient or a step."""
        self.check_images(batch)
        with torch.no_grad():
            _, metrics = self.run_rounds(batch, self.supervised_share, backward=False)
        return metrics | self.image_seconds()

    def step(self, batch: RankBatch[S], share: LossShare[S]) -> Metrics:
        """Gradients of all micro-batches, then the optimizer. Raises as ``run_rounds`` does."""
        self.check_images(batch)
        loss_sum, metrics = self.run_rounds(batch, share, backward=True)
        settings = self.settings
        rate = learning_rate(self.num_updates, settings.num_updates, settings.learner)
        for group, scale in zip(self.optimizer.param_groups, self.lr_scales, strict=True):
            group["lr"] = rate * scale
        self.engine.step()
        self.num_updates += 1
        return (
            metrics
            | self.image_seconds()
            | {
                Name.LEARNER_GRAD_NORM: maximum(self.grad_norm),
                Name.LEARNER_LR: last(rate),
                # Every rank reports its share of the loss; the driver's sum is the loss of the batch.
                Name.LEARNER_LOSS: mean(loss_sum * self.address.num_ranks, 1.0),
            }
        )

    def run_rounds(
        self, batch: RankBatch[S], share: LossShare[S], backward: bool
    ) -> tuple[float, Metrics]:
        """This rank's share of the loss and its metrics; gradients are left in place.

        Raises ``NonFiniteLossError`` on every rank if any rank's loss is not finite.
        """
        metrics_of_rounds: list[Metrics] = []
        loss_sum = 0.0
        for samples, is_padding in batch.rounds():
            loss, metrics = share(samples, batch.size)
            if backward:
                # DeepSpeed averages over ranks; the shares of the loss have to add up instead.
                self.engine.backward(loss * (0.0 if is_padding else self.address.num_ranks))
            if not is_padding:
                metrics_of_rounds.append(metrics)
                loss_sum += loss.item()
        self.require_finite(loss_sum, "loss")
        return loss_sum, merge(metrics_of_rounds)

    def image_seconds(self) -> Metrics:
        """Of all that was computed since the last update."""
        return {Name.TIME_PREPARE_IMAGES_S: total(self.builder.take_prepare_images_s())}

    def check_images(self, batch: RankBatch[S]) -> None:
        """With the first batch that has images: others must change the log-probs.

        Raises ``InputError`` on every rank if they do not on one.
        """
        if self.images_arrive:
            return
        seeing = [
            micro_batch
            for micro_batch in batch.micro_batches
            if any(sample.images and sample.response_token_ids for sample in micro_batch)
        ]
        if not self.on_any_rank(bool(seeing)):
            return
        # A rank without images runs the model as well: every call of it is a collective.
        inputs = self.builder.build((seeing or batch.micro_batches)[0]).to(self.device)
        changed = images_matter(self.engine, inputs)
        if self.on_any_rank(bool(seeing) and not changed):
            raise InputError(IMAGES_LOST)
        self.images_arrive = True

    def on_any_rank(self, here: bool) -> bool:
        """All ranks agree on it, so that none waits for a rank that has stopped."""
        flag = torch.tensor([float(here)], device=self.device)
        if self.address.num_ranks > 1:
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def supervised_share(
        self, samples: Sequence[TraceSample], size: BatchSize
    ) -> tuple[torch.Tensor, Metrics]:
        inputs = self.builder.build(samples).to(self.device)
        logprobs_BT, _ = self.engine(inputs)
        return supervised_loss(logprobs_BT, inputs.mask_BT, size.num_tokens)

    def policy_share(
        self, samples: Sequence[TrainingSample], size: BatchSize
    ) -> tuple[torch.Tensor, Metrics]:
        inputs = self.builder.build(samples).to(self.device)
        logprobs_BT, entropies_BT = self.engine(inputs)
        return policy_loss_share(
            self.settings, samples, logprobs_BT, entropies_BT, inputs.mask_BT, size
        )

    def before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Between reducing the gradients and moving the weights: the norm, and a last look at it.

        ZeRO's optimizers clip and know the global norm; without them the gradients are here, whole.
        """
        if steps_plain_optimizer(self.settings):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            limit = self.settings.learner.max_grad_norm
            self.grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        else:
            self.grad_norm = float(self.optimizer._global_grad_norm)
        self.require_finite(self.grad_norm, "gradient norm")

    def require_finite(self, value: float, what: str) -> None:
        """Raises ``NonFiniteLossError`` on every rank if the value of one is not a finite number."""
        if self.on_any_rank(not math.isfinite(value)):
            raise NonFiniteLossError(
                f"the {what} of update {self.num_updates} is not finite (here {value}): "
                "lower learner.lr, or look at the last batch"
            )

    def weight_buckets(
        self, as_checkpoint: bool = False
    ) -> Iterator[tuple[WeightBucket, np.ndarray]]:
        """Every weight of the model as it was loaded, also the frozen ones; on rank 0 alone."""
        hf, rank = self.engine.module.hf, self.address.rank
        return weight_buckets(hf, self.weight_names, self.settings, rank, as_checkpoint)

    def publish(self) -> Iterator[WeightBucket | np.ndarray]:
        """Header, bytes, header, bytes and so on: for a store that keeps each as an object of its own."""
        # One by one: Ray sends into the innermost iterator, which must be a generator.
        for header, data in self.weight_buckets(as_checkpoint=True):
            yield header
            yield data

    def leave_gpu(self) -> None:
        """Parameters, gradients and optimizer states to host memory, the reference model as well.

        The reduce bucket is not there: DeepSpeed frees it at the end of every backward pass.
        """
        # DeepSpeed moves what its optimizer holds, which frozen weights are not.
        self.engine.offload_states()
        move_frozen(self.engine.module, HOST)
        if self.reference is not None:
            self.reference.to(HOST)
        torch.cuda.empty_cache()

    def come_to_gpu(self) -> None:
        self.engine.reload_states()
        move_frozen(self.engine.module, self.device)
        if self.reference is not None:
            self.reference.to(self.device)

    def save(self, folder: Location) -> None:
        """Write this rank's share of the state into a folder that is there, or into a remote one."""
        with written_to(folder, self.settings.scratch) as path:
            self.engine.save_checkpoint(
                str(path), tag="learner", client_state={"num_updates": self.num_updates}
            )

    def reads(self, name: str) -> bool:
        """Whether ``load`` on this rank opens that file: other ranks' states stay where they are."""
        of_rank = re.search(r"zero_pp_rank_(\d+)_", name)
        return of_rank is None or int(of_rank[1]) == self.address.rank

    def load(self, folder: Location) -> None:
        """Go on from a saved state. A copy that was made of it stays until ``forget``."""
        path = fetched(folder, self.settings.scratch, self.reads)
        _, client_state = self.engine.load_checkpoint(str(path), tag="learner")
        self.num_updates = int(client_state["num_updates"])

    def forget(self, folder: Location) -> None:
        """After all ranks have loaded it."""
        forget(folder, self.settings.scratch)

    def export(self, folder: Path) -> None:
        """A Hugging Face folder with a neutral generation config: loads anywhere as it is."""
        state: dict[str, torch.Tensor] = {}
        for header, data in self.weight_buckets():
            state |= dict(unpack(header, data))
        if self.address.rank == 0:
            hf: Any = self.engine.module.hf
            hf.generation_config = neutral_generation_config(hf.generation_config)
            hf.save_pretrained(folder, state_dict=state, safe_serialization=True)
            self.processor.processor.save_pretrained(folder)

    def export_pieces(self) -> Iterator[tuple[str, bytes]]:
        """The files of the export, as ``file_pieces`` gives them."""
        with scratch_folder(self.settings.scratch) as folder:
            self.export(folder)
            yield from file_pieces(folder)
