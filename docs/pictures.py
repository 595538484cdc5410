"""`python docs/pictures.py NAME [RESULTS]`: the pictures and outputs of the documents, from a sweep that has run.

Takes screenshots of its report and of MLflow's table with a headless Chromium, and runs the example notebook on it.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

from sweeps import load_sweep
from sweeps.cli.local_server import free_port
from tracking.mlflow_pages import table_page

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
NOTEBOOK = ROOT / "examples" / "reading_a_sweep.ipynb"
WIDTH = 1600


def main() -> int:
    """Write everything; the pictures take below 300 KB each."""
    name, results = sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "results").absolute()
    sweep = load_sweep(name, results)
    photograph(sweep.report.as_uri(), IMAGES / "report.png", 1750)
    with served(results) as address:
        photograph(f"{address}{table_page(sweep.log.tracking or {})}", IMAGES / "mlflow.png", 900, aside=548)
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    os.environ["RESULTS"] = str(results)
    with contextlib.chdir(results.parent):
        run_notebook(notebook)
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0


def photograph(address: str, file: Path, height: int, aside: int = 0) -> None:
    """Save what a browser shows at an address, without so many pixels of a panel at its right side."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        words = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/user",
        ]
        words += [f"--window-size={WIDTH + aside},{height}", "--virtual-time-budget=40000"]
        words += [f"--screenshot={picture}", address]
        subprocess.run([browser, *words], check=True, capture_output=True, timeout=180)
        Image.open(picture).convert("RGB").crop((0, 0, WIDTH, height)).quantize(128).save(file, optimize=True)


@contextlib.contextmanager
def served(results: Path) -> Any:
    """Serve MLflow's pages of a results folder during the block."""
    port = free_port(18_700)
    words = [sys.executable, "-m", "sweeps", "ui", "--port", str(port), "--results", str(results)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def run_notebook(notebook: dict[str, Any]) -> list[str]:
    """Run the cells of a notebook one after the other, put what each shows into it, and return that."""
    names: dict[str, Any] = {}
    shown = []
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, start=1):
        *before, last = ast.parse("".join(cell["source"])).body
        assert isinstance(last, ast.Expr), "every cell ends in what it shows"
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(ast.Module(before, []), f"cell {number}", "exec"), names)
            text = repr(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names))
        cell["execution_count"] = number
        output = {"data": {"text/plain": text.splitlines(keepends=True)}, "metadata": {}, "execution_count": number}
        cell["outputs"] = [{**output, "output_type": "execute_result"}]
        shown.append(text)
    return shown


if __name__ == "__main__":
    sys.exit(main())
