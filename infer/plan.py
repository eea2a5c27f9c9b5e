"""Which files are stylized, and where each result goes: settled before any work."""

import glob
import os
from dataclasses import dataclass, field
from pathlib import Path

from allaprima.core.checks import check_path, check_paths, names_folder
from allaprima.core.errors import AllaprimaError, explain_os_error
from allaprima.core.files import fit_name, folded, identity, is_ours
from allaprima.core.remote import files_below
from allaprima.media.pictures import has_picture_ending, picture_format, picture_kind

# Why a file is left out
OF_OURS, NEITHER, LINKED = "results of allaprima", "neither pictures nor videos", "links that lead out of the folder"
NO_FILE, CLOSED = "links to folders and what is not an ordinary file", "folders that can't be read"
LEADING_OUT = "names that lead out of the folder"


@dataclass
class Plan:
    """jobs: target by source. videos: which of the sources are. left_out: files by the reason why. into: in words."""

    jobs: dict[Path | str, Path] = field(default_factory=dict)
    videos: set[Path | str] = field(default_factory=set)
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    into: str = "beside their sources"
    seen: set = field(default_factory=set)  # identities of the sources
    taken: set = field(default_factory=set)  # folded names of the targets


def make_plan(source, output, style: str) -> Plan:
    """The plan for `stylize`: see there for source and output. style: the name that results get.

    Raises AllaprimaError where a source is not there, or the output can't hold what there is.
    """
    into_folder = output is not None and names_folder(output)
    output = check_path("output", output) if output is not None else None
    sources = _distinct(path for one in check_paths("source", source) for path in _expanded(one))
    plan = Plan()
    if output is not None:
        plan.into = f"into {output}"
    folders = [path for path in sources if os.path.isdir(path)]
    several = len(sources) > 1 or into_folder or (output is not None and os.path.isdir(output))
    if output is not None and (several or folders):
        _check_folder(output, len(sources), into_folder)
    files = [path for path in sources if path not in folders]
    ours = [path for path in files if is_ours(path)] if len(files) > 1 else []
    ours = ours if len(ours) < len(files) else []  # nothing but results: then they are meant
    for path in sources:
        if identity(path) in plan.seen:
            continue  # in a folder before it
        if path in folders:
            _add_folder(plan, path, output, style, alone=len(sources) == 1)
        elif path in ours:
            plan.left_out.setdefault(OF_OURS, []).append(path)
        else:
            video = (_kind(path) or _named_kind(path.name)) == "video"  # what ends like a video is told as one
            if output is None:
                _add(plan, path, video, path.parent, f"{path.stem}{path.suffix}", style)
            elif several:
                _add(plan, path, video, output, path.name)
            else:
                _check_ending(output, video)
                _put(plan, path, output, video)
    if output is None:
        _leave_out_targets(plan)
    return plan


def plan_addresses(addresses, output: Path) -> Plan:
    """The plan for pictures, videos and folders at addresses, into the folder `output`.

    Kinds are told by the endings of names: a look into each of a million files would take hours. An address without such
    an ending is a folder, whose structure is kept.
    """
    plan = Plan(into=f"into {output}")
    for address in dict.fromkeys(address.rstrip("/") for address in addresses):
        alone = _named_kind(address) is not None
        folder, _, last = address.rpartition("/")
        for name in [last] if alone else files_below(address):
            source, kind, parts = f"{folder if alone else address}/{name}", _named_kind(name), name.split("/")
            if any(part.startswith(".") for part in parts if part != ".."):
                continue
            if ".." in parts or "" in parts or kind is None:
                plan.left_out.setdefault(NEITHER if kind is None else LEADING_OUT, []).append(Path(name))
            else:
                _add(plan, source, kind == "video", output.joinpath(*parts[:-1]), parts[-1])
    if not plan.jobs:
        raise AllaprimaError(f"There is no picture and no video at {', '.join(addresses)}: give another address.")
    return plan


def _named_kind(name):
    """ "picture", "video" or None, by the ending alone."""
    from allaprima.media.clips import VIDEO_SUFFIXES

    if has_picture_ending(name):
        return "picture"
    return "video" if Path(name).suffix.lower() in VIDEO_SUFFIXES - {".ts", ".mts"} else None


def _expanded(source):
    """A pattern stands for its files, where no shell has put them in its place; a name is a name first."""
    if os.path.isfile(source) or os.path.isdir(source):
        return [source]
    if os.path.exists(source):
        raise AllaprimaError(f"{source} is neither a file nor a folder: pipe it in, with - as its name.")
    found = [Path(path) for path in sorted(glob.glob(str(source)))]
    if not found:
        try:
            os.stat(source)
        except OSError as error:
            raise explain_os_error(error, source) from error
    return found


def _distinct(paths):
    """Each file once, by whatever names it is given."""
    return list({identity(path): path for path in reversed(list(paths))}.values())[::-1]


