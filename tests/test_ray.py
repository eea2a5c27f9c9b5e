"""An archive on a Ray cluster of two nodes with one CPU each, of which one is killed in the middle of the work."""

import os
import shutil

import psutil
import pytest
from PIL import Image

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Warned, Wrote
from allaprima.infer.cluster import stylize_archive
from test_archive import archive, lines, names, results

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("default")  # Ray's own code warns


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a CPU each; its processes are ended whatever becomes of the tests."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, "include_log_monitor": False}
    cluster = Cluster()
    try:
        for _ in range(2):
            started(cluster, small)
        yield cluster
    finally:
        cluster.shutdown()


def started(cluster, how):
    """A new node. Ray gives each half a minute to start, which is short on a busy machine: then another one is tried."""
    for attempt in (1, 2, 3):
        try:
            return cluster.add_node(**how)
        except Exception:
            if attempt == 3:
                raise


@pytest.fixture
def at_work(cluster):
    """The cluster, with this program connected and a worker started on each node, which takes seconds on a busy machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    try:
        nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
        task = ray.remote(num_cpus=1)(lambda: None)
        ray.get([task.options(scheduling_strategy=node).remote() for node in nodes])
        yield cluster
    finally:
        ray.shutdown()


def processes(node):
    """The process of a node, and those of its workers, which Ray calls ray::IDLE or by the function that they are at."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return raylet, *raylet.children(recursive=True)


def paints(node):
    """Whether a worker of a node is at work."""
    return any("ray::_call" in process.name() + "".join(process.cmdline()) for process in processes(node))


def kill(cluster, node):
    """End a node and its workers at once: by itself, a worker is ended when it has finished what it is at."""
    for process in processes(node):
        process.kill()
    cluster.remove_node(node, allow_graceful=False)


def test_a_node_that_is_killed_loses_nothing_and_nothing_is_written_twice(tmp_path, tiny_model, at_work):
    source, out, told, seen = archive(tmp_path / "in", pictures=24, frames=180), tmp_path / "out", [], {}
    for picture in source.rglob("*.png"):  # large ones, so that both nodes are at work when one of them is killed
        Image.open(picture).resize((1600, 1200)).save(picture)

    def listener(event):
        told.append(event)
        finished = [name for name in results(out) if "/." not in f"/{name}"]  # what others are writing may vanish
        for name in finished:
            status = (out / name).stat()
            seen.setdefault(name, (status.st_ino, status.st_mtime_ns))
        many = len([e for e in told if isinstance(e, Wrote)]) >= 12
        if isinstance(event, Wrote) and many and len(nodes := at_work.list_all_nodes()) == 2 and paints(nodes[1]):
            kill(at_work, nodes[1])  # not the first, which this program is connected to

    written = stylize_archive(source, out, tiny_model, seconds=1, ray=at_work.address, listener=listener)
    stylize_archive(source, tmp_path / "one", tiny_model, seconds=1, workers=1)
    assert len(written) == len(set(written)) == 25 and len(lines(out)) == 25
    assert results(out) == results(tmp_path / "one")
    for name in results(out):
        assert (out / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
        assert ((out / name).stat().st_ino, (out / name).stat().st_mtime_ns) == seen.get(name), (
            f"{name} was written twice"
        )
    assert len({line["worker"] for line in lines(out)}) == 2  # each loaded the model once
    assert any(isinstance(event, Warned) and "A worker was lost" in event.text for event in told)
    assert [name for name in names(out) if name not in results(out)] == [".allaprima/manifest-000001.jsonl"]


def test_another_run_on_the_cluster_goes_on(tmp_path, tiny_model, cluster):
    source, out = archive(tmp_path / "in", frames=30), tmp_path / "out"
    stylize_archive(source, out, tiny_model, workers=1)
    shutil.copy(source / "1.png", source / "new.png")
    assert stylize_archive(source, out, tiny_model, ray=cluster.address) == [str(out / "new.png")]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_without_a_cluster_is_a_sentence(tmp_path, tiny_model, address):
    source = archive(tmp_path / "in", frames=5)
    with pytest.raises(AllaprimaError, match=f"There is no Ray cluster at {address} "):
        stylize_archive(source, tmp_path / "out", tiny_model, ray=address)
