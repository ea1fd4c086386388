"""One rank of the learner: a DeepSpeed engine around the policy model.

Every method that touches the model is a collective: all ranks call it, with the same number of
micro-batches.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

os.environ.setdefault("DS_ACCELERATOR", "cpu" if not os.environ.get("CUDA_VISIBLE_DEVICES") else "")
if not os.environ["DS_ACCELERATOR"]:
    del os.environ["DS_ACCELERATOR"]

import deepspeed
import numpy as np
import torch
from torch import distributed as dist

from r1reward.algorithm.batch import BatchSize
from r1reward.algorithm.correction import rollout_weights
from r1reward.algorithm.learning_rate import learning_rate
from r1reward.algorithm.loss import policy_loss
from r1reward.algorithm.supervised import supervised_loss
from r1reward.engines.weight_buckets import group_by_bytes, pack, unpack
from r1reward.metrics import Metrics, last, maximum, mean, merge
from r1reward.models.lora import add_lora, merged, with_adapters
from r1reward.models.parts import freeze_parts, parameter_groups
from r1reward.models.policy import (
    DTYPES,
    MicroBatch,
    MicroBatchBuilder,
    PolicyModel,
    load_policy_model,
    neutral_generation_config,
)
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.recipe.recipe import Recipe
from r1reward.types import TraceSample, TrainingSample, WeightBucket

S = TypeVar("S", bound=TraceSample)
# A micro-batch's share of the loss of the whole batch, and its metrics.
LossShare = Callable[[Sequence[S]], tuple[torch.Tensor, Metrics]]


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient is not a finite number; the step was not taken."""


@dataclass(frozen=True)
class RankAddress:
    """This rank's place in the group, and where rank 0 listens."""

    rank: int
    num_ranks: int
    host: str
    port: int


