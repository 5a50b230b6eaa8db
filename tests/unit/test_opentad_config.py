"""Configs in OpenTAD's form become recipes: every key taken over, noted, or refused by name."""

from pathlib import Path

import pytest
import yaml

from clipwise.cli import main
from clipwise.convert.mmaction2.python_config import read_python_config
from clipwise.convert.opentad import translate_opentad
from clipwise.convert.opentad_keys import READ
from clipwise.errors import RecipeError
from clipwise.recipe import load_recipe
from helpers import load_script

ROOT = Path(__file__).resolve().parents[2]

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
        args |= {"num_heads": 2, "window": 9, "drop_path": 0.2, "feature_dropout": 0.0}
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
        ("model = dict(rpn_head=dict(center_smaple_radius=2))", "model.rpn_head.center_smaple_radius = 2"),
        ("model = dict(neck=dict(num_levels=4))", "model.neck.num_levels = 4"),
        ("dataset = dict(val=dict(feature_stride=8))", "dataset.val: feature_stride * sample_stride = 16"),
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


ANET = """
path = "f/"
share = dict(ann_file="anno.json", block_list=path + "missing.txt", class_map="classes.txt", data_path=path, class_agnostic=True)
load = [dict(type="LoadFeats", feat_format="npy", prefix="v_"), dict(type="ConvertToTensor", keys=["feats"])]
"""
RESIZED = (
    ANET
    + """
where = dict(type="AnetResizeDataset", resize_length=48)
fit = [dict(type="ResizeFeat", tool="torchvision_align")]
pad = []
"""
)
PADDED = (
    ANET
    + """
where = dict(type="AnetPaddingDataset", feature_stride=16, sample_stride=1, offset_frames=8, fps=15)
fit = []
pad = [dict(type="Padding", length=48)]
"""
)
PARTS = """
dataset = dict(
    train=dict(share, **where, subset_name="training", filter_gt=True,
               pipeline=load + fit + [dict(type="RandomTrunc", trunc_len=48, trunc_thresh=0.5, crop_ratio=[0.9, 1.0])] + rest),
    val=dict(share, **where, subset_name="validation", filter_gt=True, pipeline=load + fit + pad + rest),
    test=dict(share, **where, subset_name="validation", filter_gt=False, test_mode=True, pipeline=load + fit + pad + rest))
evaluation = dict(type="mAP", subset="validation", tiou_thresholds=[0.5, 0.75], ground_truth_filename="anno.json", blocked_videos="b.json")
"""
ANET_RUN = """
_base_ = ["data.py", "model.py"]
model = dict(projection=dict(in_channels=12, max_seq_len=48, use_abs_pe=True), rpn_head=dict(num_classes=1, loss_weight=2.0))
solver = dict(train=dict(batch_size=4, num_workers=4), val=dict(batch_size=4, num_workers=4), test=dict(batch_size=4, num_workers=4),
              clip_grad_norm=0.4, ema=True)
optimizer = dict(type="AdamW", lr=1e-3, weight_decay=0.05, paramwise=True)
scheduler = dict(type="LinearWarmupCosineAnnealingLR", warmup_epoch=5, max_epoch=15, eta_min=5e-5)
inference = dict(load_from_raw_predictions=False, save_raw_prediction=False)
post_processing = dict(nms=dict(use_soft_nms=True, sigma=0.75, max_seg_num=100, iou_threshold=0, min_score=0.001, multiclass=False,
                       voting_thresh=0.9), external_cls=dict(type="CUHKANETClassifier", path="cuhk.json", topk=2), save_dict=False)
workflow = dict(logging_interval=200, checkpoint_interval=1, val_loss_interval=1, val_eval_interval=1, val_start_epoch=7)
work_dir = "exps/x"
"""


