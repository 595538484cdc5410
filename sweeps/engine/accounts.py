"""MLflow's basic auth for the server that `sweeps ui` starts: one account, made at the first start."""

from __future__ import annotations

import os
import secrets
from functools import partial
from pathlib import Path

from safe.errors import UserError
from safe.io.opening import open_own
from safe.io.writable import whole
from sweeps.engine.private import private_folder
from tracking import sqlite_uri

USER = "admin"
FOLDER = "ui-auth"


def ask_for_password(results: Path) -> Path:
    """Tell MLflow's server, by the environment of this process, to ask for the account; return the password's file.

    In `<results>/ui-auth`, which its owner alone enters, lie the password (mode 600), made where there is none, and
    MLflow's database of accounts.

    Raises:
        UserError: there are accounts, but the file of the password is gone.
    """
    folder = results.absolute() / FOLDER
    private_folder(folder)
    password, accounts, settings = folder / "password", folder / "accounts.db", folder / "basic_auth.ini"
    if not password.exists():
        if accounts.exists():
            raise UserError(
                f"{password} is gone, and {accounts} keeps no password that could be read; put the file back, or make "
                f"a new account: remove {folder}"
            )
        with whole(password) as draft, open(draft, "x", opener=partial(open_own, mode=0o600)) as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    # "%" would be interpolation there.
    database = sqlite_uri(accounts).replace("%", "%%")
    settings.write_text(f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {database}\n", "utf-8")
    os.environ |= {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password.read_text("utf-8").strip(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),  # signs forms while this server runs
    }
    return password
