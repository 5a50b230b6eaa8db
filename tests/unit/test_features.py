"""Feature files, annotations and rescaling: every form, and clear errors for what can't be used."""

import json
import math
import pickle

import numpy as np
import pytest
import torch

from clipwise.data.feature_dataset import FeatureDataset, FeatureStore, find_data
from clipwise.data.feature_times import FeatureStrides, _count
from clipwise.data.formats.annotation_files import annotations_of, read_annotations
from clipwise.data.formats.feature_collections import find_collection, is_collection
from clipwise.data.formats.feature_formats import read_feature_file
from clipwise.data.loader import make_loader, prefetch
from clipwise.data.rescale import rescale_features
from clipwise.errors import ClipwiseError, DataError

FEATURES = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
GOOD = {"v1": {"duration": 10.0, "subset": "training", "annotations": [{"segment": [1, 4], "label": "run"}]}}


def save(path, content):
    path.write_text(json.dumps(content))
    return path


# -- feature files


def write(folder, suffix):
    path = folder / f"v_one{suffix}"
    if suffix == ".csv":
        header = ",".join(f"f{i}" for i in range(4))
        np.savetxt(path, FEATURES, delimiter=",", header=header, comments="", fmt="%.8g")
    elif suffix == ".npy":
        np.save(path, FEATURES)
    elif suffix == ".npz":
        np.savez(path, feat=FEATURES)
    elif suffix == ".pkl":
        path.write_bytes(pickle.dumps(list(FEATURES)))
    else:
        torch.save(torch.from_numpy(FEATURES), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz", ".pkl", ".pt"])
def test_one_file_a_video(tmp_path, suffix):
    write(tmp_path, suffix)
    store = FeatureStore(tmp_path, feat_dim=4)
    assert store.names == ["one"]
    assert "v_one" in store
    np.testing.assert_allclose(store.read("one"), FEATURES, rtol=1e-6)
    assert store.read("v_one").dtype == np.float32


def test_csv_without_a_header_and_one_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2e-3,nan\n")
    assert read_feature_file(path).shape == (1, 3)


def test_csv_of_pandas(tmp_path):
    """Columns without names, and rows with numbers."""
    path = tmp_path / "a.csv"
    path.write_text("0,1,2\n5,6,7\n8,9,10\n")
    np.testing.assert_array_equal(read_feature_file(path), [[5, 6, 7], [8, 9, 10]])
    path.write_text(",f0,f1\n0,5,6\n1,8,9\n")
    np.testing.assert_array_equal(read_feature_file(path), [[5, 6], [8, 9]])


def test_archives_of_one_stage_localizers(tmp_path):
    """ActionFormer's EPIC archives have ``feats``; others come as .pickle or .h5."""
    np.savez(tmp_path / "a.npz", feats=FEATURES, other=np.zeros(3))
    (tmp_path / "b.pickle").write_bytes(pickle.dumps({"feats": FEATURES}))
    for name in ("a.npz", "b.pickle"):
        np.testing.assert_array_equal(read_feature_file(tmp_path / name), FEATURES)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["anything"] = FEATURES
    np.testing.assert_array_equal(read_feature_file(tmp_path / "c.h5"), FEATURES)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"], file["y"] = FEATURES, FEATURES
    with pytest.raises(DataError, match="holds x, y"):
        read_feature_file(tmp_path / "d.h5")


def test_pickles_of_tensors_and_of_python_2(tmp_path, capsys):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([torch.from_numpy(row.copy()) for row in FEATURES]))
    np.testing.assert_array_equal(read_feature_file(path), FEATURES)
    old = np.float32([[1, 2]]).tobytes()
    # what numpy wrote under Python 2: the bytes are a string
    path.write_bytes(
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n(I1\n(I1\nI2\ntp6\n"
        b"cnumpy\ndtype\np7\n(S'f4'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\nS"
        + repr(old)[1:].encode()
        + b"\np13\ntp14\nb."
    )
    np.testing.assert_array_equal(read_feature_file(path), [[1, 2]])
    evil = pickle.dumps(Evil(), 2)
    # a tensor whose storage is a pickle that runs code: torch's own reader would run it
    path.write_bytes(b"ctorch.storage\n_load_from_bytes\n(" + pickle.dumps(evil, 3)[2:-1] + b"tR.")
    with pytest.raises(DataError, match="can't be read"):
        read_feature_file(path)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_all_in_one_file(tmp_path, kind):
    both = np.stack([FEATURES, 2 * FEATURES])
    path = tmp_path / f"all.{kind}"
    if kind == "npz":
        np.savez(path, names=np.array(["a", "v_b"]), feat=both)
    else:
        np.save(path, both)
        (tmp_path / "all.txt").write_text("a\nv_b\n")
    store = FeatureStore(path)
    assert store.names == ["a", "b"]
    np.testing.assert_array_equal(store.read("b"), 2 * FEATURES)
    if kind == "npy":
        assert isinstance(store.many.array, np.memmap)


def write_many(path, videos, duration=None, fps=None):
    """An entry a video, in the form that the suffix says; ``.group.h5`` has groups by subset that hold groups."""
    if path.suffix == ".npz":
        np.savez(path, **videos)
    elif path.suffix == ".pt":
        torch.save({name: torch.from_numpy(x) for name, x in videos.items()}, path)
    elif path.suffix in (".pkl", ".pickle"):
        entries = {
            name: {"feats": x, "duration": duration, "fps": fps} if duration else x for name, x in videos.items()
        }
        path.write_bytes(pickle.dumps(entries))
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for number, (name, x) in enumerate(videos.items()):
                if path.stem.endswith("group"):
                    group = file.require_group("val" if number else "train").create_group(name)
                    group["feats"] = x
                    if duration:
                        group.attrs["duration"], group["fps"] = duration, fps
                else:
                    file[name] = x


@pytest.mark.parametrize("kind", ["a.npz", "a.pt", "a.pkl", "a.pickle", "a.h5", "a.hdf5", "a.group.h5", "facts.pkl"])
def test_an_entry_a_video(tmp_path, kind):
    """Videos of different lengths in one file, as published features go around."""
    videos = {"v_a": FEATURES, "b": 2 * FEATURES[:3]}
    told = {"duration": 12.5, "fps": 25.0} if "group" in kind or "facts" in kind else {}
    write_many(tmp_path / kind, videos, **told)
    store = FeatureStore(tmp_path / kind, feat_dim=4)
    assert sorted(store.names) == ["a", "b"]
    for name, x in videos.items():
        np.testing.assert_array_equal(store.read(name), x)
        assert _count(store, name) == len(x)
        assert store.facts(name) == ({"duration_s": 12.5, "fps": 25.0} if told else {})
    assert store.where("a") == f"{tmp_path / kind}, video a"
    (tmp_path / "gt.json").write_text("{}")
    assert find_data(str(tmp_path), None, "gt.json").features == tmp_path / kind  # the only candidate of the folder
    again = pickle.loads(pickle.dumps(store))  # a loader's worker that is started anew
    np.testing.assert_array_equal(again.read("b"), videos["b"])
    assert find_collection(tmp_path / kind) is not None


def test_a_file_of_one_video_is_no_collection(tmp_path):
    h5py = pytest.importorskip("h5py")
    np.savez(tmp_path / "a.npz", feat=FEATURES, other=FEATURES)
    np.savez(tmp_path / "b.npz", FEATURES)
    torch.save({"feats": torch.from_numpy(FEATURES)}, tmp_path / "c.pt")
    torch.save(torch.from_numpy(FEATURES), tmp_path / "d.pt")
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["anything"] = FEATURES
    for file in sorted(tmp_path.iterdir()):
        assert find_collection(file) is None, file
    assert FeatureStore(tmp_path / "e.h5").names == ["anything"]  # named as the file with all videos, it is one of one
    with pytest.raises(
        DataError, match="holds one video's features, or none; a file with all videos has an entry a video"
    ):
        FeatureStore(tmp_path / "d.pt")


def test_arrays_inside_groups_are_named_by_their_group(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "xy":
            file.create_group(name)["i3d"] = FEATURES
    assert FeatureStore(tmp_path / "a.h5").names == ["x", "y"]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for name in "xy":
            file.create_group(name)["rgb"] = file[name]["flow"] = FEATURES
    with pytest.raises(DataError, match="duplicate video name 'flow'"):
        FeatureStore(tmp_path / "b.h5")


def test_half_and_double_precision_and_bfloat16(tmp_path):
    torch.save(
        {n: torch.ones(3, 4, dtype=d) for n, d in (("a", torch.bfloat16), ("b", torch.float64))}, tmp_path / "a.pt"
    )
    np.savez(tmp_path / "b.npz", a=np.ones((3, 4), np.float16), b=np.ones((3, 4), ">f8"))
    for file in ("a.pt", "b.npz"):
        for name in "ab":
            values = FeatureStore(tmp_path / file).read(name)
            assert values.dtype == np.float32
            assert (values == 1).all()


@pytest.mark.parametrize("kind", ["folder", "all.pkl"])
def test_channels_first(tmp_path, kind):
    """MS-TCN's archives: (feat_dim, positions) with another number of positions in each video."""
    videos = {"a": FEATURES, "b": 2 * FEATURES[:3]}
    if kind == "folder":
        for name, x in videos.items():
            np.save(tmp_path / f"{name}.npy", x.T)
    else:
        write_many(tmp_path / kind, {name: x.T for name, x in videos.items()})
    place = tmp_path if kind == "folder" else tmp_path / kind
    with pytest.raises(DataError, match=r"their axes are exchanged. Set input.channels_first=true"):
        FeatureStore(place).find_feat_dim()
    store = FeatureStore(place, channels_first=True)
    assert store.find_feat_dim() == 4
    np.testing.assert_array_equal(store.read("b"), videos["b"])
    assert _count(store, "b") == 3


def test_the_rate_beside_the_features_places_them(tmp_path):
    """Annotations without a rate: what the file of features tells of a video is taken (a feature every 4 frames, clips of 16)."""
    write_many(tmp_path / "a.pkl", {"v1": FEATURES}, duration=10.0, fps=8.0)
    strides = FeatureStrides(4, 16)
    data = FeatureDataset(annotations_of(GOOD), FeatureStore(tmp_path / "a.pkl"), temporal_dim=None, strides=strides)
    assert data.first_s == [(16 - 4) / 2 / 8]
    assert data.covered_s == [7 * 4 / 8]


def test_damaged_collections_are_named(tmp_path):
    pytest.importorskip("h5py")
    write_many(tmp_path / "a.h5", {"a": FEATURES, "b": FEATURES})
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.h5 can't be read"):
        FeatureStore(tmp_path / "a.h5")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"x": Evil(), "y": FEATURES}))
    with pytest.raises(DataError, match=r"builtins\.eval"):
        find_collection(tmp_path / "b.pkl")
    assert not is_collection(tmp_path / "b.pkl")  # looked at while the features of a folder are searched for


