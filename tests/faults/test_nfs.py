"""A farm on NFS: two hosts that share a folder of a file server, and its network.

All three are one guest (`tests.faults.machines`). Each client has its own network,
host name, process ids and mounts, and so is another host to farm and another client
to the server, which is Linux's own, on a disk of its own. Tasks tell of each of their
runs on the guest's console, and keep a lock of their own that is not on NFS: a record
that is outside and none of farm's.
"""

import json
from typing import Any

import pytest

from tests.faults.guest import KERNEL
from tests.faults.machines import TELL, Machine
from tests.faults.tools import needs

pytestmark = [pytest.mark.processes, needs("root")]

#: Prepares the server.
SERVE = f"""
mkdir -p /mnt/disk /mnt/farm
modprobe --dirname {KERNEL} --all nfsd nfsv4 veth
mount /dev/vda /mnt/disk
mkdir /mnt/disk/tasks
mount -t tmpfs tmp /var/lib
mkdir -p /var/lib/nfs/v4recovery
mount -t nfsd nfsd /proc/fs/nfsd
cd /proc/fs/nfsd
echo 10 > nfsv4leasetime
echo 20 > nfsv4gracetime
echo "-3 +4 +4.1 +4.2" > versions
"""

#: Starts the server. What a daemon would tell the kernel about clients and exports is
#: told by hand, and so none has to be installed. It forgets all that when it stops.
LISTEN = """
cd /proc/net/rpc
never=2147483647
for number in 1 2; do
    echo "nfsd 10.$number.0.2 $never all" > auth.unix.ip/channel
done
echo "all /mnt/disk $never $((0x2402)) 65534 65534 0" > nfsd.export/channel
echo 'all 1 \\\\x00000000 2147483647 /mnt/disk' > nfsd.fh/channel
echo "tcp 2049" > /proc/fs/nfsd/portlist
echo 4 > /proc/fs/nfsd/threads
"""
NO_GRACE = "echo Y > /proc/fs/nfsd/v4_end_grace"  # there is nothing yet to reclaim
FALL_SILENT = "echo 0 > /proc/fs/nfsd/threads"

#: Starts a host: a first process in namespaces of its own, a wire, and the mount.
HOST = """
unshare --net --uts --mount --pid --fork sh -c '
    read -r pid rest < /proc/self/stat
    mount -t proc proc /proc
    hostname {name}
    echo $pid > /run/{name}.pid
    exec sleep infinity' > /dev/null 2>&1 &
until [ -s /run/{name}.pid ]; do sleep 0.02; done
pid=$(cat /run/{name}.pid)
ip link add {name} type veth peer name eth0 netns $pid
ip addr add 10.{number}.0.1/24 dev {name}
ip link set {name} up
echo $pid
"""
MOUNT = """
ip addr add 10.{number}.0.2/24 dev eth0
ip link set eth0 up
mount -i -t nfs4 10.{number}.0.1:/ /mnt/farm -o \\
    vers=4.2,addr=10.{number}.0.1,clientaddr=10.{number}.0.2,timeo=20,acdirmin=60
"""

JOB = f"""
import fcntl, socket, time
{TELL}
def alone():
    path = "/run/alone-" + os.environ["FARM_TASK_ID"]
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell("overlaps")
    return fd

def run():
    fd = alone()
    tell("ran")
    time.sleep(0.2)
    os.close(fd)

def hold():
    host = socket.gethostname()
    tell("held on", host)
    while not os.path.exists("/run/go-on-" + host):
        time.sleep(0.05)
    return host
"""


