#!/usr/bin/env bash
# Give the database's user a copy of the password in memory, then start as the image does.
set -euo pipefail
install -o postgres -g postgres -m 400 /run/secrets/postgres_password "$POSTGRES_PASSWORD_FILE"
exec docker-entrypoint.sh "$@"
