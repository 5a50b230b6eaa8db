"""Files as ActionFormer, TriDet and OpenTAD write them become checkpoints with the same outputs, or are refused.

The names are written down here once more, from our tensor to theirs, as the projects' code has them.
"""

import json
import re

import pytest
import torch

from clipwise.cli import main
from clipwise.engine.checkpoint import load_model_and_passport, read_passport
from clipwise.models import create_model

SMALL = {
    "actionformer": dict(width=16, head_width=24, num_levels=3, num_stem=1, num_heads=2, window=5),
    "tridet": dict(width=16, mlp_width=20, num_levels=3, num_stem=2, num_bins=6, window=3, reach=1.5),
}
CLASSES, FEATURES = 3, 8
BLOCK = {
    "norm1": "ln1", "norm2": "ln2", "attention.query.conv": "attn.query_conv.conv", "attention.key.conv": "attn.key_conv.conv",
    "attention.value.conv": "attn.value_conv.conv", "attention.query.norm": "attn.query_norm", "attention.key.norm": "attn.key_norm",
    "attention.value.norm": "attn.value_norm", "attention.query.linear": "attn.query", "attention.key.linear": "attn.key",
    "attention.value.linear": "attn.value", "attention.out": "attn.proj", "norm": "ln", "group_norm": "gn", "gate": "psi",
    "point": "fc", "near": "convw", "far": "convkw", "mean_gate": "global_fc", "mlp.0": "mlp.0",
}  # fmt: skip
HEADS = {"classes": "cls", "starts": "start", "ends": "end", "distances": "reg", "bins": "reg"}


def foreign(model, name, opentad):
    """The state dict under the names, and in the shapes, of one of the two projects."""
    out = {}
    for key, value in model.state_dict().items():
        if key == "loss_norm":
            if opentad:
                out["rpn_head.loss_normalizer"] = torch.tensor(77)
            continue
        first, *rest = key.split(".")
        leaf = rest[-1]
        if rest[0] == "scales":
            for i, scale in enumerate(value):
                out[f"{'rpn_head' if opentad else 'reg_head'}.scale.{i}.scale"] = scale.clone()
            continue
        if rest[0] == "embed":
            part, number = rest[3], rest[2]
            if opentad:
                theirs = f"projection.embed.{number}.{part}.{leaf}"
            else:
                theirs = (
                    f"backbone.{'embd' if part == 'conv' else 'embd_norm'}.{number}.{'conv.' * (part == 'conv')}{leaf}"
                )
        elif rest[0] == "norms":
            theirs = f"neck.fpn_norms.{rest[1]}.{leaf}"
        elif rest[0] in ("stem", "branch"):
            inner = ".".join(rest[2:-1])
            inner = {"mlp.2": "mlp.3" if name == "actionformer" else "mlp.2", "residual2": "drop_path_mlp",
                     "residual1": "drop_path_attn" if name == "actionformer" else "drop_path_out", **BLOCK}[inner]  # fmt: skip
            theirs = f"{'projection' if opentad else 'backbone'}.{rest[0]}.{rest[1]}.{inner}.{leaf}"
        elif rest[0] == "layers":
            head, number, part = HEADS[first], rest[1], rest[2]
            if opentad:
                convs = {"start": "cls_start_convs", "end": "cls_end_convs"}.get(head, f"{head}_convs")
                theirs = f"rpn_head.{convs}.{number}.{part}.{leaf}"
            else:
                theirs = (
                    f"{head}_head.{'head' if part == 'conv' else 'norm'}.{number}.{'conv.' * (part == 'conv')}{leaf}"
                )
        else:
            head = HEADS[first]
            if opentad:
                theirs = f"rpn_head.{ {'start': 'cls_start', 'end': 'cls_end'}.get(head, head) }_head.{leaf}".replace(
                    " ", ""
                )
            else:
                theirs = f"{head}_head.{'offset_head' if head == 'reg' else 'cls_head'}.conv.{leaf}"
        if (
            not opentad
            and value.dim() == 1
            and re.search(r"(ln\d?|_norm|norms?\.\d|norm)\.(weight|bias)$", theirs)
            and ".gn." not in theirs
        ):
            value = value[None, :, None]
        out[theirs] = value.clone()
    return out