class Evil:
    def __reduce__(self):
        return eval, ("1 + 1",)


def bad_file(tmp_path, what):
    """A feature file that can't be used, and what the message must say."""
    path = tmp_path / "x.npy"
    if what == "nan":
        broken = FEATURES.copy()
        broken[3, 2] = np.nan
        np.save(path, broken)
        return path, ["position 3, channel 2", "1 feature is NaN"]
    if what == "dimension":
        np.save(path, FEATURES[:, :3])
        return path, ["feat_dim 3", "the model has feat_dim 4"]
    if what == "transposed":
        np.save(path, FEATURES.T)
        return path, ["looks transposed"]
    if what == "empty":
        np.save(path, np.zeros((0, 4), np.float32))
        return path, ["shape (0, 4)"]
    if what == "flat":
        np.save(path, np.zeros(4))
        return path, ["shape (4,)"]
    if what == "damaged":
        path.write_bytes(b"\x93NUMPY\x01\x00rubbish")
        return path, ["can't be read"]
    if what == "ragged":
        path = tmp_path / "x.csv"
        path.write_text("f0,f1\n1,2\n3\n")
        return path, ["can't be read"]
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(Evil()))
    return path, ["builtins.eval"]


@pytest.mark.parametrize(
    "what", ["nan", "dimension", "transposed", "empty", "flat", "damaged", "ragged", "code in a pickle"]
)
def test_bad_feature_files_are_named(tmp_path, what, capsys):
    path, words = bad_file(tmp_path, what)
    with pytest.raises(DataError) as error:
        FeatureStore(tmp_path, feat_dim=4).read("x")
    for word in [str(path), *words]:
        assert word in str(error.value)
    assert "must not run" not in capsys.readouterr().out


