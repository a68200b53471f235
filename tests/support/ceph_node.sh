#!/bin/bash
# Ceph on one machine, as Debian packages it: a monitor, an OSD that keeps everything in memory, and a
# radosgw before them. ceph_node.sh FOLDER PORT ACCESS-KEY SECRET-KEY [RADOSGW]
set -euo pipefail
folder=$1 port=$2 access=$3 secret=$4 radosgw=${5:-radosgw}
export CEPH_CONF=$folder/ceph.conf

children=()
trap 'kill "${children[@]}" 2> /dev/null; wait' EXIT
trap 'exit 0' TERM INT

uuid() { cat /proc/sys/kernel/random/uuid; }
fsid=$(uuid)
monitor=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$folder"/{mon,osd,rgw,run}
cat > "$CEPH_CONF" << END
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$monitor
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
# radosgw asks for encryption, which nothing is there to agree on without keys.
ms mon client mode = crc
run dir = $folder/run
admin socket = $folder/run/\$name.asok
pid file = $folder/run/\$name.pid
log file = $folder/\$name.log
mon data = $folder/mon
mon data avail crit = 1
mon data avail warn = 1
mon allow pool size one = true
osd data = $folder/osd
osd objectstore = memstore
memstore device bytes = 8589934592
crush location = root=default host=one
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
rgw data = $folder/rgw
# What is deleted or replaced goes after half a minute, not after two hours: the memory would be full by then, and
# a full OSD answers nothing.
rgw gc obj min wait = 30
rgw gc processor period = 10
rgw gc processor max time = 10
# Without it the end of each small answer waits for the client's delayed acknowledgement, 40 ms.
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw enable apis = s3
END

monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$monitor]" "$folder/monmap"
ceph-mon --mkfs -i a --monmap "$folder/monmap"
ceph-mon -i a --foreground & children+=($!)
osd=$(uuid)
ceph --connect-timeout 60 osd new "$osd" 0
ceph-osd -i 0 --mkfs --osd-uuid "$osd"
ceph-osd -i 0 --foreground & children+=($!)
# Waits for the OSD by itself.
radosgw-admin -n client.rgw user create --uid=tester --display-name=Tester \
    --access-key="$access" --secret-key="$secret" > "$folder/user"
"$radosgw" -n client.rgw --foreground & children+=($!)
wait
