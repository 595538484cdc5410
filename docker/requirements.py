"""Print the requirements of the image, one a line: the project's own and those of its extra `cluster`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["project"]
print(*sorted({*project["dependencies"], *project["optional-dependencies"]["cluster"]}), sep="\n")
