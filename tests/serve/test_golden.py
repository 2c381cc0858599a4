"""Golden conversations: training is the witness, and transformers and peft are the oracle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from golden_bundle import LABELS, golden_bundle, prepared
from stand_ins import artifact, serve
from tiny_family import HEAD, Family, make_headed

from pipeline.core.errors import IntegrityError, ModelError, UserError
from pipeline.core.token_table import side_by_side
from pipeline.data.arrow import read_rows
from pipeline.data.golden_rows import golden_rows, spread
from pipeline.data.rendering import renderer_of
from pipeline.modeling.loading import load_tokenizer
from serve.golden import write_golden
from serve.golden_file import GOLDEN_FILE, Golden, read_golden, tolerance_of
from serve.stage import MakeBundle

END = 2


@pytest.fixture(scope="module")
def made(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_bundle(family, tmp_path_factory.mktemp("golden"), system="Be brief.")


@pytest.fixture(scope="module")
def golden(made: Path) -> Golden:
    found = read_golden(made)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def tokenizer(family: Family) -> Any:
    return load_tokenizer(family.base)


def test_there_are_16_of_them_and_validation_comes_first(golden: Golden) -> None:
    names = [c.name for c in golden.conversations if c.witness == "training"]
    assert len(golden.conversations) == 16
    assert len(names) == 14
    validation = {f"row-{number}" for number in range(100, 112)}
    assert {name.partition("/")[0] for name in names[:12]} == validation
    assert names[12:]
    assert all(name.partition("/")[0] not in validation for name in names[12:])


def test_ids_are_those_that_training_read(golden: Golden, family: Family, tmp_path: Path) -> None:
    data = prepared(family.base, tmp_path, system="Be brief.")
    stored = {
        row["example_id"]: row["input_ids"]
        for split in ("train", "validation")
        for row in read_rows(data.path / f"{split}.arrow")
    }
    for conversation in golden.conversations:
        if conversation.witness == "training":
            whole = [*conversation.ids, *conversation.target]
            assert stored[conversation.name][: len(whole)] == whole


def test_ids_are_those_of_transformers_own_template(golden: Golden, tokenizer: Any) -> None:
    for conversation in golden.conversations:
        messages = conversation.messages or []
        if conversation.name == "control tokens in a text":
            continue
        opened = [{"role": "system", "content": "Be brief."}, *messages]
        ids = tokenizer.apply_chat_template(opened, add_generation_prompt=True)["input_ids"]
        assert ids == conversation.ids
        assert tokenizer.convert_ids_to_tokens(ids) == conversation.strings


def test_messages_are_as_a_client_sends_them(golden: Golden) -> None:
    told = {message["role"] for c in golden.conversations for message in c.messages or ()}
    assert told == {"user", "assistant"}
    attack = next(c for c in golden.conversations if c.name == "control tokens in a text")
    assert "<|im_end|>" in (attack.messages or [])[0]["content"]
    assert attack.ids.count(END) == 2  # those of the system's turn and the user's alone


def test_targets_are_the_rows_own_answers_up_to_their_end(golden: Golden, tokenizer: Any) -> None:
    for conversation in golden.conversations:
        if conversation.witness == "training":
            assert conversation.target[-1] == END
            assert tokenizer.decode(conversation.target[:-1]) in LABELS
    assert golden.ends == [END]
    assert golden.others == [0]


def test_answers_are_those_of_generate(
    family: Family, tmp_path: Path, offline: Callable[[str, str, int], Any]
) -> None:
    found = read_golden(golden_bundle(family, tmp_path))
    assert found is not None
    for conversation in [c for c in found.conversations if len(c.messages or ()) == 1][:3]:
        text = (conversation.messages or [])[0]["content"]
        for name in family.names:
            expected, said = offline(name, text, 8), conversation.models[name]
            assert said.greedy == expected.ids
            assert said.greedy_logprobs == pytest.approx(expected.logprobs, abs=1e-4)
            assert min(said.margins) > 0


def test_log_probabilities_are_those_of_a_fresh_model(golden: Golden, family: Family) -> None:
    import torch
    from peft import PeftModel
    from transformers import Qwen3ForCausalLM

    for name in family.names:
        model: Any = Qwen3ForCausalLM.from_pretrained(family.base, dtype=torch.float32)
        if name in family.adapters:
            model = PeftModel.from_pretrained(model, family.adapters[name])
        for conversation in golden.conversations[::5]:
            labels = [-100] * len(conversation.ids) + conversation.target
            ids = torch.tensor([conversation.ids + conversation.target])
            with torch.no_grad():
                loss = model.eval()(input_ids=ids, labels=torch.tensor([labels])).loss
            said = conversation.models[name].logprobs
            assert -sum(said) / len(said) == pytest.approx(float(loss), abs=1e-4)


def test_the_same_inputs_give_the_same_bytes(family: Family, tmp_path: Path) -> None:
    one, other = (golden_bundle(family, tmp_path / name) / GOLDEN_FILE for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_a_rendering_that_has_changed_is_refused_with_the_tokens_side_by_side(
    family: Family, tmp_path: Path
) -> None:
    data = prepared(family.base, tmp_path, system="Be brief.")
    place = data.path / "render.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "system": "Be kind."}))
    with pytest.raises(IntegrityError) as refused:
        golden_bundle(family, tmp_path, data=data)
    told = str(refused.value)
    assert "row row-10" in told.splitlines()[0]
    assert "evaluation renders other ids than training read" in told
    assert "training" in told.splitlines()[1]
    assert "evaluation" in told.splitlines()[1]
    assert any(line.endswith("<-- differs") for line in told.splitlines())


def test_answers_that_end_where_the_base_does_not_stop_are_refused(
    family: Family, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(family.base, base)
    for name in ("config.json", "generation_config.json"):
        told = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps({**told, "eos_token_id": 0}))
    told = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**told, "eos_token": "<|endoftext|>"}))
    bundle = tmp_path / "family"
    shutil.copytree(family.bundle, bundle)
    tree = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**tree, "stop_token_ids": []}))
    with pytest.raises(ModelError, match=r"learned to end with '<\|im_end\|>' \(id 2\)"):
        golden_bundle(family, tmp_path, base=base, bundle=bundle)


def test_an_adapter_whose_weights_are_no_numbers_is_refused(family: Family, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    bundle = tmp_path / "family"
    shutil.copytree(family.bundle, bundle)
    (file,) = bundle.glob("adapters/demo-l2-*/adapter_model.safetensors")
    weights = load_file(file)
    weights[next(iter(weights))][0, 0] = float("nan")
    save_file(weights, file)
    with pytest.raises(IntegrityError, match="demo-l2: a log-probability is no number"):
        golden_bundle(family, tmp_path, bundle=bundle)


@pytest.mark.parametrize("render", ["sft", "classify", "hybrid"])
def test_every_way_of_asking_has_golden_rows(
    family: Family, tmp_path: Path, render: str, tokenizer: Any
) -> None:
    data = prepared(family.base, tmp_path, render=render)
    found = golden_rows(data, renderer_of(data.path, tokenizer, causal=True), [END], 128)
    assert len(found) == 16
    assert all(row.messages and row.witness == "training" for row in found)
    assert all(bool(row.target) == (render != "classify") for row in found)


def test_a_channel_model_is_told_its_label(family: Family, tmp_path: Path, tokenizer: Any) -> None:
    data = prepared(family.base, tmp_path, render="channel")
    found = golden_rows(data, renderer_of(data.path, tokenizer, causal=True), [END], 128)
    assert {dict((row.messages or ())[0])["content"] for row in found} == {*LABELS}


def test_of_documents_the_opening_is_the_prompt_and_what_follows_the_target(
    family: Family, tmp_path: Path, tokenizer: Any
) -> None:
    texts = [{"id": str(n), "text": f"My card was declined {n} times, " * 3} for n in range(20)]
    splits = {"train": [{"text": "a"}], "test": texts}
    data = prepared(family.base, tmp_path, render="text", splits=splits)
    found = golden_rows(data, renderer_of(data.path, tokenizer, causal=True), [END], 128)
    stored = {row["example_id"]: row["input_ids"] for row in read_rows(data.path / "test.arrow")}
    assert len(found) == 16
    for row in found:
        assert row.messages is None
        assert row.target
        assert tokenizer(row.text)["input_ids"] == list(row.ids)
        assert stored[row.name][: len(row.ids) + len(row.target)] == [*row.ids, *row.target]


def test_conversations_that_the_dataset_does_not_keep_are_left_to_probes(
    family: Family, tmp_path: Path
) -> None:
    turns = [("user", "Hi"), ("assistant", "Yes?"), ("user", "My card"), ("assistant", "It is new")]
    chat = [
        {"id": str(n), "messages": [{"role": r, "content": f"{c} {n}"} for r, c in turns]}
        for n in range(6)
    ]
    data = prepared(
        family.base, tmp_path, splits={"train": chat[:3], "test": chat[3:]},
        source={"format": "messages"},
    )  # fmt: skip
    found = read_golden(golden_bundle(family, tmp_path, data=data))
    assert found is not None
    assert [c.witness for c in found.conversations] == ["renderer"] * 2


def test_the_stage_writes_them_into_the_bundle(family: Family, tmp_path: Path) -> None:
    data = prepared(family.base, tmp_path)
    out = tmp_path / "work/a/b/out"
    out.mkdir(parents=True)
    inputs: dict[str, Any] = {"data": data, "root": artifact(family.base, "a")}
    about = []
    for name, path in family.adapters.items():
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        inputs[f"adapter.{name}"] = artifact(path, "0" * 64, rank=rank)
        about.append({"name": name, "level": name[-2:].upper()})
    config = {
        "name": "x", "adapters": about, "heads": [], "target_precision": None,
        "base": {"name": "demo-l0", "level": "L0"}, **serve(128), "system": None,
        "chat_template_kwargs": {}, "ungated": True,
    }  # fmt: skip
    context: Any = SimpleNamespace(out=out)
    facts = MakeBundle().run(inputs, config, context)
    assert facts["golden"] == {
        "conversations": 16, "of_training": 14, "heads_not_compared": [],
    }  # fmt: skip
    found = read_golden(out)
    assert found is not None
    assert all(list(c.models) == sorted(family.names) for c in found.conversations)


def test_where_nothing_was_prepared_there_are_none(family: Family, tmp_path: Path) -> None:
    assert write_golden(tmp_path, {}, family.base, None) is None
    assert read_golden(tmp_path) is None


def test_heads_give_the_logits_of_peft_and_one_matrix(family: Family, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import Qwen3ForCausalLM

    headed = make_headed(family, tmp_path / "headed")
    out = golden_bundle(family, tmp_path, bundle=headed)
    found = read_golden(out)
    assert found is not None
    (folder,) = out.glob("heads/*")
    base: Any = Qwen3ForCausalLM.from_pretrained(family.base, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, folder).eval()
    weight = load_file(folder / "head.safetensors")["score.weight"]
    for conversation in found.conversations[::4]:
        with torch.no_grad():
            ids = torch.tensor([conversation.ids])
            state = model.base_model.model.model(input_ids=ids).last_hidden_state[0, -1]
        expected = (weight @ state).tolist()
        assert conversation.heads[HEAD] == pytest.approx(expected, abs=1e-4)


def test_a_16_bit_type_says_how_far_it_rounds_and_may_differ_by_more(
    family: Family, tmp_path: Path, golden: Golden
) -> None:
    found = read_golden(golden_bundle(family, tmp_path, dtype="bfloat16"))
    assert found is not None
    assert found.rounding is not None
    assert 1e-3 < found.rounding.mean < found.rounding.largest
    assert golden.rounding is None
    exact, coarse = tolerance_of(golden), tolerance_of(found)
    assert (exact.largest, exact.mean) == (1e-3, 1e-4)
    assert coarse.largest == 4 * found.rounding.largest
    assert coarse.mean >= 2 * found.rounding.mean


def test_rows_are_spread_over_labels_and_lengths() -> None:
    many = [
        {"example_id": f"{label}{n:03}", "label": label, "input_ids": [0] * n}
        for label, count in (("a", 300), ("b", 30), ("c", 2))
        for n in range(1, count + 1)
    ]
    found = spread(many, 12)
    assert [row["label"] for row in found].count("c") == 2
    lengths = [len(row["input_ids"]) for row in found if row["label"] == "a"]
    assert min(lengths) == 1
    assert max(lengths) > 200
    assert found == spread(list(reversed(many)), 12)
    labels = [{"example_id": str(n), "label": f"{n:03}", "input_ids": [0]} for n in range(77)]
    picked = sorted(int(row["label"]) for row in spread(labels, 16))
    assert len(picked) == 16
    assert picked[-1] > 70
    assert spread(many[:3], 16)
    assert len(spread(many[:3], 16)) == 3
    assert spread([], 16) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:-40], "file: invalid json"),
        (lambda text: text.replace('"ends"', '"end"'), "ends"),
        (lambda text: text.replace('"logprobs": [', '"logprobs": [0.0,', 1), "differ in number"),
    ],
)
def test_a_torn_file_is_named(
    made: Path, tmp_path: Path, damage: Callable[[str], str], told: str
) -> None:
    (tmp_path / GOLDEN_FILE).write_text(damage((made / GOLDEN_FILE).read_text()))
    with pytest.raises(UserError) as refused:
        read_golden(tmp_path)
    assert told in str(refused.value)
    assert "build the bundle again" in str(refused.value)


def test_tokens_stand_side_by_side_around_the_first_difference() -> None:
    table = side_by_side(
        [*range(20), 7], [f"t{n}" for n in [*range(20), 7]], [*range(20)],
        [f"t{n}" for n in range(20)], "server",
    )  # fmt: skip
    lines = table.splitlines()
    assert lines[0].split() == ["position", "training", "server"]
    assert lines[-1].split() == ["20", "7", "'t7'", "(ended)", "<--", "differs"]
    assert lines[1].split()[0] == "17"
