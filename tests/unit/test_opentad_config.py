"""Configs in OpenTAD's form become recipes: every key taken over, noted, or refused by name."""

import pytest
import yaml

from clipwise.cli import main
from clipwise.recipe import load_recipe

DATA = """
path = "data/x/features/"
def_ = dict(type="ThumosPaddingDataset", ann_file="anno.json", block_list=path + "missing.txt", class_map="classes.txt", data_path=path,
            filter_gt=False, feature_stride=4, sample_stride=2, offset_frames=8)
load = [dict(type="LoadFeats", feat_format="npy"), dict(type="ConvertToTensor", keys=["feats"])]
crop = [dict(type="RandomTrunc", trunc_len=64, trunc_thresh=0.3, crop_ratio=[0.8, 1.0])]
rest = [dict(type="Rearrange", keys=["feats"], ops="t c -> c t"), dict(type="Collect", inputs="feats", keys=["masks"])]
dataset = dict(
    train=dict(type="ThumosPaddingDataset", ann_file="anno.json", block_list=path + "missing.txt", class_map="classes.txt",
               data_path=path, filter_gt=False, feature_stride=4, sample_stride=2, offset_frames=8, subset_name="training",
               pipeline=load + crop + rest),
    val=dict(type="ThumosPaddingDataset", ann_file="anno.json", block_list=path + "missing.txt", class_map="classes.txt",
             data_path=path, filter_gt=False, feature_stride=4, sample_stride=2, offset_frames=8, subset_name="validation",
             pipeline=load + rest),
    test=dict(type="ThumosPaddingDataset", ann_file="anno.json", block_list=path + "missing.txt", class_map="classes.txt",
              data_path=path, filter_gt=False, feature_stride=4, sample_stride=2, offset_frames=8, subset_name="validation",
              test_mode=True, pipeline=load + rest),
)
evaluation = dict(type="mAP", subset="validation", tiou_thresholds=[0.3, 0.5], ground_truth_filename="anno.json")
"""
HEAD = """num_classes=20, in_channels=32, feat_channels=48, num_convs=2, cls_prior_prob=0.01,
        prior_generator=dict(type="PointGenerator", strides=[1, 2, 4], regression_range=[(0, 4), (2, 8), (4, 10000)]),
        loss_normalizer=250, loss_normalizer_momentum=0.9, center_sample="radius", center_sample_radius=1.5, label_smoothing=0.1,"""
LOSS = 'cls_loss=dict(type="FocalLoss"), reg_loss=dict(type="DIOULoss")'
NECK = 'neck=dict(type="FPNIdentity", in_channels=32, out_channels=32, num_levels=3)'
MODELS = {
    "actionformer": f"""
model = dict(type="ActionFormer",
    projection=dict(type="Conv1DTransformerProj", in_channels=2048, out_channels=32, arch=(2, 1, 2), norm_cfg=dict(type="LN"),
        conv_cfg=dict(kernel_size=3, proj_pdrop=0.0), attn_cfg=dict(n_head=2, n_mha_win_size=9), path_pdrop=0.2, use_abs_pe=False,
        max_seq_len=2304),
    {NECK}, rpn_head=dict(type="ActionFormerHead", {HEAD} loss=dict({LOSS})))
""",
    "tridet": f"""
model = dict(type="TriDet",
    projection=dict(type="TriDetProj", in_channels=2048, out_channels=32, sgp_mlp_dim=24, arch=(2, 1, 2), downsample_type="max",
        sgp_win_size=[1, 5, 5], k=2, init_conv_vars=0, conv_cfg=dict(kernel_size=3), norm_cfg=dict(type="LN"), path_pdrop=0.1,
        use_abs_pe=False, max_seq_len=2304, input_noise=0.25),
    {NECK}, rpn_head=dict(type="TriDetHead", {HEAD} boundary_kernel_size=3, iou_weight_power=0.3, num_bins=12,
        loss=dict({LOSS}, iou_rate=dict(type="GIOULoss"))))
""",
}
RUN = """
_base_ = ["data.py", "model.py"]
model = dict(projection=dict(in_channels=16, max_seq_len=64))
solver = dict(train=dict(batch_size=3, num_workers=1), val=dict(batch_size=1, num_workers=1), test=dict(batch_size=1, num_workers=1),
              clip_grad_norm=1, ema=True)
optimizer = dict(type="AdamW", lr=2e-4, weight_decay=0.04, paramwise=True)
scheduler = dict(type="LinearWarmupCosineAnnealingLR", warmup_epoch=5, max_epoch=21)
inference = dict(load_from_raw_predictions=False, save_raw_prediction=False)
post_processing = dict(pre_nms_topk=5000, nms=dict(use_soft_nms=True, sigma=0.4, max_seg_num=300, iou_threshold=0.1, min_score=0.002,
                       multiclass=True, voting_thresh=0.7), save_dict=False)
workflow = dict(logging_interval=7, checkpoint_interval=2, val_loss_interval=1, val_eval_interval=3, val_start_epoch=15)
work_dir = "exps/x"
"""