def made(name, padding):
    torch.manual_seed(3)
    model = create_model(
        name, feat_dim=FEATURES, num_classes=CLASSES, temporal_dim=48, padding=padding, **SMALL[name]
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model


def write(model, name, opentad, path, ema=True):
    weights = {f"module.{k}": v for k, v in foreign(model, name, opentad).items()}
    content = {"epoch": 34, "optimizer": {"state": {}, "param_groups": []}, "scheduler": {"last_epoch": 3500}}
    if ema:  # the other set is what an optimizer left, and is not what was evaluated
        content |= {"state_dict": {k: v + 1 for k, v in weights.items()}, "state_dict_ema": weights}
    else:
        content["state_dict"] = weights
    torch.save(content, path)
    return path


def convert(path, name, out, *more):
    sizes = {k: v for k, v in SMALL[name].items() if k in ("num_heads", "window", "reach")}
    given = [f"feat_dim={FEATURES}", "temporal_dim=48", f"model_args={json.dumps(sizes)}"]
    return main(["convert", str(path), "--recipe", f"{name}_tiny", "--set", *given, "--out", str(out), "--json", *more])


@pytest.mark.parametrize("opentad", [False, True], ids=["published", "opentad"])
@pytest.mark.parametrize("name", list(SMALL))
def test_their_file_gives_the_same_outputs(name, opentad, tmp_path, capsys):
    """From names, shapes and whose names they are: width, levels, classes and the treatment of the padding."""
    model = made(name, "opentad" if opentad else "published")
    path = write(model, name, opentad, tmp_path / "epoch_034.pth.tar")
    out = tmp_path / "ours.safetensors"
    assert convert(path, name, out) == 0
    report = json.loads(capsys.readouterr().out)
    assert not report["missing"]
    assert not report["unused"]
    assert not report["conflicts"]
    assert any("state_dict_ema" in note for note in report["notes"])
    assert any(f"padding='{'opentad' if opentad else 'published'}'" in note for note in report["notes"])
    ours, passport = load_model_and_passport(out)
    x = torch.randn(2, FEATURES + 1, 48)
    x[:, -1], x[0, :, 31:] = 1, 0  # the first is padded
    with torch.no_grad():
        for mine, theirs in zip(ours.eval()(x), model(x)):
            assert torch.equal(mine, theirs)
    assert passport.model_args["padding"] == ("opentad" if opentad else "published")
    # where training goes on from: the file's number of positive points, or the recipe's
    assert float(ours.loss_norm) == (77 if opentad else 100)


def test_the_other_project_s_function_is_refused(tmp_path, capsys):
    """A recipe that says padding=published and OpenTAD's weights: all names and shapes fit, the function does not."""
    path = write(made("actionformer", "opentad"), "actionformer", True, tmp_path / "theirs.pth", ema=False)
    out = tmp_path / "ours.safetensors"
    sizes = json.dumps({**SMALL["actionformer"], "padding": "published"})
    given = [f"feat_dim={FEATURES}", f"model_args={sizes}"]
    assert main(["convert", str(path), "--recipe", "actionformer_tiny", "--set", *given, "--out", str(out)]) == 2
    assert "padding" in capsys.readouterr().err
    assert not out.exists()


def test_incomplete_and_foreign_files_are_refused(tmp_path, capsys):
    model = made("tridet", "published")
    state = foreign(model, "tridet", False)
    for change, said in (
        (lambda s: s.pop("backbone.branch.1.convkw.bias"), "missing"),
        (lambda s: s.update({"backbone.proj.0.conv.weight": torch.zeros(4, 4, 1)}), "backbone.proj"),
    ):
        broken = dict(state)
        change(broken)
        path = tmp_path / "broken.pth"
        torch.save({"state_dict": broken}, path)
        assert convert(path, "tridet", tmp_path / "x.safetensors") == 2
        assert said in capsys.readouterr().err
    torch.save({"state_dict": state}, tmp_path / "tridet.pth")
    assert convert(tmp_path / "tridet.pth", "actionformer", tmp_path / "x.safetensors") == 2
    assert "recipe of tridet" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "tridet.pth"), "--recipe", "tridet_tiny", "--set", "feat_dim=9", "--out",
                 str(tmp_path / "x.safetensors")]) == 2  # fmt: skip
    assert "feat_dim=8" in capsys.readouterr().err


def test_golden_names_of_the_released_networks(shared, tmp_path):
    """Every name of the released files is used: 29,251,612 and 15,989,604 parameters, by shape only."""
    from clipwise.convert.weights import convert_state_dict

    for name, folder in (("actionformer", "actionformer_thumos"), ("tridet", "tridet_thumos")):
        keys = json.loads((shared / "golden" / folder / "keys.json").read_text())["keys"]
        state = {f"module.{key['key']}": torch.zeros(key["shape"]) for key in keys}
        report = convert_state_dict({"state_dict": state}, name)
        assert report.complete, report.summary()
        assert len(report.matched) == len(keys) - 5  # six scales are one tensor of ours


def test_their_annotations(tmp_path):
    """ActionFormer's JSON: subsets in capitals, and the order of the classes by ``label_id``."""
    from clipwise.data.formats.annotation_files import read_annotations
    from clipwise.data.labels import read_classes

    def video(subset, *labels):
        return {"subset": subset, "duration": 30.0, "fps": 30.0, "annotations": [
            {"label": name, "label_id": number, "segment": [1.0, 2.0], "segment(frames)": [30, 60]} for name, number in labels]}  # fmt: skip

    content = {
        "database": {
            "video_test_0000004": video("Test", ("wave", 0), ("jump", 2)),
            "video_validation_0000051": video("Validation", ("run", 1)),
        }
    }
    path = tmp_path / "thumos14.json"
    path.write_text(json.dumps(content))
    found = read_annotations(path)
    assert list(found.subset("test").videos) == ["video_test_0000004"]
    assert list(found.subset("validation").videos) == ["video_validation_0000051"]
    assert not found.has_subset("training")
    assert read_classes(path) == ["wave", "run", "jump"]


def test_a_converted_file_is_a_checkpoint(tmp_path, capsys):
    """Class names of a known data set, and the recipe inside is whole."""
    from clipwise.recipe import make_recipe

    torch.manual_seed(0)
    sizes = dict(width=16, num_levels=6, num_stem=2, num_heads=4)
    model = create_model("actionformer", feat_dim=8, num_classes=20, **sizes)
    path = write(model, "actionformer", False, tmp_path / "epoch_034.pth.tar")
    out = tmp_path / "ours.safetensors"
    recipe = ["--recipe", "actionformer_thumos14_i3d", "--set", "feat_dim=8"]
    assert main(["convert", str(path), *recipe, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "width=16" in said
    assert "num_heads=4" in said
    passport = read_passport(out)
    assert passport.classes[4] == "CliffDiving"
    assert len(passport.classes) == 20
    assert make_recipe(passport.recipe, source="passport").model_args["width"] == 16
