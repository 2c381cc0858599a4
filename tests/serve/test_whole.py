"""A bundle is served only where every byte is the one that was made; attacks on one that is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_bundle import golden_bundle
from tiny_family import Family

from pipeline.core.artifact import Manifest, scan_files, write_manifest
from pipeline.core.digest import tree_digest
from pipeline.core.errors import GradusError
from pipeline.core.sums import sums_of
from serve.bundle import read_bundle
from serve.engine_alone import become_engine
from serve.releases import Releases
from serve.run import serve
from serve.versions import find_held, register_all
from serve.whole import check_folder, read_whole

NAME = "demo-l2"
Attack = Callable[[Path], None]


def sealed(folder: Path, kind: Any = "Bundle") -> Path:
    """A folder with the manifest that a store would write."""
    files = scan_files(folder)
    digest = tree_digest(files)
    write_manifest(folder, Manifest(kind, "k" * 64, digest, "", 1, {}, {}, {}, {}, files))
    return folder


def told(folder: Path, **changes: Any) -> None:
    """bundle.json with some words changed."""
    place = folder / "bundle.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))


@pytest.fixture(scope="module")
def template(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/ and bundle/ with golden conversations, side by side and sealed."""
    root = tmp_path_factory.mktemp("whole")
    made = golden_bundle(family, root / "made")
    shutil.copytree(made, root / "family/bundle")
    shutil.copytree(family.base, root / "family/base")
    base = sealed(root / "family/base", "Model")
    digest = json.loads((base / "manifest.json").read_text())["digest"]
    about = {"path": "../base", "name": "demo-l0", "level": "L0", "digest": digest}
    told(root / "family/bundle", base=about)
    sealed(root / "family/bundle")
    return root / "family"


@pytest.fixture
def bundle(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "family")
    return tmp_path / "family/bundle"


def weights(bundle: Path) -> Path:
    return next(bundle.glob(f"adapters/{NAME}-*/adapter_model.safetensors"))


def flipped_byte(bundle: Path) -> None:
    place = weights(bundle)
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)


def flipped_byte_sealed_again(bundle: Path) -> None:
    """Whoever writes the manifest anew still has the adapter's own digest against him."""
    flipped_byte(bundle)
    (bundle / "manifest.json").unlink()
    sealed(bundle)


def digest_of_zeros(bundle: Path) -> None:
    tree = json.loads((bundle / "bundle.json").read_text())
    tree["adapters"][-1]["digest"] = "0" * 64
    told(bundle, **tree)
    (bundle / "manifest.json").unlink()
    sealed(bundle)


def no_golden(bundle: Path) -> None:
    (bundle / "golden.json").unlink()


def no_golden_and_no_manifest(bundle: Path) -> None:
    no_golden(bundle)
    (bundle / "manifest.json").unlink()


def failing_gate(bundle: Path) -> None:
    told(bundle, gates=[{"status": "fail", "text": "accuracy on test"}], ungated=False)
    (bundle / "manifest.json").unlink()
    sealed(bundle)


def no_gates(bundle: Path) -> None:
    told(bundle, gates=[], ungated=False)


def gate_without_status(bundle: Path) -> None:
    told(bundle, gates=[{"text": "accuracy on test"}], ungated=False)


def extra_file(bundle: Path) -> None:
    (bundle / "adapters/more.safetensors").write_bytes(b"more")


def another_base(bundle: Path) -> None:
    tree = json.loads((bundle / "bundle.json").read_text())
    told(bundle, base={**tree["base"], "digest": "ab" * 32})
    (bundle / "manifest.json").unlink()
    sealed(bundle)


def another_tokenizer(bundle: Path) -> None:
    (bundle.parent / "base/tokenizer.json").write_text("{}")


def lineage_of_others(bundle: Path) -> None:
    told(bundle, lineage={"recipe": "5e" * 32, "stages": []})
    (bundle / "manifest.json").unlink()
    sealed(bundle)


ATTACKS: list[tuple[Attack, str]] = [
    (flipped_byte, "adapter_model.safetensors: changed"),
    (flipped_byte_sealed_again, "demo-l2: its files give digest"),
    (digest_of_zeros, "says 000000000000"),
    (no_golden, "golden.json: missing"),
    (no_golden_and_no_manifest, "golden.json: missing"),
    (failing_gate, "did not all pass: accuracy on test (fail)"),
    (no_gates, "did not all pass: no gate was ever set"),
    (gate_without_status, "did not all pass: accuracy on test (None)"),
    (extra_file, "more.safetensors: not in the manifest"),
    (another_base, "and bundle.json says abababababab"),
    (another_tokenizer, "tokenizer.json: changed"),
    (lineage_of_others, "lineage: knows no demo-l0"),
]
NAMES = [attack.__name__ for attack, _ in ATTACKS]