class DeepSpeedRank:
    def __init__(self, recipe: Recipe, address: RankAddress) -> None:
        self.recipe = recipe
        self.address = address
        cuda = recipe.placement.device == "cuda"
        self.device = torch.device("cuda", 0) if cuda else torch.device("cpu")
        os.environ |= {
            "MASTER_ADDR": address.host,
            "MASTER_PORT": str(address.port),
            "RANK": str(address.rank),
            "WORLD_SIZE": str(address.num_ranks),
            "LOCAL_RANK": "0",  # every rank is an actor that sees only its own GPU
        }
        if not recipe.learner.offload_optimizer:
            # DeepSpeed otherwise compiles a C++ op at start that nothing here uses (a minute, and a
            # compiler). Offloading does compile one: Adam on the host.
            deepspeed.ops.__compatible_ops__ = {}
        torch.set_num_threads(recipe.placement.threads)
        torch.manual_seed(recipe.seed)
        deepspeed.init_distributed(
            dist_backend="nccl" if cuda else "gloo",
            timeout=timedelta(seconds=recipe.learner.timeout_s),
            verbose=False,
        )
        self.processor = PolicyProcessor(recipe.model)
        self.builder = MicroBatchBuilder(
            self.processor, DTYPES[recipe.model.dtype], recipe.learner.image_cache_mb
        )
        self.num_updates = 0
        self.reference: PolicyModel | None = None
        if recipe.algorithm.needs_reference:
            self.reference = self.load_model().to(self.device).eval()
        model = self.load_model().train()
        self.parameter_names = [name for name, _ in model.hf.named_parameters()]
        freeze_parts(model.hf, recipe.learner)
        if recipe.learner.lora is not None:
            add_lora(model.hf, recipe.learner.lora, recipe.seed)
        groups = parameter_groups(model.hf, recipe.learner)
        self.lr_scales = [group.pop("lr_scale") for group in groups]
        optimizer = build_optimizer(groups, recipe.learner)
        optimizer.register_step_pre_hook(self.before_step)
        self.grad_norm = math.nan
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=deepspeed_config(recipe)
        )

    def load_model(self) -> PolicyModel:
        learner = self.recipe.learner
        return load_policy_model(
            self.recipe.model,
            learner.logprob_chunk_tokens,
            learner.gradient_checkpointing,
            learner.packing,
        )

    def logprobs(
        self,
        micro_batches: Sequence[Sequence[TraceSample]],
        num_rounds: int,
        model: Literal["policy", "reference"],
    ) -> list[list[np.ndarray]]:
        """Log-probs of the response tokens, per micro-batch and sample, arrays [R]."""
        module = self.engine if model == "policy" else self.reference
        assert module is not None, "the recipe did not ask for a reference model"
        results: list[list[np.ndarray]] = []
        with torch.no_grad():
            for samples, is_padding in rounds(micro_batches, num_rounds):
                batch = self.builder.build(samples).to(self.device)
                logprobs_BT, _ = module(batch)
                if not is_padding:
                    results.append(split_rows(logprobs_BT, batch))
        return results

    def update(
        self,
        micro_batches: Sequence[Sequence[TrainingSample]],
        num_rounds: int,
        batch_size: BatchSize,
    ) -> Metrics:
        """One RL step over this rank's micro-batches; ``batch_size`` is that of all ranks."""
        return self.step(
            micro_batches, num_rounds, lambda samples: self.policy_share(samples, batch_size)
        )

    def fit(
        self, micro_batches: Sequence[Sequence[TraceSample]], num_rounds: int, num_tokens: int
    ) -> Metrics:
        """One supervised optimizer step; ``num_tokens`` counts the response tokens of all ranks."""
        return self.step(
            micro_batches, num_rounds, lambda samples: self.supervised_share(samples, num_tokens)
        )

    def evaluate_loss(
        self, micro_batches: Sequence[Sequence[TraceSample]], num_rounds: int, num_tokens: int
    ) -> Metrics:
        """The supervised loss and its metrics, without a gradient or a step."""
        with torch.no_grad():
            _, metrics = self.run_rounds(
                micro_batches,
                num_rounds,
                lambda samples: self.supervised_share(samples, num_tokens),
                backward=False,
            )
        return metrics

    def step(
        self,
        micro_batches: Sequence[Sequence[S]],
        num_rounds: int,
        share: LossShare[S],
    ) -> Metrics:
        """Gradients of all micro-batches, then the optimizer. Raises as ``run_rounds`` does."""
        loss_sum, metrics = self.run_rounds(micro_batches, num_rounds, share, backward=True)
        rate = learning_rate(self.num_updates, self.recipe.num_optimizer_steps, self.recipe.learner)
        for group, scale in zip(self.optimizer.param_groups, self.lr_scales, strict=True):
            group["lr"] = rate * scale
        self.engine.step()
        self.num_updates += 1
        return metrics | {
            "learner/grad_norm": maximum(self.grad_norm),
            "learner/lr": last(rate),
            # Every rank reports its share of the loss; the driver's sum is the loss of the batch.
            "learner/loss": mean(loss_sum * self.address.num_ranks, 1.0),
        }

    def run_rounds(
        self,
        micro_batches: Sequence[Sequence[S]],
        num_rounds: int,
        share: LossShare[S],
        backward: bool,
    ) -> tuple[float, Metrics]:
        """This rank's share of the loss and its metrics; gradients are left in place.

        Raises ``NonFiniteLossError`` on every rank if any rank's loss is not finite.
        """
        parts: list[Metrics] = []
        loss_sum = 0.0
        for samples, is_padding in rounds(micro_batches, num_rounds):
            loss, metrics = share(samples)
            if backward:
                # DeepSpeed averages over ranks; the shares of the loss have to add up instead.
                self.engine.backward(loss * (0.0 if is_padding else self.address.num_ranks))
            if not is_padding:
                parts.append(metrics)
                loss_sum += loss.item()
        self.require_finite(loss_sum, "loss")
        return loss_sum, merge(parts)

    def supervised_share(
        self, samples: Sequence[TraceSample], num_tokens: int
    ) -> tuple[torch.Tensor, Metrics]:
        batch = self.builder.build(samples).to(self.device)
        logprobs_BT, _ = self.engine(batch)
        return supervised_loss(logprobs_BT, batch.mask_BT, num_tokens)

    def policy_share(
        self, samples: Sequence[TrainingSample], batch_size: BatchSize
    ) -> tuple[torch.Tensor, Metrics]:
        algorithm = self.recipe.algorithm
        batch = self.builder.build(samples).to(self.device)
        logprobs_BT, entropies_BT = self.engine(batch)
        old_logprobs_BT = torch.where(
            pad_rows([s.old_logprobs is None for s in samples], batch),
            logprobs_BT.detach(),
            pad_arrays([s.old_logprobs for s in samples], batch),
        )
        rollout_BT = pad_arrays([s.rollout_logprobs for s in samples], batch)
        weights_BT, correction_metrics = rollout_weights(
            old_logprobs_BT, rollout_BT, batch.mask_BT, self.recipe.rollout_correction
        )
        reference_BT = None
        if algorithm.kl_in_loss:
            assert all(s.reference_logprobs is not None for s in samples)
            reference_BT = pad_arrays([s.reference_logprobs for s in samples], batch)
        loss, metrics = policy_loss(
            logprobs_BT,
            old_logprobs_BT,
            pad_arrays([s.advantages for s in samples], batch),
            batch.mask_BT,
            batch_size.denominator(algorithm.loss_mean),
            algorithm,
            reference_logprobs_BT=reference_BT,
            weights_BT=weights_BT,
        )
        from_engine = algorithm.old_logprobs == "rollout"
        learner_BT = logprobs_BT.detach() if from_engine else old_logprobs_BT
        gap = (learner_BT - rollout_BT)[batch.mask_BT]
        entropy = entropies_BT[batch.mask_BT]
        metrics |= correction_metrics | {
            "policy/entropy": mean(entropy.mean().item(), len(entropy)),
            "policy/behaviour_kl": mean(-gap.mean().item(), len(gap)),
            "policy/logprob_gap_mean": mean(gap.abs().mean().item(), len(gap)),
            "policy/logprob_gap_max": maximum(gap.abs().max().item()),
        }
        return loss, metrics

    def before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Between reducing the gradients and moving the weights: the norm, and a last look at it.

        ZeRO's optimizers clip and know the global norm; without them the gradients are here, whole.
        """
        if clips_itself(self.recipe):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            limit = self.recipe.learner.max_grad_norm
            self.grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        else:
            self.grad_norm = float(self.optimizer._global_grad_norm)
        self.require_finite(self.grad_norm, "gradient norm")

    def require_finite(self, value: float, what: str) -> None:
        """All ranks agree on it, so that none waits for a rank that has stopped."""
        ok = torch.tensor([float(math.isfinite(value))], device=self.device)
        if self.address.num_ranks > 1:
            dist.all_reduce(ok, op=dist.ReduceOp.MIN)
        if not ok.item():
            raise NonFiniteLossError(
                f"the {what} of update {self.num_updates} is not finite (here {value}): "
                "lower learner.lr, or look at the last batch"
            )

    def gathered(self, parameters: Sequence[torch.nn.Parameter]) -> AbstractContextManager[object]:
        """Whole tensors on every rank for a moment (ZeRO-3), or nothing to do."""
        if self.recipe.learner.zero_stage < 3:
            return nullcontext()
        context: AbstractContextManager[object] = deepspeed.zero.GatheredParameters(
            list(parameters)
        )
        return context

    def weight_buckets(self) -> Iterator[tuple[WeightBucket, np.ndarray] | None]:
        """The weights in the rollout dtype, bucket by bucket; only rank 0 yields content.

        Always every weight of the plain model, also the frozen ones; adapters are merged.
        """
        dtype = DTYPES[self.recipe.model.dtype]
        parameters = dict(self.engine.module.hf.named_parameters())
        sizes = [
            (name, full_numel(parameters[name]) * dtype.itemsize) for name in self.parameter_names
        ]
        for names in group_by_bytes(sizes, self.recipe.learner.bucket_mb * 2**20):
            pieces = [with_adapters(name, parameters) for name in names]
            with self.gathered([parameter for piece in pieces for parameter in piece]):
                if self.address.rank == 0:
                    whole = [merged(piece, self.recipe.learner.lora).to(dtype) for piece in pieces]
                    yield pack(list(zip(names, whole, strict=True)))
                else:
                    yield None

    def leave_gpu(self) -> None:
        """Parameters, gradients and optimizer states to host memory, the reference model as well."""
        self.engine.offload_states()
        if self.reference is not None:
            self.reference.to("cpu")
        torch.cuda.empty_cache()

    def come_to_gpu(self) -> None:
        self.engine.reload_states()
        if self.reference is not None:
            self.reference.to(self.device)

    def save(self, folder: Path) -> None:
        self.engine.save_checkpoint(
            str(folder), tag="learner", client_state={"num_updates": self.num_updates}
        )

    def reads(self, name: str) -> bool:
        """Whether ``load`` on this rank opens that file: other ranks' states stay where they are."""
        of_rank = re.search(r"zero_pp_rank_(\d+)_", name)
        return of_rank is None or int(of_rank[1]) == self.address.rank

    def load(self, folder: Path) -> None:
        _, client_state = self.engine.load_checkpoint(str(folder), tag="learner")
        self.num_updates = int(client_state["num_updates"])

    def export(self, folder: Path) -> None:
        """A Hugging Face folder with a neutral generation config: loads anywhere as it is."""
        state: dict[str, torch.Tensor] = {}
        for bucket in self.weight_buckets():
            if bucket is not None:
                header, data = bucket
                state |= dict(unpack(header.names, header.shapes, header.dtypes, data))
        if self.address.rank == 0:
            hf: Any = self.engine.module.hf
            hf.generation_config = neutral_generation_config(hf.generation_config)
            hf.save_pretrained(folder, state_dict=state, safe_serialization=True)
            self.processor.processor.save_pretrained(folder)


