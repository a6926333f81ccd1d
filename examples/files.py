"""Process a directory of files: each file's result as soon as it is there, a bar that moves.

headway run examples/files.py:mcp
headway call http://127.0.0.1:8000/mcp hash_files directory=src
"""

from hashlib import file_digest
from pathlib import Path

from headway import Headway, part, track

mcp = Headway("files")


@mcp.tool(timeout="30m", concurrency=4)
def hash_files(directory: Path, pattern: str = "**/*") -> dict[str, int]:
    """Hash every file below a directory with SHA-256."""
    files = [path for path in sorted(directory.glob(pattern)) if path.is_file()]
    size = unreadable = 0
    for path in track(files, message="Hashing {item.name}"):
        name = str(path.relative_to(directory))
        try:
            with path.open("rb") as file:
                part({"file": name, "sha256": file_digest(file, "sha256").hexdigest()})
            size += path.stat().st_size
        except OSError as error:
            part({"file": name, "error": error.strerror})
            unreadable += 1
    return {"files": len(files), "unreadable": unreadable, "bytes": size}
