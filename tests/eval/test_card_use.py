"""What a card says of using a model: the code in it runs, and serving is told as it is."""

from __future__ import annotations

import re
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from report_case import comparison
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from eval.card_use import use
from eval.card_words import hub_licence
from pipeline.modeling.heads import HeadConfig, load_classifier, new_classifier, save_head
from pipeline.modeling.loading import load_model
from pipeline.modeling.predictions import predict
from pipeline.stages.export import Export
from tests.stages.export_case import TEXTS, adapter, base, dataset, made

LORA = {"method": "lora", "lora_r": 4}


def told(tree: dict[str, Any] | None = None, **model: Any) -> list[str]:
    return use(tree or comparison(), "banking", {"base_kind": "folder", **model})


def snippets(parts: list[str]) -> list[str]:
    return re.findall(r"```python\n(.*?)\n```", "\n".join(parts), re.DOTALL)


def ran(code: str, places: dict[str, Path]) -> str:
    """What the code prints with its placeholders filled in."""
    code = code.replace("A TEXT LIKE ITS ROWS", TEXTS[0])
    for name, folder in places.items():
        code = code.replace(f"FOLDER OF THE {name}", str(folder))
    assert "FOLDER OF" not in code
    printed = StringIO()
    with warnings.catch_warnings(), redirect_stdout(printed):
        # An adapter that does not fit is loaded with a warning only.
        warnings.simplefilter("error")
        exec(code, {})  # noqa: S102 (the card's own code is what is tested)
    return printed.getvalue().strip()


def test_code_for_an_adapter_of_a_writer_writes_what_peft_writes(tmp_path: Path) -> None:
    root = base(tmp_path / "root")
    own = adapter(tmp_path / "own", root, 1)
    (code,) = snippets(told(objectives=["sft"], training=LORA, chat=True, system="Be brief."))
    tokenizer = AutoTokenizer.from_pretrained(str(root))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(root)), str(own))
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXTS[0]}]
    given = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        found = model.eval().generate(**given, do_sample=False, max_new_tokens=64)
    expected = tokenizer.decode(found[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    assert ran(code, {"BASE": root, "ADAPTER": own}) == expected.strip()


@pytest.mark.parametrize("encoder", [True, False])
def test_code_for_a_head_over_an_adapter_answers_as_the_exported_head(
    tmp_path: Path, encoder: bool
) -> None:
    root = base(tmp_path / "root", encoder=encoder)
    own = adapter(tmp_path / "own", root, 1, head=True, encoder=encoder)
    inputs = {"root": root, "own": own, "data": dataset(tmp_path / "data")}
    made_of = tmp_path / "export"
    made(Export(), made_of, **inputs)
    parts = told(
        objectives=["classify"], training=LORA, causal=not encoder,
        heads={"classify": {"kind": "single", "pooling": "mean", "features": False}},
    )  # fmt: skip
    (code,) = snippets(parts)
    assert ("AutoModelForMaskedLM" in code) == encoder
    label, scores = ran(code, {"BASE": root, "ADAPTER": made_of}).split(" ", 1)
    auto = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
    body = PeftModel.from_pretrained(auto.from_pretrained(str(root)), str(made_of)).eval()
    ids = AutoTokenizer.from_pretrained(str(root))(TEXTS[0])["input_ids"]
    (expected,) = predict(
        load_classifier(body, made_of), [{"example_id": "a", "input_ids": ids}], pad_id=0
    )
    assert label == expected.labels[0]
    assert expected.scores is not None
    shares = [float(share) for share in re.findall(r"0\.\d+", scores)]
    wanted = torch.tensor(list(expected.scores.values())).exp().tolist()
    assert shares == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("kind", ["multi", "tag", "regress"])
def test_code_for_every_kind_of_head_over_whole_weights_runs(tmp_path: Path, kind: Any) -> None:
    folder = base(tmp_path / "root", encoder=True)
    labels = () if kind == "regress" else ("a", "b")
    config = HeadConfig(labels, "mean", 0.0, 32, kind, value_mean=3.0)
    classifier = new_classifier(load_model(folder), config, 0)
    save_head(classifier, classifier.score.weight.detach(), folder)
    objective = {"multi": "classify"}.get(kind, kind)
    parts = told(
        objectives=[objective], training={"method": "full"}, causal=False,
        heads={objective: {"kind": kind, "pooling": "mean", "features": False}},
    )  # fmt: skip
    (code,) = snippets(parts)
    ids = AutoTokenizer.from_pretrained(str(folder))(TEXTS[0])["input_ids"]
    (expected,) = predict(classifier, [{"example_id": "a", "input_ids": ids}], pad_id=0)
    printed = ran(code, {"MODEL": folder})
    if kind == "regress":
        assert float(printed) == pytest.approx(expected.value, abs=1e-5)
    else:
        assert printed == str(list(expected.labels))


def test_whole_weights_that_read_or_go_on_are_loaded_as_what_they_are(tmp_path: Path) -> None:
    reads = base(tmp_path / "encoder", encoder=True)
    (code,) = snippets(told(objectives=["mlm"], training={"method": "full"}, causal=False))
    assert "tensor" in ran(code, {"MODEL": reads})
    writes = base(tmp_path / "writer")
    (code,) = snippets(told(objectives=["cpt"], training={"method": "full"}, chat=True))
    assert "apply_chat_template" not in code
    ran(code, {"MODEL": writes})


def test_a_base_of_the_hub_is_named_where_the_adapter_is_over_it_and_nowhere_else() -> None:
    hub = {"base_kind": "hub", "base": "org/base", "revision": "c0ffee", "training": LORA,
           "objectives": ["sft"]}  # fmt: skip
    (over,) = snippets(told(**hub, over_base=True))
    assert over.count("'org/base'") == 1
    assert over.count("revision='c0ffee'") == 2
    (beyond,) = snippets(told(**hub, over_base=False))
    assert "org/base" not in beyond
    assert "FOLDER OF THE BASE" in beyond


@pytest.mark.parametrize(
    ("objectives", "gates", "said"),
    [
        (["sft"], ["pass"], "`gradus serve` serves it with its base: ask for model `banking`."),
        (["sft"], ["pass", "undecided"], "refuses it, for not all its promises are kept"),
        (["sft"], [], "refuses it, for nothing was promised of it"),
        (["sft", "classify"], ["pass"], "Not served: `banking-classifier`"),
        (["channel"], ["pass"], "ask for model `banking-channel`"),
        (["classify"], ["pass"], "does not serve it: `banking-classifier` (objective classify)"),
        (["mlm"], ["pass"], "does not serve it: `banking` (objective mlm) writes nothing"),
    ],
)
def test_served_is_said_of_what_a_bundle_is_made_of(
    objectives: list[str], gates: list[str], said: str
) -> None:
    tree = {**comparison(), "gates": [{"status": status, "text": ""} for status in gates]}
    assert said in "\n".join(told(tree, objectives=objectives, training=LORA))


def test_licences_are_the_hubs_own_words_or_named_beside_other() -> None:
    assert hub_licence("Apache-2.0") == {"license": "apache-2.0"}
    assert hub_licence(None) == {"license": "unknown"}
    assert hub_licence("internal use") == {"license": "other", "license_name": "internal use"}