def rounds(
    micro_batches: Sequence[Sequence[S]], num_rounds: int
) -> Iterator[tuple[Sequence[S], bool]]:
    """The micro-batches of ``num_rounds`` rounds, and whether each is padding.

    A rank with fewer micro-batches repeats its first one, so that collectives stay in step.
    """
    for index in range(num_rounds):
        is_padding = index >= len(micro_batches)
        yield micro_batches[0 if is_padding else index], is_padding


def full_numel(parameter: torch.nn.Parameter) -> int:
    """Elements of the whole tensor; a ZeRO-3 parameter is an empty shard between uses."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def pad_arrays(arrays: Sequence[np.ndarray | None], batch: MicroBatch) -> torch.Tensor:
    """Arrays [R] as one float32 tensor [B, T] on the batch's device; None becomes zeros."""
    padded_BT = torch.zeros(batch.mask_BT.shape, dtype=torch.float32)
    for row, array in enumerate(arrays):
        if array is not None:
            padded_BT[row, : len(array)] = torch.from_numpy(np.asarray(array, dtype=np.float32))
    return padded_BT.to(batch.mask_BT.device)


def pad_rows(flags: Sequence[bool], batch: MicroBatch) -> torch.Tensor:
    return torch.tensor(flags, device=batch.mask_BT.device)[:, None].expand(batch.mask_BT.shape)


