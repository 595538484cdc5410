"""A Ray cluster for sweeps: on this machine with docker compose, or one that is there already.

On the host, with the standard library alone (`python -m sweeps.cluster`): `machine` looks before anything is started,
`passwords` writes the secrets, `compose` speaks to the engine, `commands` are up, status, logs, run, stop and down.
In the cluster: `health` checks a container, `submit` hands a sweep to Ray's job API and follows it, `job` is what then
runs (waits for the workers, examines every node, sweeps), `connect` joins a Ray that runs, `gpus` deals them out.
"""
