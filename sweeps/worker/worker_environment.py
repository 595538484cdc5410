"""What the processes of a Ray that a study starts take over from this one: chosen variables, and private files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from safe.errors import UserError

MORE = "SAFE_WORKER_ENV"
UMASK = "SAFE_UMASK"
# What Python, torch and we ourselves read. Whatever else stands in the environment may be a secret, and is kept back.
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TEMP", "TMP", "XDG_*",
    "PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_*", "MALLOC_*", "GLIBC_TUNABLES",
    "RAY_*", "TUNE_*", "SAFE_*", "RESULTS",
    "CUDA*", "CUBLAS_*", "CUDNN_*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "HSA_*", "MIOPEN_*",
    "TORCH*", "PYTORCH_*", "TRITON_*", "ATEN_*", "DNNL_*", "ONEDNN_*",
    "OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*",
    "HF_HOME", "HF_HUB_*", "HF_ENDPOINT", "HUGGINGFACE_HUB_CACHE", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip


def passed(variables: Mapping[str, str]) -> dict[str, str]:
    """Return those variables that workers get: `PASSED`, and what SAFE_WORKER_ENV names ("TOKEN,MY_*").

    Raises:
        UserError: SAFE_WORKER_ENV is no list of names.
    """
    more = [name.strip() for name in variables.get(MORE, "").split(",") if name.strip()]
    for name in more:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", name):
            raise UserError(
                f"{MORE} holds {name!r}; it is a list of names of variables, where a * at the end stands for any "
                f"ending: {MORE}=TOKEN,MY_*"
            )
    return {
        name: value for name, value in variables.items() if any(fnmatchcase(name, known) for known in (*PASSED, *more))
    }


def take_back_umask() -> None:
    """Let a worker write the files of the results as the user's own processes do; those of Ray stay private."""
    if UMASK in os.environ:
        os.umask(int(os.environ[UMASK], 8))
