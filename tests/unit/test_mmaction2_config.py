"""MMAction2's configs become recipes, without a line of them being run."""

import textwrap

import pytest

from clipwise.convert.mmaction2 import convert_config, recipe_of_config
from clipwise.convert.mmaction2.python_config import read_python_config
from clipwise.errors import RecipeError
from clipwise.recipe import flatten, load_recipe, make_recipe

BASE = """
model = dict(
    type='Recognizer2D',
    backbone=dict(type='ResNetTSM', pretrained='torchvision://resnet50', depth=50, norm_eval=False, shift_div=8),
    cls_head=dict(type='TSMHead', num_classes=400, in_channels=2048, spatial_type='avg',
                  consensus=dict(type='AvgConsensus', dim=1), dropout_ratio=0.5, init_std=0.001, is_shift=True),
    train_cfg=None, test_cfg=dict(average_clips='prob'))
optimizer = dict(type='SGD', constructor='TSMOptimizerConstructor', paramwise_cfg=dict(fc_lr5=True), lr=0.01, momentum=0.9,
                 weight_decay=0.0001)
optimizer_config = dict(grad_clip=dict(max_norm=20, norm_type=2))
lr_config = dict(policy='step', step=[20, 40])
total_epochs = 50
checkpoint_config = dict(interval=1)
log_config = dict(interval=20, hooks=[dict(type='TextLoggerHook')])
"""
OLD = """
_base_ = ['base.py']
model = dict(cls_head=dict(num_classes=174))
root = 'data/mine'
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_bgr=False)
swap = {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52}
train_pipeline = [
    dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8),
    dict(type='RawFrameDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='MultiScaleCrop', input_size=224, scales=(1, 0.875, 0.75, 0.66), random_crop=False, max_wh_scale_gap=1,
         num_fixed_crops=13),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5, flip_label_map=swap),
    dict(type='Normalize', **norm),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='Collect', keys=['imgs', 'label'], meta_keys=[]),
    dict(type='ToTensor', keys=['imgs', 'label'])]
val_pipeline = [
    dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8, test_mode=True),
    dict(type='RawFrameDecode'), dict(type='Resize', scale=(-1, 256)), dict(type='CenterCrop', crop_size=224),
    dict(type='Normalize', **norm)]
test_pipeline = [
    dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8, twice_sample=True, test_mode=True),
    dict(type='RawFrameDecode'), dict(type='Resize', scale=(-1, 256)), dict(type='ThreeCrop', crop_size=256),
    dict(type='Normalize', **norm)]
data = dict(
    videos_per_gpu=8, workers_per_gpu=2, test_dataloader=dict(videos_per_gpu=1),
    train=dict(type='RawframeDataset', ann_file=root + '/train.txt', data_prefix=root, filename_tmpl='{:05}.jpg', pipeline=train_pipeline),
    val=dict(type='RawframeDataset', ann_file=f'{root}/val.txt', data_prefix=root, filename_tmpl='{:05}.jpg', pipeline=val_pipeline),
    test=dict(type='RawframeDataset', ann_file=f'{root}/val.txt', data_prefix=root, filename_tmpl='{:05}.jpg', pipeline=test_pipeline))
evaluation = dict(interval=5, metrics=['top_k_accuracy'])
optimizer = dict(weight_decay=0.0005)
"""
NEW = """
model = dict(
    type='Recognizer3D',
    backbone=dict(type='ResNet3dSlowOnly', depth=50, pretrained=None, lateral=False, in_channels=2, conv1_kernel=(1, 7, 7),
                  conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 1, 1), norm_eval=False,
                  non_local=((0, 0, 0), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 0, 0)),
                  non_local_cfg=dict(sub_sample=True, use_scale=True, norm_cfg=dict(type='BN3d'), mode='gaussian')),
    cls_head=dict(type='I3DHead', in_channels=2048, num_classes=400, spatial_type='avg', dropout_ratio=0.5, average_clips='prob'),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[128, 128], std=[128, 128], format_shape='NCTHW'))
pipeline = [
    dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=1),
    dict(type='RawFrameDecode'), dict(type='RandomResizedCrop'), dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5), dict(type='FormatShape', input_format='NCTHW'), dict(type='PackActionInputs')]
test_pipeline = [
    dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=10, test_mode=True),
    dict(type='RawFrameDecode'), dict(type='Resize', scale=(-1, 256)), dict(type='ThreeCrop', crop_size=256)]
shared = dict(type='RawframeDataset', modality='Flow', filename_tmpl='{}_{:05d}.jpg')
train_dataloader = dict(batch_size=16, num_workers=8, dataset=dict(ann_file='t.txt', data_prefix=dict(img='rt'), pipeline=pipeline, **shared))
test_dataloader = dict(batch_size=1, num_workers=8, dataset=dict(ann_file='v.txt', data_prefix=dict(img='rv'), pipeline=test_pipeline, test_mode=True, **shared))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=256, val_begin=1, val_interval=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=34, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=222, eta_min=0, by_epoch=True, begin=34, end=256, convert_to_iter_based=True)]
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.2, momentum=0.9, weight_decay=5 * 1e-4 / 5),
                     clip_grad=dict(max_norm=40, norm_type=2))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=8, max_keep_ckpts=3), logger=dict(type='LoggerHook', interval=20))
auto_scale_lr = dict(enable=False, base_batch_size=128)
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "base.py").write_text(BASE)

    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_an_old_config_is_the_packaged_recipe(config):
    """The same settings as MMAction2's TSM with changed labels; the packaged recipe was written from the table by hand."""
    values, left = recipe_of_config(config(OLD))
    assert not left
    ours = flatten(load_recipe("tsm_r50_flip_1x1x8_50e_sthv1_rgb").model_dump())
    theirs = flatten(make_recipe(values).model_dump())
    places = {
        "train_data": "data/mine/train.txt",
        "val_data": "data/mine/val.txt",
        "data_root": "data/mine",
        "num_classes": 174,
    }
    assert {k: theirs[k] for k in places} == places
    apart = {"name", "paper", "notes", *(k for k in ours if k.startswith("published.")), *places}
    assert {k: v for k, v in theirs.items() if k not in apart and v != ours[k]} == {"val.every": 5}
    assert ours["val.every"] == 2


