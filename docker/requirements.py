"""Print the requirements of the image, one a line: the project's own and those of its extras `sweeps` and `cluster`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["project"]
extras = project["optional-dependencies"]
print(*sorted({*project["dependencies"], *extras["sweeps"], *extras["cluster"]}), sep="\n")