def write(folder, kind, extra=""):
    (folder / "data.py").write_text(DATA)
    (folder / "model.py").write_text(MODELS[kind])
    (folder / "mine.py").write_text(RUN + extra)
    return ["convert", str(folder / "mine.py"), "--out", str(folder / "mine.yaml")]


@pytest.mark.parametrize("kind", list(MODELS))
def test_a_config_becomes_a_recipe(kind, tmp_path, capsys):
    assert main(write(tmp_path, kind)) == 0
    assert "left out" not in capsys.readouterr().out
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert (recipe.model, recipe.feat_dim, recipe.temporal_dim, recipe.epochs) == (kind, 16, 64, 21)
    args = {"padding": "opentad", "width": 32, "head_width": 48, "num_levels": 3, "num_stem": 1, "positions": False}
    if kind == "tridet":
        args |= {
            "mlp_width": 24,
            "window": 5,
            "reach": 2,
            "conv_std": 0,
            "input_noise": 0.25,
            "num_bins": 12,
            "drop_path": 0.1,
        }
        assert recipe.points.iou_power == 0.3
    else:
        args |= {"num_heads": 2, "window": 9, "drop_path": 0.2}
    assert recipe.model_args == args
    assert recipe.points.ranges == [(0, 4), (2, 8), (4, 10000)]
    assert (recipe.points.loss_norm, recipe.points.min_inside, recipe.points.crop) == (250, 0.3, (0.8, 1.0))
    assert (recipe.input.stride, recipe.input.clip_frames, recipe.input.time_base) == (8, 16, "strides")
    assert (recipe.nms.alpha, recipe.nms.max_proposals, recipe.nms.min_score, recipe.nms.voting) == (
        0.4,
        300,
        0.002,
        None,
    )
    assert (recipe.lr, recipe.weight_decay, recipe.ema_decay, recipe.warmup_epochs) == (2e-4, 0.04, 0.999, 5)
    assert (recipe.val.tious, recipe.val.every, recipe.log.every, recipe.checkpoint.every) == ([0.3, 0.5], 3, 7, 2)
    noted = " ".join(yaml.safe_load((tmp_path / "mine.yaml").read_text())["notes"])
    assert "voting_thresh = 0.7" in noted
    assert "work_dir" in noted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model = dict(projection=dict(input_pdrop=0.2))", "model.projection.input_pdrop = 0.2"),
        ("model = dict(rpn_head=dict(center_smaple_radius=2))", "model.rpn_head.center_smaple_radius = 2"),
        ("model = dict(neck=dict(num_levels=4))", "model.neck.num_levels = 4"),
        ("dataset = dict(val=dict(feature_stride=8))", "dataset.val: stride = 16"),
        ("optimizer = dict(type='Adam')", "optimizer.type = 'Adam'"),
        ("dataset = dict(test=dict(type='ThumosSlidingDataset'))", "dataset.test.type = 'ThumosSlidingDataset'"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(change, said, tmp_path, capsys):
    words = write(tmp_path, "actionformer")
    (tmp_path / "mine.py").rename(tmp_path / "base.py")
    (tmp_path / "mine.py").write_text(f'_base_ = "base.py"\n{change}\n')
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert main([*words, "--partial"]) == 0


def test_other_models_are_named(tmp_path, capsys):
    words = write(tmp_path, "actionformer", "")
    (tmp_path / "model.py").write_text('model = dict(type="TadTR")')
    assert main(words) == 2
    assert "TadTR" in capsys.readouterr().err