def test_a_new_config(config):
    values, left = recipe_of_config(config(NEW))
    assert not left
    recipe = make_recipe(values)
    assert recipe.model == "slowonly_r50_nl"
    assert recipe.init is None
    assert recipe.modality == "flow"
    assert recipe.model_args == {"dropout": 0.5, "non_local": "gaussian", "non_local_use_scale": True}
    assert (recipe.clip_len, recipe.frame_interval, recipe.num_segments, recipe.test.num_clips) == (16, 4, None, 10)
    assert (recipe.augment.resize, recipe.augment.crop, recipe.crop_size) == (None, "random_resized", 224)
    assert (recipe.test.resize, recipe.test.crop, recipe.test.crop_size) == (256, "three", 256)
    assert (recipe.test.rule, recipe.input.interpolation, recipe.input.fused_resize) == (
        "mmaction2_1.x",
        "opencv",
        False,
    )
    assert (recipe.lr_schedule, recipe.schedule.after_warmup, recipe.schedule.by) == ("cosine", True, "iteration")
    assert (recipe.warmup_epochs, recipe.schedule.warmup_start, recipe.epochs, recipe.val.every) == (34, 0.1, 256, 8)
    assert (recipe.lr, recipe.weight_decay, recipe.grad_clip, recipe.amp) == (0.2, pytest.approx(1e-4), 40, "fp16")
    assert (recipe.batch_size, recipe.base_batch_size, recipe.val.batch_size, recipe.checkpoint.keep) == (
        16,
        128,
        None,
        3,
    )
    assert (recipe.input.mean, recipe.input.std, recipe.input.filename_tmpl) == (
        [128, 128],
        [128, 128],
        "{}_{:05d}.jpg",
    )
    assert (recipe.train_data, recipe.data_root, recipe.test_data, recipe.val.data_root) == (
        "t.txt",
        "rt",
        "v.txt",
        "rv",
    )


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("conv1_kernel=(1, 7, 7)", "conv1_kernel=(5, 7, 7)", "model.backbone.conv1_kernel = [5, 7, 7]"),
        ("lateral=False", "lateral=True", "model.backbone.lateral = True"),
        ("norm_eval=False", "norm_evaluation=False", "model.backbone.norm_evaluation = False"),
        ("((0, 0, 0), (1, 0, 1, 0)", "((1, 0, 0), (1, 0, 1, 0)", "model.backbone.non_local = "),
        ("dict(type='Flip', flip_ratio=0.5)", "dict(type='Flip', flip_ratio=0.5, direction='vertical')", "direction = 'vertical'"),
        ("dict(type='PackActionInputs')", "dict(type='Imgaug', transforms='default')", "train pipeline: Imgaug"),
        ("clip_len=16, frame_interval=4, num_clips=10", "clip_len=8, frame_interval=4, num_clips=10", "test pipeline: clip_len = 8, but 16"),
        ("scale=(-1, 256)", "scale=(340, 256)", "test pipeline, Resize: scale = [340, 256]"),
        ("mean=[128, 128], std=[128, 128], ", "", "no normalization"),
        ("dict(type='Resize', scale=(224, 224), keep_ratio=False),", "", "no Resize after RandomResizedCrop"),
        ("type='SGD'", "type='LARS'", "optim_wrapper.optimizer.type = 'LARS'"),
        ("T_max=222", "T_max=200", "CosineAnnealingLR, T_max = 200"),
        ("max_norm=40, norm_type=2", "max_norm=40, norm_type=1", "optim_wrapper.clip_grad.norm_type = 1"),
        ("type='RawframeDataset', modality", "type='ConcatDataset', modality", "train data: type = 'ConcatDataset'"),
        ("dict(img='rv')", "dict(img='rv'), indices=100", "test data: indices = 100"),
        ("val_interval=8)", "val_interval=8)\ncustom_hooks = [dict(type='EMAHook')]", "custom_hooks = [{'type': 'EMAHook'}]"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_named_and_refused(config, tmp_path, old, new, named):
    assert old in NEW
    path, out = config(NEW.replace(old, new)), tmp_path / "out.yaml"
    with pytest.raises(RecipeError, match="settings without counterpart") as error:
        convert_config(path, out)
    assert named in str(error.value)
    assert str(path) in str(error.value)
    assert not out.exists()


def test_partial_leaves_out_what_it_names_and_writes_the_rest(config, tmp_path):
    path = config(NEW.replace("dict(type='PackActionInputs')", "dict(type='Imgaug', transforms='default')"))
    notes, left = convert_config(path, tmp_path / "out.yaml", partial=True)
    assert left == ["train pipeline: Imgaug (transforms = 'default')"]
    assert load_recipe(tmp_path / "out.yaml").notes == notes != []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os", "mine.py:1: `import os`: configs are read, not run"),
        ("a = 1\nb = __import__('os').system('true')", r"mine.py:2: `__import__\('os'\).system\('true'\)`"),
        ("a = open('/etc/passwd').read()", "has no value without running it"),
        ("a = [x for x in (1, 2)]", "has no value without running it"),
        ("a = 'x' * 10", "has no value without running it"),
        ("a = 10 ** 10 ** 10", "has no value without running it"),
        ("a = [0] * 1000000000", "has no value without running it"),
        ("a = 99\n" + "a = a * a\n" * 40, "mine.py:5: `a \\* a`"),
        ("a = 'xx'\n" + "a = f'{a}{a}'\n" * 40, "mine.py:17: "),
        ("a = [0] * 1000\nb = a * 1000", "mine.py:2: `a \\* 1000`"),
        ("a = [0] * 1000\n" + "a = a + a\n" * 40, "mine.py:8: `a \\+ a`"),
        ("a = f'{1:1000000000}'", "has no value without running it"),
        ("a = (lambda: 1)()", "has no value without running it"),
        ("a = dict.__class__", "there is no|has no value"),
        ("a = 1 / 0", "this has no value"),
        ("a = b''", "has no value without running it"),
        ("for i in range(3):\n    pass", "may hold only `name = value` lines"),
        ("_base_ = 'mine.py'", "lead back to itself"),
        ("_base_ = 'missing.py'", "missing.py: can't be read"),
        ("_base_ = 3", "must be a file or a list of files"),
        ("a = (", "mine.py:1: not valid Python"),
        ("a = dict(**[1])", "is not a dictionary"),
        ("a = {[1]: 2}", "mine.py:1: `\\[1\\]`: keys are text or numbers"),
        ("a = {}\na[[1]] = 2", "mine.py:2: `\\[1\\]`: keys are text or numbers"),
        # how deep is too deep differs between versions of Python; no version may end in an error of its own
        ("a = " + " + ".join("1" * 1500), "nested too deep|not valid Python|not a config of MMAction2"),
        ("a, b = 1, 2", "only names and keys of dictionaries"),
        ("a = 1", "not a config of MMAction2"),
        (
            "model = dict(type='BMN')\ndata = dict(train=dict(type='X'))",
            "BMN configs are not translated",
        ),
        (
            "model = dict(type='X')\ndata = dict(train=dict(type='X'))",
            "a model of None, no neck and None is not in clipwise",
        ),
        (
            "model = dict(backbone=dict(type='ResNet'), cls_head=dict(type='TSNHead'))\ndata = dict(train=dict(pipeline=[3]))",
            "not in the form of MMAction2's configs",
        ),
    ],
)
def test_files_that_would_need_to_be_run_or_are_something_else(config, text, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of_config(config(text))


def test_deep_nesting_is_refused(config):
    with pytest.raises(RecipeError):
        recipe_of_config(config("a = " + "[" * 5000 + "]" * 5000))


def test_a_windows_editors_mark_at_the_start_is_no_code(config):
    assert read_python_config(config("\ufeffa = 1")) == {"a": 1}


def test_bases_are_merged_as_mmengine_does(config):
    config("a = dict(x=1, y=dict(p=1, q=2), z=[1, 2])\nb = 3\nc = dict(keep=1)", "one.py")
    config("d = 'text'", "two.py")
    path = config("""
        '''A docstring.'''
        _base_ = ['one.py', 'two.py']
        a = dict(y=dict(p=_base_.b + 1), z=[9])
        c = dict(_delete_=True, new=-2)
        e = ['{{_base_.d}}', {{_base_.a.x}}, not True, a['z'][0], f'{_base_.d}/x']
        e2 = dict(k=1)
        e2['m'] = 2 * 1e-4
    """)
    assert read_python_config(path) == {
        "a": {"x": 1, "y": {"p": 4, "q": 2}, "z": [9]},
        "b": 3,
        "c": {"new": -2},
        "d": "text",
        "e": ["text", 1, False, 9, "text/x"],
        "e2": {"k": 1, "m": 2e-4},
    }


def test_a_config_is_not_taken_for_the_recipe_of_its_name(config):
    path = config(OLD, "tsm_r50_flip_1x1x8_50e_sthv1_rgb.py")
    with pytest.raises(RecipeError, match=f"clipwise convert {path} --out tsm_r50_flip"):
        load_recipe(path)
