#!/bin/sh
# Installs what tests/cluster needs on Debian or Ubuntu, as root. No service is started: the tests start their own.
set -eu
command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v sbatch >/dev/null && exit 0
[ "$(id -u)" = 0 ] || { echo "tests/cluster/install.sh: only root can install Slurm" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
