"""The shipped folder loads like any checkpoint, and the fast forward pass equals the real one."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from r1reward.shapes import MODEL_DIR
from r1reward.shapes.scene import COLOURS, QUADRANTS, SHAPES, seeded
from tools.miniature.batches import IGNORED, Encoder, Sequence, response_logits
from tools.miniature.corpus import FAULTLESS, Kind, sample_example
from tools.miniature.measure import GATES, Rate, failed_gates, measure
from tools.miniature.network import NUM_IMAGE_TOKENS, build_config, build_model, build_processor
from tools.miniature.pretrain import PLAN, decision_weights, learning_rate_share, trace_aspects


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(AutoProcessor.from_pretrained(MODEL_DIR))


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()


def test_package_imports_the_standard_library_only() -> None:
    code = "import sys, r1reward.shapes; print('torch' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_folder_is_small_and_complete() -> None:
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) <= 8_000_000
    names = {path.name for path in MODEL_DIR.iterdir()}
    assert {"README.md", "config.json", "generation_config.json", "model.safetensors"} <= names


def test_generation_config_is_neutral(
    model: Qwen2_5_VLForConditionalGeneration, encoder: Encoder
) -> None:
    config = model.generation_config
    assert (config.temperature, config.top_p, config.top_k) == (1.0, 1.0, 0)
    assert config.repetition_penalty == 1.0
    assert config.eos_token_id == encoder.end_id
    assert not model.config.tie_word_embeddings


def test_every_word_is_one_token_and_any_text_comes_back(encoder: Encoder) -> None:
    tokenizer = encoder.tokenizer
    words = [f" {word}" for word in (*COLOURS, *SHAPES, *QUADRANTS, "ok", "wrong", "1", "2")]
    words += [*QUADRANTS, "Response", "<think>", "</think>", "<answer>", "</answer>", "1", "2"]
    for word in words:
        assert len(tokenizer(word)["input_ids"]) == 1, word
    text = "Zoë's 2nd  café: 你好\n\n\t{x}<think>"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_shipped_tokenizer_is_the_one_that_is_built(encoder: Encoder) -> None:
    assert build_processor().tokenizer.get_vocab() == encoder.tokenizer.get_vocab()


def test_chat_template_renders_text_and_images_in_their_order_without_a_system_turn(
    encoder: Encoder,
) -> None:
    content = [
        {"type": "text", "text": "Hi"},
        {"type": "image"},
        {"type": "text", "text": "!"},
    ]
    rendered = encoder.processor.apply_chat_template(
        [{"role": "user", "content": content}, {"role": "assistant", "content": "yes"}],
        tokenize=False,
    )
    assert rendered == (
        "<|im_start|>user\nHi<|vision_start|><|image_pad|><|vision_end|>!<|im_end|>\n"
        "<|im_start|>assistant\nyes<|im_end|>\n"
    )


@pytest.mark.parametrize("kind", ["trace", "judge"])
def test_fast_forward_equals_the_general_one(kind: Kind, encoder: Encoder) -> None:
    # Random weights: a trained model would hide small faults behind saturated probabilities.
    model = build_model(build_config(encoder.tokenizer), seed=1).eval()
    rng = seeded("fast forward")
    sequences = encoder.encode([sample_example(kind, FAULTLESS, 0.3, rng) for _ in range(3)], rng)
    batch = encoder.collate(sequences)
    with torch.no_grad():
        fast, targets = response_logits(model, batch)
    row = 0
    for sequence in sequences:
        slow = general_logits(model, encoder, sequence)
        expected = slow[sequence.num_prompt - 1 : -1]
        torch.testing.assert_close(fast[row : row + len(expected)], expected, atol=1e-5, rtol=1e-4)
        assert targets[row : row + len(expected)].tolist() == list(
            sequence.token_ids[sequence.num_prompt :]
        )
        row += len(expected)
    assert row == len(fast) == int((batch.targets_BT != IGNORED).sum())


def test_aspects_pick_out_the_tokens_they_are_named_for(encoder: Encoder) -> None:
    rng = seeded("aspects")
    examples = [sample_example("trace", FAULTLESS, 0.3, rng) for _ in range(8)]
    batch = encoder.collate(encoder.encode(examples, rng))
    targets = batch.targets_BT[batch.targets_BT != IGNORED]
    words = {
        name: set(encoder.tokenizer.batch_decode(targets[mask][:, None]))
        for name, mask in trace_aspects(batch).items()
    }
    assert words["conclusion"] == {" 1", " 2"} and words["answer"] == {"1", "2"}
    assert words["flags"] == {" ok", " wrong"}
    looks = {f" {word}" for word in (*COLOURS, *SHAPES)}
    assert words["seen"] <= looks and words["copied"] <= looks
    scenes = [example.scene for example in examples if example.scene is not None]
    assert len(scenes) == len(examples)
    num_objects = sum(len(scene.objects) for scene in scenes)
    assert int(trace_aspects(batch)["copied"].sum()) == 4 * num_objects
    weights = decision_weights("trace", batch, 6.0)
    assert int((weights == 6.0).sum()) == 2 * len(examples)
    assert set(weights.tolist()) == {1.0, 6.0}


def general_logits(
    model: Qwen2_5_VLForConditionalGeneration, encoder: Encoder, sequence: Sequence
) -> torch.Tensor:
    """Logits [T, V] from the processor's own inputs, one sequence at a time."""
    ids = list(sequence.token_ids)
    if sequence.image is None:
        with torch.no_grad():
            return model(input_ids=torch.tensor([ids])).logits[0]
    image = Image.fromarray(sequence.image)
    prompt = encoder.tokenizer.decode(ids).replace(
        "<|image_pad|>" * NUM_IMAGE_TOKENS, "<|image_pad|>"
    )
    inputs = encoder.processor(text=[prompt], images=[image], return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == ids
    with torch.no_grad():
        return model(**inputs).logits[0]


def test_any_square_image_becomes_sixteen_tokens(encoder: Encoder) -> None:
    for side in (64, 112, 300):
        image = Image.fromarray(np.full((side, side, 3), 200, dtype=np.uint8))
        inputs = encoder.processor(
            text=["<|vision_start|><|image_pad|><|vision_end|>"], images=[image]
        )
        assert list(inputs["input_ids"][0]).count(encoder.image_id) == NUM_IMAGE_TOKENS


@pytest.mark.slow
def test_shipped_weights_see_and_copy(
    model: Qwen2_5_VLForConditionalGeneration, encoder: Encoder
) -> None:
    rates = measure(model, encoder, 40, "sampled", seed=2)
    assert rates["sees/object"].value >= 0.9
    assert rates["copies/object"].value >= 0.9
    assert rates["format"].value >= 0.95


def test_gates_fail_outside_their_window_and_without_a_denominator() -> None:
    rates = {name: Rate(hits=low_high_middle(name), total=1000) for name in GATES}
    assert failed_gates(rates) == []
    rates["accuracy"] = Rate(hits=800, total=1000)
    rates["format"] = Rate()
    assert failed_gates(rates) == ["format", "accuracy"]


def low_high_middle(name: str) -> int:
    low, high = GATES[name]
    return round(500 * (low + high))


def test_learning_rate_rises_then_falls_to_its_floor() -> None:
    shares = [learning_rate_share(step, PLAN) for step in range(PLAN.num_steps)]
    assert shares[0] == pytest.approx(1 / PLAN.warmup_steps)
    assert shares[PLAN.warmup_steps] == 1.0
    assert shares[-1] == pytest.approx(PLAN.final_lr_share, abs=1e-3)


def test_rate_that_was_never_recorded_fails_its_gate() -> None:
    rates = {name: Rate(low_high_middle(name), 1000) for name in GATES}
    del rates["flags"]
    assert failed_gates(rates) == ["flags"]
