#!/bin/bash
# A two-node Slurm on this one machine: no systemd, no cgroups, no munge, no root.
#
#     tests/cluster/minislurm.sh up DIR PORT      two idle nodes after about a second; then: export SLURM_CONF=DIR/etc/slurm.conf
#     tests/cluster/minislurm.sh down DIR         cancels every job and stops the daemons, by the pid files in DIR/run
#
# Both node daemons run here, on PORT+1 and PORT+2 (Debian's Slurm is built for several on one host). Each node has two
# cores and two GPUs; the GPUs are /dev/null and /dev/zero, since Slurm wants a device file and looks no further.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 up DIR PORT | down DIR" >&2; exit 2; }
what=$1 base=$2
export SLURM_CONF=$base/etc/slurm.conf

alive() { [ -f "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

configure() {
    local host user
    host=$(hostname -s) user=$(id -un)
    mkdir -p "$base"/{etc,log,run,state,spool/n1,spool/n2}
    chmod 700 "$base/state" "$base/run"
    printf '%s\n' AutoDetect=off 'NodeName=n[1-2] Name=gpu File=/dev/null' 'NodeName=n[1-2] Name=gpu File=/dev/zero' \
        > "$base/etc/gres.conf"
    cat > "$SLURM_CONF" <<CONF
ClusterName=mini
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$1
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/none
CredType=cred/none
# a requeued job starts again cred_expire + 1 seconds later, two minutes by default
AuthInfo=cred_expire=5
SlurmctldPidFile=$base/run/slurmctld.pid
SlurmdPidFile=$base/run/slurmd-%n.pid
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool/%n
SlurmctldLogFile=$base/log/slurmctld.log
SlurmdLogFile=$base/log/slurmd-%n.log
JobCompType=jobcomp/filetxt
JobCompLoc=$base/log/jobs.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PlugStackConfig=/dev/null
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0
# without it a job for three nodes would wait for ever
EnforcePartLimits=ALL
ReturnToService=2
KillWait=5
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=30
# lets two nodes of two cores stand on a machine of two
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$(($1 + 1)) CPUs=2 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$(($1 + 2)) CPUs=2 RealMemory=4000 Gres=gpu:2
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
CONF
}

up() {
    configure "$1"
    slurmctld -c
    slurmd -N n1
    slurmd -N n2
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return
        sleep 0.2
    done
    sinfo || true
    tail -n 20 "$base"/log/*.log >&2
    return 1
}

down() {
    local daemon
    if alive "$base/run/slurmctld.pid"; then
        timeout 10 scancel --state=PENDING,RUNNING --user="$(id -un)" 2>/dev/null || true
        timeout 10 scancel --signal=KILL --full --user="$(id -un)" 2>/dev/null || true
        for _ in $(seq 50); do
            [ -z "$(timeout 5 squeue --noheader --format=%i 2>/dev/null)" ] && break
            sleep 0.2
        done
    fi
    for daemon in slurmd-n1 slurmd-n2 slurmctld; do
        alive "$base/run/$daemon.pid" || continue
        daemon=$(cat "$base/run/$daemon.pid")
        kill "$daemon"
        for _ in $(seq 50); do kill -0 "$daemon" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$daemon" 2>/dev/null || true
    done
}

case $what in
    up) up "${3:?PORT}" ;;
    down) down ;;
    *) echo "unknown command $what" >&2; exit 2 ;;
esac