class Host:
    """One client of the file server."""

    def __init__(self, machine: Machine, number: int, name: str) -> None:
        self.machine = machine
        self.name = name
        self.pid = machine.run(HOST.format(number=number, name=name)).strip()
        space = "--net --uts --mount --pid"
        self.inside = f"nsenter --target {self.pid} {space}"
        self.run(MOUNT.format(number=number))

    def run(self, script: str) -> str:
        """Run a script on this host, in the shared folder."""
        return self.machine.run(f"cd /mnt/farm\n{script}", inside=self.inside)

    def start(self, script: str) -> None:
        """Run it in the background."""
        self.machine.start(f"cd /mnt/farm\n{script}", inside=self.inside)

    def let_go_on(self) -> None:
        """Let tasks that are held on this host go on."""
        self.machine.run(f"touch /run/go-on-{self.name}")

    def unplug(self) -> None:
        """Take it off the network."""
        self.machine.run(f"ip link set {self.name} down")

    def plug_in(self) -> None:
        """Put it back on the network."""
        self.machine.run(f"ip link set {self.name} up")

    def die(self) -> None:
        """End everything that runs on this host."""
        self.machine.run(f"kill -9 {self.pid}")


class Lab:
    """The server, both hosts, and what is asked of them together."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.boot()
        machine.run(SERVE + LISTEN + NO_GRACE)
        (machine.folder / "job.py").write_text(JOB)
        machine.run(f"cp {machine.at}/job.py /mnt/disk")
        self.one = Host(machine, 1, "one")
        self.two = Host(machine, 2, "two")

    def drop(self, call: str, *task_ids: str, **more: Any) -> None:
        """Put tasks there, on the first host."""
        task = json.dumps({"call": f"job:{call}", **more})
        self.one.run(
            f"for i in {' '.join(task_ids)}; do echo '{task}' > tasks/$i.json; done"
        )

    def results(self) -> dict[str, dict[str, Any]]:
        """All results, as the server has them."""
        lines = self.machine.run("cat /mnt/disk/tasks/*.result.json").splitlines()
        return {result["id"]: result for result in map(json.loads, lines)}

    def result(self) -> dict[str, Any]:
        """The only one."""
        (result,) = self.results().values()
        return result


@pytest.fixture
def lab(machine: Machine) -> Lab:
    return Lab(machine)


def whys(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Where each attempt ran, and how it ended."""
    return [(attempt["host"], attempt["why"]) for attempt in result["attempts"]]


#: Kills a worker of the host it runs on, at any moment.
KILLS = """
import os, random, signal, socket, time
from farm import life
from farm.project import Project

project = Project(".")

def workers():
    seen = [life.read(project, name) for name in life.living(project)]
    return [s[1].who for s in seen if s and s[1].who.host == socket.gethostname()]

while not (here := workers()):
    time.sleep(0.2)  # a shorter one takes the processor from those it waits for
time.sleep(random.uniform(0.1, 0.6))
os.kill(random.choice(here).pid, signal.SIGKILL)
print("killed", flush=True)
"""


@pytest.mark.fault(42)
def test_two_hosts_run_each_task_once_at_a_time_whoever_is_killed(lab: Lab) -> None:
    ids = [f"t{number}" for number in range(20)]
    lab.drop("run", *ids)
    for host in (lab.one, lab.two):
        host.start("farm supervise . -j 1 --until-done || echo failed; echo over")
        host.start(f"mkdir -p .farm/workers; python -c '{KILLS}'")
    lab.machine.wait_told("over", 2)
    results, ran = lab.results(), lab.machine.told("ran (.+)")

    assert "failed" not in lab.machine.told("failed")
    assert len(lab.machine.told("killed")) >= 2
    assert lab.machine.told("(overlaps .+)") == []
    assert [results[i]["status"] for i in ids] == ["succeeded"] * len(ids)
    assert {r["host"] for r in results.values()} == {"one", "two"}
    assert all(ran.count(i) <= len(results[i]["attempts"]) for i in ids)


