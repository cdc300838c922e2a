"""What a stage wrote into a folder, without the mark that it leaves there."""

from ddm_core.files import OUTPUT_MARK


def tree(root):
    """Return every file below `root`: relative name -> content."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != OUTPUT_MARK)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def names(folder):
    """Return the names directly in `folder`, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.name != OUTPUT_MARK)