def test_a_bad_file_is_named_by_a_loaders_worker_too(tmp_path):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", FEATURES)
    (tmp_path / "b.npy").write_bytes(b"junk")
    videos = annotations_of(dict.fromkeys("abc", GOOD["v1"]))
    data = FeatureDataset(videos, FeatureStore(tmp_path, feat_dim=4), temporal_dim=7)
    with pytest.raises(DataError) as error:
        list(prefetch(make_loader(data, num_workers=1), torch.device("cpu")))
    assert (
        str(error.value)
        == f"feature file {tmp_path}/b.npy can't be read: it is damaged, or holds objects instead of numbers."
    )


def test_a_missing_feature_names_folder_and_videos(tmp_path):
    write(tmp_path, ".npy")
    videos = annotations_of({**GOOD, "one": GOOD["v1"]})
    with pytest.raises(DataError, match=r"no features of 1 of 2 videos.*the first: v1.*allow_missing") as error:
        FeatureDataset(videos, FeatureStore(tmp_path), temporal_dim=5)
    assert str(tmp_path) in str(error.value)
    with pytest.raises(DataError, match="has no features of video 'two'"):
        FeatureStore(tmp_path).read("two")


def test_folders_that_hold_nothing_or_two_of_a_kind(tmp_path):
    with pytest.raises(DataError, match="holds no feature file"):
        FeatureStore(tmp_path)
    with pytest.raises(DataError, match="do not exist"):
        FeatureStore(tmp_path / "nowhere")
    write(tmp_path, ".npy")
    write(tmp_path, ".csv")
    with pytest.raises(DataError, match=r"twice: v_one\.csv and v_one\.npy"):
        FeatureStore(tmp_path)
    assert FeatureStore(tmp_path, "npy").where("one").endswith("v_one.npy")


