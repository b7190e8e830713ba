#!/usr/bin/env bash
# One node of Slurm on this machine, for the tests: as root, with Debian's slurm-wlm and munge installed.
#
#     apt-get install slurm-wlm munge
#     tests/experiments/slurm.sh start FOLDER     # then: export SLURM_CONF=FOLDER/slurm.conf
#     tests/experiments/slurm.sh stop FOLDER
#
# Needs no systemd and no cgroups. FOLDER gets the configuration, the logs and the state.
set -euo pipefail

if [ $# != 2 ] || [ "$1" != start ] && [ "$1" != stop ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0"
  exit 2
fi
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf

end() {  # the process of a file
  if [ -e "$1" ]; then kill "$(cat "$1")" 2>/dev/null || true; fi
}

if [ "$1" = stop ]; then
  scancel --user="$(id -un)" 2>/dev/null || true
  end "$folder/slurmd.pid"
  end "$folder/slurmctld.pid"
  end "$folder/munged.pid"
  exit 0
fi

[ "$(id -u)" = 0 ] || { echo "slurm.sh must run as root" >&2; exit 1; }
for program in munged slurmctld slurmd; do
  command -v "$program" >/dev/null || { echo "there is no $program: apt-get install slurm-wlm munge" >&2; exit 1; }
done

[ -e /etc/munge/munge.key ] || mungekey --create
chown munge /etc/munge/munge.key
if ! munge -n >/dev/null 2>&1; then
  install -d -o munge -g munge /run/munge /var/log/munge /var/lib/munge
  chmod 755 /run/munge
  runuser -u munge -- munged --force --pid-file=/run/munge/test.pid
  cp /run/munge/test.pid "$folder/munged.pid"
fi

host=$(hostname -s)
memory=$(($(awk '/MemTotal/ { print $2 }' /proc/meminfo) / 1024))
mkdir -p "$folder/state" "$folder/spool"
cat > "$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
JobRequeue=1
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
slurmctld
slurmd
for _ in $(seq 30); do
  if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then exit 0; fi
  sleep 1
done
echo "the node does not become idle:" >&2
tail -n 20 "$folder"/*.log >&2
exit 1
