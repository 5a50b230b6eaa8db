"""Lines of progress say how long it will take."""

from clipwise.io.progress import ProgressBar


def test_the_time_left_is_counted_from_what_was_done_here():
    bar = ProgressBar("features", quiet=True)
    bar.first = 100  # a run that was taken up again at item 100
    assert bar.line(110, 150, "a.mp4", 20.0) == "features: 110/150 a.mp4, 80 s left"
    assert bar.line(110, 1110, "", 20.0) == "features: 110/1110, 33 min left"
    assert bar.line(150, 150, "b.mp4", 100.0) == "features: 150/150 b.mp4"
    assert bar.line(100, 150, "", 5.0) == "features: 100/150"
    megabytes = ProgressBar("w.pth", unit=("MB", 1e6))
    assert megabytes.line(2_500_000, None, "", 5.0) == "w.pth: 2.5/? MB"


def test_without_a_terminal_the_last_item_is_always_shown(capsys):
    bar = ProgressBar("check")
    for n in range(3):
        bar(n + 1, 3, f"{n}.mp4")
    assert capsys.readouterr().err == "check: 1/3 0.mp4\ncheck: 3/3 2.mp4\n"