@pytest.mark.parametrize(("count", "positions"), [(7, 3), (10, 4), (4, 10), (1, 5), (2051, 100), (2049, 8)])
def test_roi_align_is_carried_out_literally(count, positions):
    """torchvision's rule for one box over the whole sequence (aligned, adaptive sampling), a point at a time; half precision before it."""
    data = np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32)
    half = data.astype(np.float16).astype(np.float64)
    end = float(np.float16(count))
    size, grid = end / positions, math.ceil(end / positions)
    rows = np.zeros((positions, 2))
    for part in range(positions):
        for i in range(grid):
            y = -0.5 + part * size + (i + 0.5) * size / grid
            if y < -1 or y > count:
                continue
            y = max(y, 0.0)
            low = int(y)
            high = low + 1
            if low >= count - 1:
                low = high = count - 1
                y = float(low)
            rows[part] += (half[low] * (high - y if high > low else 1) + half[high] * (y - low)) / grid
    np.testing.assert_allclose(rescale_features(data, positions, "roi_align"), rows, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("in_memory", [False, True])
def test_the_dataset_gives_channels_first_and_rescales(tmp_path, in_memory):
    write(tmp_path, ".npy")
    videos = annotations_of({"one": GOOD["v1"]})
    data = FeatureDataset(videos, FeatureStore(tmp_path), temporal_dim=3, in_memory=in_memory)
    sample = data[(5, 0)]
    assert sample["index"] == 0
    np.testing.assert_allclose(sample["features"].numpy().T, rescale_features(FEATURES, 3), rtol=1e-6)
    np.testing.assert_allclose(data.segments[0], [[0.1, 0.4]])
    with pytest.raises(DataError, match="7 positions, but temporal_dim is 3"):
        FeatureDataset(videos, FeatureStore(tmp_path), temporal_dim=3, rescale="none")[0]


# -- rescaling


def bsn_pool(data, positions, step):
    """BSN's rule, written as its words say: a plain loop over the parts."""
    centers = np.array([step / 2 + k * step for k in range(len(data))])
    length = len(data) * step
    rows = []
    for k in range(positions):
        low = max(centers[0] + 1e-4, k / positions * length)
        high = min(centers[-1] - 1e-4, (k + 1) / positions * length)
        if high < centers[0] or low > centers[-1]:
            rows.append(np.zeros(data.shape[1]))
            continue
        points = [low, (low + high) / 2, high]
        rows.append(np.mean([[np.interp(p, centers, column) for column in data.T] for p in points], axis=0))
    return np.array(rows)


@pytest.mark.parametrize(
    ("n", "positions", "step"), [(37, 100, 0.64), (250, 100, 0.533), (12, 100, 1.0), (100, 100, 0.5)]
)
def test_bsn_rule_equals_a_plain_loop(n, positions, step):
    data = np.random.default_rng(n).normal(size=(n, 3))
    ours = rescale_features(data, positions, "bsn", seconds_per_position=step)
    np.testing.assert_allclose(ours, bsn_pool(data, positions, step), atol=1e-6)
    if n == 12:  # the first part lies before the first snippet's center
        assert (ours[0] == 0).all()


@pytest.mark.parametrize(("n", "positions"), [(37, 100), (250, 100), (2, 10)])
@pytest.mark.parametrize("rule", ["pool", "max_pool"])
def test_mmaction2_rule_equals_a_plain_loop(n, positions, rule):
    data = np.random.default_rng(n).normal(size=(n, 3))
    step = (n - 1 - 2e-4) / positions
    rows = []
    for k in range(positions):
        points = [1e-4 + k * step + i * step / 3 for i in range(3)]
        sampled = np.array([[np.interp(p, np.arange(n), column) for column in data.T] for p in points])
        rows.append(sampled.max(0) if rule == "max_pool" else sampled.mean(0))
    np.testing.assert_allclose(rescale_features(data, positions, rule), rows, atol=1e-6)


def test_linear_rule_is_the_mean_of_the_interpolation():
    data = np.random.default_rng(1).normal(size=(23, 2))
    fine = np.linspace(0, 23, 10 * 4000 + 1)
    fine = (fine[1:] + fine[:-1]) / 2 - 0.5
    dense = np.stack([np.interp(fine, np.arange(23), column) for column in data.T], axis=1)
    np.testing.assert_allclose(rescale_features(data, 10), dense.reshape(10, 4000, 2).mean(1), atol=1e-4)


def test_linear_rule_keeps_means_and_constants():
    data = np.random.default_rng(2).normal(size=(50, 3))
    assert rescale_features(np.ones((5, 2)), 40).min() == pytest.approx(1)
    # halves of the video keep their share of the features' sum
    np.testing.assert_allclose(rescale_features(data, 7).mean(0), rescale_features(data, 1)[0], atol=1e-6)
    assert rescale_features(data[:1], 4).shape == (4, 3)
    with pytest.raises(ClipwiseError, match="use one of linear, bsn"):
        rescale_features(data, 4, "nearest")


# -- annotations


def test_all_forms_of_annotations_say_the_same(tmp_path):
    anet = save(tmp_path / "anet.json", {"version": "VERSION 1.3", "database": GOOD})
    entry = {
        "duration_second": 10.0,
        "duration_frame": 250,
        "feature_frame": 240,
        "annotations": GOOD["v1"]["annotations"],
    }
    bsn = save(tmp_path / "anet_anno_action.json", {"v_v1": entry})
    (tmp_path / "video_info_new.csv").write_text(
        "video,numFrame,seconds,fps,rfps,subset,featureFrame\nv_v1,250,10,25,25,training,240\n"
    )
    paddle = save(tmp_path / "paddle.json", {"v_v1": {**entry, "subset": "training"}})
    for path in (anet, bsn, paddle):
        videos = read_annotations(path).subset("train")
        video = videos.videos["v1"]
        assert (video.duration_s, video.subset, video.labels) == (10.0, "training", ("run",))
        np.testing.assert_array_equal(video.segments, [[1, 4]])
    assert video.covered_s("snippets") == pytest.approx(9.6)
    np.testing.assert_allclose(video.fractions("snippets"), [[1 / 9.6, 4 / 9.6]])


def entry(**changes):
    return {**GOOD["v1"], **changes}


BAD_ANNOTATIONS = {
    "a zero-length segment": (
        entry(annotations=[{"segment": [3, 3], "label": "a"}]),
        "v1: segment [3.0, 3.0] has no length",
    ),
    "a segment beyond the duration": (
        entry(annotations=[{"segment": [3, 30]}]),
        "ends after the video, which has 10 s",
    ),
    "no annotation": (entry(annotations=[]), "v1: no segment"),
    "a segment that ends before it starts": (entry(annotations=[{"segment": [4, 3]}]), "ends before it starts"),
    "a negative start": (entry(annotations=[{"segment": [-1, 3]}]), "starts before the video"),
    "NaN": (entry(annotations=[{"segment": [1, float("nan")]}]), "NaN or infinite"),
    "no duration": ({"subset": "training", "annotations": [{"segment": [1, 2], "label": "x"}]}, "has no duration"),
    "a duration of zero": (entry(duration=0), "has duration 0"),
    "a segment that is no pair": (entry(annotations=[{"segment": [1]}]), "must be a list of"),
    "frames that are no number": (entry(duration_frame="many"), "duration_frame, feature_frame and fps of video 'v1'"),
    "an entry that is not a dictionary": ([1, 2], "is list"),
}


@pytest.mark.parametrize("what", BAD_ANNOTATIONS)
def test_bad_annotations_are_named(tmp_path, what):
    content, words = BAD_ANNOTATIONS[what]
    path = save(tmp_path / "gt.json", {"database": {"v1": content}})
    with pytest.raises(DataError) as error:
        read_annotations(path).checked()
    assert str(path) in str(error.value)
    assert "v1" in str(error.value)
    assert words in str(error.value)


def test_tolerant_keeps_what_can_be_used(tmp_path):
    content = {
        "v1": entry(annotations=[{"segment": [3, 3]}, {"segment": [3, 30], "label": "b"}]),
        "v2": entry(annotations=[]),
    }
    videos, notes = read_annotations(save(tmp_path / "gt.json", {"database": content})).checked(tolerant=True)
    np.testing.assert_array_equal(videos.videos["v1"].segments, [[3, 30]])
    assert videos.videos["v1"].labels == ("b",)
    assert len(notes) == 3
    assert all(str(tmp_path) in note for note in notes)


def test_files_that_hold_no_annotations(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(DataError, match="is not a JSON file"):
        read_annotations(tmp_path / "text.json")
    with pytest.raises(DataError, match="holds no annotations"):
        read_annotations(save(tmp_path / "list.json", []))
    path = save(tmp_path / "gt.json", {"database": GOOD})
    with pytest.raises(DataError, match="no video of subset 'validation': it has training"):
        read_annotations(path).subset("validation")


def test_activitynet_as_it_is(shared):
    """19,228 videos; its 12 segments without length and the late ends are found, and known to be there."""
    videos = read_annotations(shared / "data/activitynet/anet_anno_action.json")
    assert [len(videos.subset(s)) for s in ("training", "validation", "testing")] == [9649, 4728, 4851]
    assert len(videos.classes) == 200
    with pytest.raises(DataError, match="tolerant=true"):
        videos.subset("training").checked()
    sound, notes = videos.subset("training").checked(tolerant=True)
    assert sum(len(v.segments) for v in sound.videos.values()) + int(notes[0].split(": ")[1].split()[0]) == 14859
    sample = read_feature_file(shared / "data/activitynet/paddle_example_feat.npy")
    assert sample.shape == (100, 400)
