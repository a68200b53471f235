"""OpenStack Swift on one machine, in one process: account, container and object servers and a proxy
with its s3api before them. Run by the Python that has swift: swift.py FOLDER PORT ACCESS-KEY SECRET-KEY

It says "ready" when all of them listen.
"""

import os
import sys
import warnings

import eventlet

eventlet.patcher.monkey_patch(all=False, socket=True, select=True, thread=True, time=True)

from swift.common import utils, wsgi  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.storage_policy import reload_storage_policies  # noqa: E402

# What tempauth calls account and user is one access key in S3: `account:user`.
PROXY = """
[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats bulk s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# One node has one copy; waiting for others would be in vain, and so would be doing without it for a while.
node_timeout = 60
conn_timeout = 60
error_suppression_limit = 1000000000
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {secret} .admin
[filter:slo]
use = egg:swift#slo
# How long Complete may be silent before it sends blanks.
yield_frequency = 1
"""

STORAGE = """
[DEFAULT]
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
# What a busy node put off, a daemon would do later that does not run here: a listing would never have it.
node_timeout = 60
conn_timeout = 60
container_update_timeout = 60
"""


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def ring(folder, name, port):
    """One device holds everything."""
    builder = RingBuilder(1, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "one", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(os.path.join(folder, name + ".ring.gz"))


def listen(port):
    # Whoever finds the queue full comes back after a second.
    return eventlet.listen(("127.0.0.1", port), backlog=4096)


def serve(listener, config):
    wsgi_server = eventlet.wsgi.server
    app = wsgi.loadapp(config)
    eventlet.spawn(
        wsgi_server,
        listener,
        app,
        wsgi.NullLogger(),
        protocol=wsgi.SwiftHttpProtocol,
        capitalize_response_headers=False,
        url_length_limit=8192 * 4,
    )


def main():
    folder, port = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    access, secret = sys.argv[3], sys.argv[4]
    warnings.simplefilter("ignore")
    os.makedirs(os.path.join(folder, "devices", "one"), exist_ok=True)
    write(folder, "swift.conf", "[swift-hash]\nswift_hash_path_suffix = tests\n")
    utils.set_swift_dir(folder)
    reload_storage_policies()
    for kind in ("account", "container", "object"):
        listener = listen(0)
        ring(folder, kind, listener.getsockname()[1])
        serve(listener, write(folder, kind + ".conf", STORAGE.format(folder=folder, kind=kind)))
    account, user = access.split(":")
    proxy = PROXY.format(folder=folder, user=account + "_" + user, secret=secret)
    serve(listen(port), write(folder, "proxy.conf", proxy))
    print("ready", flush=True)
    while True:
        eventlet.sleep(3600)


main()
