"""``clipwise --help``: all commands, and four to begin with."""

from collections.abc import Mapping

from clipwise import __version__

_TEXT = """\
clipwise {version}: recognize what happens in a video clip, and find when it happens in a long video.

usage: clipwise COMMAND …   (clipwise COMMAND --help says more; --debug shows the traceback of an error)

{verbs}

From a folder with one subfolder of videos for each class:
  clipwise check   my_videos
  clipwise train   tsm_tiny --data my_videos --work-dir runs/mine
  clipwise test    runs/mine/best.safetensors
  clipwise predict runs/mine/best.safetensors new_video.mp4"""


def show_overview(verbs: Mapping[str, tuple[str, str]]) -> None:
    width = max(map(len, verbs))
    lines = (f"  {verb:<{width}}  {text}" for verb, (_, text) in verbs.items())
    print(_TEXT.format(version=__version__, verbs="\n".join(lines)))