@pytest.mark.fault(42)
def test_a_task_whose_worker_is_killed_runs_on_the_other_host(lab: Lab) -> None:
    lab.drop("hold", "job")
    lab.one.start("exec python -m farm worker . & echo $! > /run/worker; wait")
    lab.machine.wait_told("held on one job")
    lab.two.start("farm worker . --until-done; echo over")
    lab.two.let_go_on()
    lab.machine.wait_told(r".*worker \S+ works on /mnt/farm", 2)
    seen = json.loads(lab.two.run("farm status --json || true"))["running"]
    lab.one.run("kill -9 $(cat /run/worker)")
    lab.machine.wait_told("over")

    assert [running["id"] for running in seen] == ["job"]
    assert whys(lab.result()) == [("one", "lost"), ("two", "succeeded")]


#: Asks for results before and after the other host makes them; opens no folder.
LOOKS = """
import os, time
from farm import register
from farm.project import Project

project = Project(".")
ids = os.environ["IDS"].split()

def exist():
    return sum(os.path.exists(project.result_path(i)) for i in ids)

print("before", exist(), flush=True)
while not os.path.exists("/run/look-again"):
    time.sleep(0.05)
print("by name", exist())
print("by farm", sum(register.counts(project, i) is not None for i in ids), flush=True)
"""


@pytest.mark.fault(42)
def test_a_result_is_seen_at_once_though_its_name_was_missing_before(lab: Lab) -> None:
    ids = [f"t{number}" for number in range(5)]
    lab.drop("run", *ids)
    lab.two.start(f"export IDS='{' '.join(ids)}'; python -c '{LOOKS}'")
    lab.machine.wait_told("before 0")
    lab.one.run("farm worker . --until-done; touch /run/look-again")
    lab.machine.wait_told("by farm 5")

    assert lab.machine.told("by name (.+)") == ["0"]  # what a client believes


@pytest.mark.fault(44)
def test_a_task_outlasts_a_restart_of_the_server(lab: Lab) -> None:
    lab.drop("hold", "job")
    lab.one.start("farm worker . --until-done; echo over")
    lab.machine.wait_told("held on one job")
    lab.machine.run(FALL_SILENT)
    lab.two.start("farm worker . --until-done; echo over")
    lab.machine.run(LISTEN)
    lab.machine.wait_told(r".*worker \S+ works on /mnt/farm", 2)
    lab.one.let_go_on()
    lab.machine.wait_told("over", 2)

    assert lab.machine.told("held on (.+)") == ["one job"]
    assert whys(lab.result()) == [("one", "succeeded")]


@pytest.mark.fault(43)
@pytest.mark.parametrize("comes_back", [True, False], ids=["comes back", "is dead"])
def test_the_task_of_a_host_that_is_cut_off_runs_elsewhere_and_has_one_result(
    lab: Lab, comes_back: bool
) -> None:
    lab.drop("hold", "job")
    lab.one.start("farm worker . --until-done; echo over")
    lab.machine.wait_told("held on one job")
    lab.one.unplug()
    if not comes_back:
        lab.one.die()
    lab.two.start("farm worker . --until-done; echo over")
    lab.machine.wait_told("held on two job")
    lab.two.let_go_on()
    lab.machine.wait_told("over")
    before = lab.result()
    if comes_back:
        lab.one.let_go_on()
        lab.one.plug_in()
        lab.machine.wait_told("over", 2)
    fenced = lab.machine.run("ls /mnt/disk/.farm/logs | grep -c fenced || true")

    assert whys(before) == [("one", "lost"), ("two", "succeeded")]
    assert lab.result() == before
    assert int(fenced) == comes_back


@pytest.mark.fault(46)
def test_a_worker_whose_locks_the_others_do_not_see_is_refused(lab: Lab) -> None:
    lab.one.start("farm worker .")
    lab.machine.wait_told(r".*worker \S+ works on /mnt/farm")
    said = lab.machine.run("""
        cd /mnt/disk  # the server's own disk: its locks are not those of NFS
        farm worker . --until-done && exit 1
        echo "exit code $?"
    """)

    assert "mounted without shared locks" in said
    assert "on host one is alive" in said