def _check_folder(output, count, into_folder):
    if os.path.isfile(output):
        raise AllaprimaError(f"{output} is a file, and there is more than one to write: give a folder for the output.")
    if not into_folder and not os.path.isdir(output) and (has_picture_ending(output) or _is_video_ending(output)):
        what = f"there are {count} sources" if count > 1 else "the source is a folder"
        raise AllaprimaError(f"{output} is the name of one file, and {what}. Give a folder for the output.")


def _add_folder(plan, folder, output, style, alone):
    if output is not None:
        root = output
    else:
        whole = folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))
        if not whole.name:
            raise AllaprimaError(f"{folder} has no folder beside it: name one with --output.")
        root = whole.with_name(f"{whole.name}-{style}")
        if os.path.isfile(root):
            raise AllaprimaError(f"{root} is a file, and {folder} is a folder: give a folder for the output.")
        plan.into = f"into {root}" if alone else plan.into
    whole, inside = Path(os.path.realpath(folder)), Path(os.path.realpath(root))
    inside = inside if inside != whole else None
    before = len(plan.jobs)
    for path in _entries(plan, folder):
        relative, real = path.relative_to(folder), Path(os.path.realpath(path))
        if inside and inside in (real, *real.parents):
            continue
        kind = None
        if whole not in real.parents:
            reason = LINKED
        elif not os.path.isfile(path):
            reason = NO_FILE
        else:
            kind = _kind(path)
            reason = NEITHER if kind is None else OF_OURS if is_ours(path) else None
        if reason:
            plan.left_out.setdefault(reason, []).append(path)
        elif identity(path) not in plan.seen:
            _check_inside(root / relative.parent, root)
            _add(plan, path, kind == "video", root / relative.parent, relative.name)
    if alone and len(plan.jobs) == before:
        but = f" but {OF_OURS}" if OF_OURS in plan.left_out else ""
        raise AllaprimaError(f"There is no picture and no video in {folder}{but}: give another folder.")


def _entries(plan, folder):
    """What is in a folder but hidden files and folders, in order: files, nested ones too, and links to folders."""

    def unreadable(error):
        if Path(error.filename) == folder:
            raise explain_os_error(error, folder) from error
        plan.left_out.setdefault(CLOSED, []).append(Path(error.filename))

    found = []
    for at, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        found += [Path(at, name) for name in files + links if not name.startswith(".")]
    return sorted(found)


def _check_inside(folder, root):
    """What stands in the output already may be a link to anywhere."""
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root)):
        raise AllaprimaError(f"{folder} leads out of {root}: remove the link, or give another folder for the output.")


def _kind(path):
    """ "picture", "video" or None: by content, and by the ending where a file is damaged, so that this is said."""
    from allaprima.media.clips import is_video

    if picture_kind(path):
        return "picture"
    if is_video(path):
        return "video"
    return "picture" if has_picture_ending(path) else None


def _add(plan, source, video, folder, name, style=None):
    """Give the source a target in `folder`, in the nearest kind that can be written; a name that is taken gets a number."""
    stem, ending = os.path.splitext(name)
    ending = _ending(source, ending, video)
    mark = f"-{style}" if style else ""
    target, number = fit_name(folder, stem, mark + ending), 2
    while folded(target) in plan.taken:
        target, number = fit_name(folder, stem, f"{mark}-{number}{ending}"), number + 1
    _put(plan, source, target, video)


def _put(plan, source, target, video):
    plan.jobs[source] = target
    plan.seen.add(identity(source))
    plan.taken.add(folded(target))
    if video:
        plan.videos.add(source)


def _ending(source, ending, video):
    if video:
        return ending if _is_video_ending(f"x{ending}") else ".mp4"
    if _is_picture_ending(ending):
        return ending
    kind = picture_kind(source)
    own = ".jpg" if kind in ("JPEG", "MPO", "HEIF") else f".{(kind or 'png').lower()}"
    return own if _is_picture_ending(own) else ".png"


def _is_picture_ending(ending):
    try:
        return bool(picture_format(f"x{ending}"))
    except AllaprimaError:
        return False


def _is_video_ending(path):
    from allaprima.media.writer import OUTPUT_SUFFIXES

    return Path(path).suffix.lower() in OUTPUT_SUFFIXES


def _check_ending(target, video):
    if video and not _is_video_ending(target):
        raise AllaprimaError(f"{target} can't be written as a video. Let its name end in .mp4, .mov or .mkv.")
    if not video:
        picture_format(target)


def _leave_out_targets(plan):
    """A source that another one would be written to is an earlier result, of a format that has no place for a mark."""
    targets = {identity(target): source for source, target in plan.jobs.items() if os.path.exists(target)}
    for source in list(plan.jobs):
        if targets.get(identity(source), source) != source:
            del plan.jobs[source]
            plan.left_out.setdefault(OF_OURS, []).append(source)