def split_rows(values_BT: torch.Tensor, batch: MicroBatch) -> list[np.ndarray]:
    return [
        row[mask].float().cpu().numpy() for row, mask in zip(values_BT, batch.mask_BT, strict=True)
    ]


def build_optimizer(groups: list[dict[str, Any]], settings: LearnerSection) -> Any:
    """AdamW, on the host when it is offloaded."""
    betas = (settings.adam_beta1, settings.adam_beta2)
    if settings.offload_optimizer:
        return deepspeed.ops.adam.DeepSpeedCPUAdam(
            groups,
            lr=settings.lr,
            betas=betas,
            weight_decay=settings.weight_decay,
            adamw_mode=True,
        )
    return torch.optim.AdamW(
        groups, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay
    )


def clips_itself(recipe: Recipe) -> bool:
    """Stage 0 in float32 steps the plain optimizer; DeepSpeed would clip but not tell the norm."""
    return recipe.learner.zero_stage == 0 and recipe.model.dtype == "float32"


def deepspeed_config(recipe: Recipe) -> dict[str, Any]:
    settings = recipe.learner
    bfloat16 = recipe.model.dtype == "bfloat16"
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": False}
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_micro_batch_size_per_gpu": 1,  # unused: the caller owns micro-batches
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if clips_itself(recipe) else settings.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": bfloat16},
        # In bfloat16 the hundredth micro-batch would be rounded away.
        "data_types": {"grad_accum_dtype": "fp32" if bfloat16 else None},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