def write_anet(folder, kind, data, change=""):
    rest = DATA[DATA.index("rest = ") :].splitlines()[0]
    # dictionaries with ** are no part of OpenTAD's configs, whose values are written out
    names = {}
    exec(data + rest + PARTS.replace("dict(share, **where,", "dict(**share, **where,"), names)
    (folder / "data.py").write_text(f"dataset = {names['dataset']!r}\nevaluation = {names['evaluation']!r}\n")
    (folder / "model.py").write_text(MODELS[kind])
    (folder / "base.py").write_text(ANET_RUN)
    (folder / "mine.py").write_text(f'_base_ = "base.py"\n{change}\n')
    return ["convert", str(folder / "mine.py"), "--out", str(folder / "mine.yaml")]


@pytest.mark.parametrize(("kind", "data"), [("actionformer", RESIZED), ("tridet", PADDED)])
def test_activitynet_has_one_class_and_resized_or_padded_features(kind, data, tmp_path, capsys):
    """OpenTAD's anet_tsp of ActionFormer (resized, dropout of the features, a window for each level) and of TriDet (padded)."""
    own = "model = dict(projection=dict(attn_cfg=dict(n_mha_win_size=[7, 7, -1]), input_pdrop=0.2))"
    words = write_anet(tmp_path, kind, data, own if kind == "actionformer" else "")
    assert main(words) == 0, capsys.readouterr().err
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert (recipe.temporal_dim, recipe.feat_dim, recipe.input.train_subset) == (48, 12, "training")
    assert (recipe.points.class_agnostic, recipe.points.min_candidate, recipe.points.distance_weight) == (True, 0, 2)
    assert recipe.model_args["num_classes"] == 1
    assert recipe.model_args["positions"] is True
    assert (recipe.nms.class_wise, recipe.nms.voting, recipe.grad_clip) == (False, 0.9, 0.4)
    if kind == "actionformer":
        assert (recipe.input.rescale, recipe.input.time_base) == ("roi_align", "starts")
        assert (recipe.model_args["window"], recipe.model_args["feature_dropout"]) == ([7, 7, -1], 0.2)
    else:
        given = recipe.input
        assert (given.rescale, given.stride, given.clip_frames, given.feature_fps) == ("none", 16, 16, 15)
        assert recipe.schedule.min_lr == 5e-5
    notes = " ".join(yaml.safe_load((tmp_path / "mine.yaml").read_text())["notes"])
    assert "cuhk.json" in notes
    for change, said in (
        ("dataset = dict(test=dict(resize_length=100))", "dataset.test.resize_length = 100"),
        ("dataset = dict(val=dict(class_agnostic=False))", "dataset.val: class_agnostic = False"),
        ("dataset = dict(val=dict(type='ThumosSlidingDataset'))", "dataset.val.type = 'ThumosSlidingDataset'"),
    ):
        assert main(write_anet(tmp_path, kind, data, change)) == 2
        assert said in capsys.readouterr().err


CONFIGS = {
    "af": lambda folder: write(folder, "actionformer"),
    "td": lambda folder: write(folder, "tridet"),
    "anet af": lambda folder: write_anet(folder, "actionformer", RESIZED),
    "anet td": lambda folder: write_anet(folder, "tridet", PADDED),
    "bmn": lambda folder: write_bmn(folder, DETECTIONS),
    "bmn ranked": lambda folder: write_bmn(folder, RANKED),
}