def test_a_bundle_as_it_was_made_is_whole_wherever_it_is_copied(bundle: Path) -> None:
    said: list[str] = []
    assert read_whole(bundle, said.append).gated
    assert said == []
    assert check_folder(bundle) == ("Bundle", [])
    assert check_folder(bundle.parent / "base") == ("Model", [])


@pytest.mark.parametrize(("attack", "why"), ATTACKS, ids=NAMES)
def test_what_is_not_as_it_was_made_is_served_by_nothing(
    bundle: Path, tmp_path: Path, attack: Attack, why: str
) -> None:
    releases = Releases(tmp_path / "releases.json")
    register_all(releases, read_bundle(bundle), served=True)
    version = releases.read()[NAME].versions["1"]
    assert version.gated
    attack(bundle)
    entries: list[Callable[[], object]] = [
        lambda: serve(bundle),
        lambda: become_engine(bundle, host="127.0.0.1", port=1, pooling=None, drain_s=1),
        lambda: find_held(NAME, version),
    ]
    if attack is digest_of_zeros:
        # The file of releases knows its digest, and no such weights are there.
        with pytest.raises(GradusError):
            entries.pop()()
    for entry in entries:
        with pytest.raises(GradusError) as refused:
            entry()
        assert why in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("attack", "why"), ATTACKS, ids=NAMES)
def test_verify_names_what_differs_and_exits_1(
    bundle: Path, gradus: Any, attack: Attack, why: str
) -> None:
    assert gradus("verify", bundle).exit_code == 0
    attack(bundle)
    result = gradus("verify", bundle, bundle.parent / "base")
    assert result.exit_code == 1
    assert why in result.stderr
    assert f"{bundle}: Bundle: " in result.stdout
    tree = json.loads(gradus("verify", bundle, "--json").stdout)
    assert tree["problems"] == tree["folders"][0]["problems"]


def test_weights_of_a_base_beside_are_read_where_somebody_asks(bundle: Path) -> None:
    place = bundle.parent / "base/model.safetensors"
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    read_whole(bundle)
    ((problem,), kind) = check_folder(bundle)[::-1]
    assert kind == "Bundle"
    assert "base/model.safetensors: changed" in problem


def test_an_ungated_bundle_may_lack_its_golden_conversations(bundle: Path) -> None:
    (bundle / "golden.json").unlink()
    (bundle / "manifest.json").unlink()
    told(bundle, gates=[], ungated=True)
    found = read_whole(sealed(bundle))
    assert not found.gated


def test_gates_that_passed_do_not_gate_what_somebody_overrode(bundle: Path) -> None:
    told(bundle, ungated=True)
    assert not read_bundle(bundle).gated


def test_what_nothing_is_kept_of_is_served_with_a_word_and_not_verified(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    said: list[str] = []
    read_whole(bundle, said.append)
    assert "not compared with what was made" in said[0]
    assert any("nothing says what it should hold" in line for line in check_folder(bundle)[1])


def over_a_hub(bundle: Path, *, base: bool) -> Path:
    """As `gradus push` sends it and a client unpacks it: no manifest, no golden rows, a list."""
    (bundle / "manifest.json").unlink()
    (bundle / "golden.json").unlink()
    shutil.copytree(bundle.parent / "base", bundle / "base")
    (bundle / "base/manifest.json").unlink()
    tree = json.loads((bundle / "bundle.json").read_text())
    told(bundle, golden=False, base={**tree["base"], "path": "base"})
    sent = {p.relative_to(bundle).as_posix(): p for p in bundle.rglob("*") if p.is_file()}
    files = {name: p for name, p in sent.items() if base or not name.startswith("base/")}
    (bundle / "SHA256SUMS").write_bytes(sums_of({**files}))
    return bundle


@pytest.mark.parametrize("base", [True, False])
def test_what_came_over_a_hub_is_held_to_its_list(bundle: Path, base: bool) -> None:
    over_a_hub(bundle, base=base)
    assert read_whole(bundle).gated
    assert check_folder(bundle) == ("Bundle", [])
    flipped_byte(bundle)
    assert "adapter_model.safetensors: changed" in check_folder(bundle)[1][0]
    (bundle / "base/config.json").write_text("{}")
    assert any("base" in line for line in check_folder(bundle)[1][1:])
    with pytest.raises(GradusError, match="changed"):
        read_whole(bundle)


@pytest.mark.parametrize("line", ["no digest", f"{'a' * 64}  ../outside", f"{'a' * 64}  /etc/x"])
def test_a_list_that_is_none_is_one_line(bundle: Path, line: str) -> None:
    over_a_hub(bundle, base=True)
    (bundle / "SHA256SUMS").write_text(f"{line}\n")
    with pytest.raises(GradusError, match="SHA256SUMS:1: not a digest and a file"):
        read_whole(bundle)
    assert check_folder(bundle)[1]


def test_verify_of_no_folder_is_one_line(refusal: Any, tmp_path: Path) -> None:
    assert refusal("verify", tmp_path / "none").startswith(f"{tmp_path}/none: no such folder")