def translate(config, path):
    try:
        return translate_opentad(config, path)
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
        raise RecipeError(f"{path}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("name", CONFIGS)
def test_no_key_can_change_unnoticed(name, tmp_path):
    """Each value of a config changed in turn, and a key too many in each dictionary: another recipe, or refused by its name."""
    config = read_python_config(CONFIGS[name](tmp_path)[1])
    outcomes = list(load_script(ROOT / "benchmarks/mmaction2_configs.py").perturbed_outcomes(config, translate, READ))
    assert len(outcomes) > 150
    assert [path for path, outcome in outcomes if outcome not in ("changed recipe", "refused by name")] == []


def test_other_models_are_named(tmp_path, capsys):
    words = write(tmp_path, "actionformer", "")
    (tmp_path / "model.py").write_text('model = dict(type="TadTR")')
    assert main(words) == 2
    assert "TadTR" in capsys.readouterr().err


BMN_DATA = """
load = [dict(type="LoadFeats", feat_format="npy", prefix="v_"), dict(type="ConvertToTensor", keys=["feats"]),
        dict(type="ResizeFeat", tool="torchvision_align"), dict(type="Rearrange", keys=["feats"], ops="t c -> c t"),
        dict(type="Collect", inputs="feats", keys=["masks"])]
dataset = dict(
    train=dict(type="AnetResizeDataset", ann_file="anno.json", block_list="f/missing.txt", class_map="classes.txt", data_path="f/",
               resize_length=128, class_agnostic=True, subset_name="training", filter_gt=True, pipeline=load),
    val=dict(type="AnetResizeDataset", ann_file="anno.json", block_list="f/missing.txt", class_map="classes.txt", data_path="f/",
             resize_length=128, class_agnostic=True, subset_name="validation", filter_gt=True, pipeline=load),
    test=dict(type="AnetResizeDataset", ann_file="anno.json", block_list="f/missing.txt", class_map="classes.txt", data_path="f/",
              resize_length=128, class_agnostic=True, subset_name="validation", filter_gt=False, test_mode=True, pipeline=load))
"""
BMN_MODEL = """
model = dict(type="BMN",
    projection=dict(type="ConvSingleProj", in_channels=400, out_channels=64, num_convs=2, conv_cfg=dict(groups=4)),
    rpn_head=dict(type="TemporalEvaluationHead", in_channels=64, num_classes=2, conv_cfg=dict(groups=4),
                  loss=dict(pos_thresh=0.5, gt_type=["startness", "endness"])),
    roi_head=dict(type="StandardProposalMapHead", proposal_generator=dict(type="DenseProposalMap", tscale=128, dscale=96),
        proposal_roi_extractor=dict(type="BMNExtractor", in_channels=64, roi_channels=128, out_channels=32, tscale=128, dscale=96,
                                    prop_extend_ratio=0.5),
        proposal_head=dict(type="PEMHead", in_channels=32, feat_channels=32, num_convs=2, num_classes=2,
            loss=dict(cls_loss=dict(type="BalancedBCELoss", pos_thresh=0.9),
                      reg_loss=dict(type="BalancedL2Loss", high_thresh=0.7, low_thresh=0.3, weight=5.0)))))
"""
BMN_RUN = """
_base_ = ["data.py", "model.py"]
model = dict(projection=dict(in_channels=12))
solver = dict(train=dict(batch_size=16, num_workers=4), val=dict(batch_size=16, num_workers=4), test=dict(batch_size=16, num_workers=4),
              clip_grad_norm=1)
optimizer = dict(type="Adam", lr=1e-3, weight_decay=1e-4, paramwise=True)
scheduler = dict(type="MultiStepLR", milestones=[7], gamma=0.1, max_epoch=10)
inference = dict(test_epoch=7, load_from_raw_predictions=False, save_raw_prediction=False)
workflow = dict(logging_interval=200, checkpoint_interval=1, val_loss_interval=1, val_eval_interval=1, val_start_epoch=7)
work_dir = "exps/x"
"""
DETECTIONS = """
evaluation = dict(type="mAP", subset="validation", tiou_thresholds=[0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95],
                  ground_truth_filename="anno.json", blocked_videos="blocked.json")
post_processing = dict(nms=dict(use_soft_nms=True, sigma=0.5, max_seg_num=100, min_score=0.01, multiclass=False, voting_thresh=0.95),
                       external_cls=dict(type="CUHKANETClassifier", path="cuhk.json", topk=2), save_dict=False)
"""
RANKED = """
evaluation = dict(type="Recall", subset="validation", topk=[1, 5, 10, 100], max_avg_nr_proposals=100,
                  tiou_thresholds=[0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
post_processing = dict(score_type="iou*s*e", proposal=True, nms=dict(use_soft_nms=True, sigma=0.4, max_seg_num=100, iou_threshold=0,
                       min_score=0, multiclass=False, voting_thresh=0.95, method=3, t1=0.5, t2=0.4),
                       external_cls=dict(type="PseudoClassifier"), save_dict=False)
"""


def write_bmn(folder, more, change=""):
    (folder / "data.py").write_text(BMN_DATA)
    (folder / "model.py").write_text(BMN_MODEL)
    (folder / "base.py").write_text(BMN_RUN + more)
    (folder / "mine.py").write_text(f'_base_ = "base.py"\n{change}\n')
    return ["convert", str(folder / "mine.py"), "--out", str(folder / "mine.yaml")]


@pytest.mark.parametrize("more", [DETECTIONS, RANKED])
def test_a_config_of_bmn_becomes_a_recipe(more, tmp_path, capsys):
    assert main(write_bmn(tmp_path, more)) == 0, capsys.readouterr().err
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert (recipe.model, recipe.feat_dim, recipe.temporal_dim, recipe.epochs) == ("bmn", 12, 128, 10)
    sizes = {"max_duration": 96, "hidden_dim": 64, "matching_dim": 32, "map_dim": 32, "boundary_ratio": 0.5}
    assert recipe.model_args == sizes
    assert (recipe.bmn.targets, recipe.bmn.losses, recipe.bmn.loss_weights) == ("opentad", "opentad", (1, 10, 1))
    assert (recipe.input.rescale, recipe.input.allow_missing) == ("roi_align", True)
    assert (recipe.optimizer, recipe.optim.first_stage_decay, recipe.grad_clip) == ("adam", 10, 1)
    assert (recipe.schedule.milestones, recipe.schedule.gamma) == ([7], 0.1)
    assert (recipe.nms.voting, recipe.nms.voting_weights) == (0.95, "score")
    if more == DETECTIONS:
        assert (recipe.bmn.scores, recipe.nms.alpha, recipe.nms.low, recipe.nms.high) == ("map", 0.5, 0, 0)
    else:
        assert (recipe.bmn.scores, recipe.nms.alpha, recipe.nms.low, recipe.nms.high) == ("all", 0.4, 0.5, 0.9)
    noted = " ".join(yaml.safe_load((tmp_path / "mine.yaml").read_text())["notes"])
    assert ("cuhk.json" in noted) == (more == DETECTIONS)
    assert "work_dir" in noted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("dataset = dict(train=dict(type='ThumosSlidingDataset', window_size=128))", "type = 'ThumosSlidingDataset'"),
        ("dataset = dict(test=dict(resize_length=100))", "dataset.test.resize_length = 100"),
        (
            "dataset = dict(val=dict(pipeline=[dict(type='LoadFeats', feat_format='npy', prefix='v_'), dict(type='ResizeFeat', tool='scipy')]))",
            "dataset.val.pipeline, ResizeFeat: tool = 'scipy'",
        ),
        ("model = dict(projection=dict(num_convs=3))", "model.projection.num_convs = 3"),
        ("model = dict(roi_head=dict(proposal_generator=dict(tscale=64)))", "proposal_generator.tscale = 64"),
        ("post_processing = dict(nms=dict(use_soft_nms=False))", "post_processing.nms.use_soft_nms = False"),
        ("scheduler = dict(type='CosineAnnealingLR')", "scheduler.type = 'CosineAnnealingLR'"),
    ],
)
def test_what_bmn_can_not_take_is_refused_by_name(change, said, tmp_path, capsys):
    words = write_bmn(tmp_path, DETECTIONS, change)
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert main([*words, "--partial"]) == 0
