"""A study kept elsewhere: S3 (moto's server, through pyarrow) and a path."""

import io
import os
import shutil
import signal

import boto3
import pyarrow.parquet as pq
import pytest
from commands import wait_for
from moto.server import ThreadedMotoServer
from optuna.trial import TrialState
from rich.console import Console

from otter_ray.config import load_space
from otter_ray.errors import StudyError
from otter_ray.tune.folder import STORAGE_FILE, StudyFolder, kept_folder, open_folder, open_study
from otter_ray.tune.mirror import JournalMirror
from otter_ray.tune.storage import JOURNAL, Mirror, Storage

BUCKET = "studies"


@pytest.fixture(scope="module")
def s3():
    """A real HTTP server that speaks S3; the environment says where, as it does for users."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{server._server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing_secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
    server.stop()


@pytest.fixture(params=["s3", "path"])
def place(request, tmp_path):
    """What --storage is given."""
    if request.param == "path":
        return str(tmp_path / "nfs")
    request.getfixturevalue("s3")
    return f"s3://{BUCKET}/{tmp_path.name}"


def test_what_is_put_is_there(place, tmp_path):
    storage = Storage.of(place, "demo", "a")
    assert not storage.exists("one")
    assert storage.read("one") is None
    assert not storage.get("trials/0000", tmp_path / "nothing")
    (tmp_path / "one").write_text("first")
    storage.put(tmp_path / "one", "deep/one")
    (tmp_path / "one").write_text("second")
    storage.put(tmp_path / "one", "deep/one")
    assert storage.read("deep/one") == b"second"
    assert storage.get("deep", tmp_path / "back")
    assert {path.name: path.read_text() for path in (tmp_path / "back").iterdir()} == {"one": "second"}
    storage.remove("deep/one")
    assert not storage.exists("deep/one")


def test_a_mirror_sends_what_has_changed(place, tmp_path, monkeypatch):
    storage, folder = Storage.of(place, "demo", "a"), tmp_path / "trial"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/last.ckpt").write_text("1")
    (folder / "config.yaml").write_text("a: 1")
    mirror, sent = Mirror(storage, folder, "trials/0000"), []
    put = Storage.put
    monkeypatch.setattr(Storage, "put", lambda *arguments: (sent.append(arguments[2]), put(*arguments)))
    mirror.push()
    (folder / "checkpoints/last.ckpt").write_text("2")
    mirror.push()
    both = ["trials/0000/checkpoints/last.ckpt", "trials/0000/config.yaml"]
    assert sent == [*both, both[0]]
    assert storage.read(both[0]) == b"2"


@pytest.fixture
def both(place, tmp_path):
    """A study here, as it was kept there."""
    folder = tmp_path / "runs/demo/a"
    (folder / "trials").mkdir(parents=True)
    (folder / JOURNAL).write_bytes(b"one\n")
    (folder / "config.yaml").write_text("a: 1")
    storage = Storage.of(place, "demo", "a")
    (folder / STORAGE_FILE).write_text(storage.uri)
    storage.put_study(folder)
    return folder, storage


def resume(folder, place):
    return kept_folder(folder.parents[1], "demo", "a", place, resume=True)


def test_a_lost_folder_comes_back(both, place):
    folder, _ = both
    shutil.rmtree(folder)
    resume(folder, place)
    assert (folder / JOURNAL).read_bytes() == b"one\n"
    assert (folder / "config.yaml").read_text() == "a: 1"


def test_the_finals_of_a_study_go_and_come_with_it(both, place, tmp_path):
    folder, storage = both
    (folder / "finals/trials/0000").mkdir(parents=True)
    (folder / "finals/trials/0000/log.txt").write_text("its slot brings it")
    (folder / "finals" / JOURNAL).write_bytes(b"final\n")
    (folder / "finals/trials.parquet").write_text("a table")
    storage.put_study(folder)
    assert not storage.exists("finals/trials")
    (tmp_path / "further").write_bytes(b"final\nfurther\n")
    storage.put(tmp_path / "further", f"finals/{JOURNAL}")
    # The search's journal is as far here as there: the finals' is asked on its own.
    resume(folder, place)
    assert (folder / "finals" / JOURNAL).read_bytes() == b"final\nfurther\n"
    shutil.rmtree(folder)
    resume(folder, place)
    assert (folder / "finals/trials.parquet").read_text() == "a table"
    assert (folder / "finals/trials").is_dir()


@pytest.mark.parametrize(
    ("here", "there", "resumed"),
    [("one\ntwo\n", "one\n", "one\ntwo\n"), ("one\n", "one\ntwo\n", "one\ntwo\n")],
)
def test_of_two_copies_the_longer_journal_is_taken(both, place, tmp_path, here, there, resumed):
    folder, storage = both
    (folder / JOURNAL).write_text(here)
    (tmp_path / "other").write_text(there)
    storage.put(tmp_path / "other", JOURNAL)
    resume(folder, place)
    assert (folder / JOURNAL).read_text() == resumed


def test_two_that_went_apart_are_left_alone(both, place, tmp_path):
    folder, storage = both
    (folder / JOURNAL).write_text("one\nmine\n")
    (tmp_path / "other").write_text("one\ntheirs\n")
    storage.put(tmp_path / "other", JOURNAL)
    with pytest.raises(StudyError, match="went on both in"):
        resume(folder, place)
    with pytest.raises(StudyError, match="went on both in"):
        storage.put_journal(folder)
    assert storage.read(JOURNAL) == b"one\ntheirs\n"
    assert (folder / JOURNAL).read_text() == "one\nmine\n"


def test_a_line_that_is_being_written_is_not_copied(both):
    """A driver that dies takes it back, and would not find its own journal there."""
    folder, storage = both
    (folder / JOURNAL).write_bytes(b"one\ntwo\nthr")
    storage.put_journal(folder)
    assert storage.read(JOURNAL) == b"one\ntwo\n"


def test_the_journal_follows_beside_the_search(both):
    folder, storage = both
    console = Console(file=io.StringIO())
    mirror = JournalMirror(storage, folder, console)
    mirror.setup()
    (folder / JOURNAL).write_bytes(b"one\ntwo\n")
    mirror.on_trial_start()
    wait_for(lambda: storage.read(JOURNAL) == b"one\ntwo\n")
    (folder / JOURNAL).write_bytes(b"another\n")
    mirror.on_trial_complete()
    wait_for(lambda: "went on both in" in console.file.getvalue())
    mirror.on_experiment_end()
    assert storage.read(JOURNAL) == b"one\ntwo\n"


def test_a_study_goes_on_where_it_is_kept(both, place, tmp_path):
    """Whether --storage is given again or not; elsewhere it does not."""
    folder, storage = both
    assert open_folder(folder.parents[1], "demo", "a").storage == storage
    other = tmp_path / "other"
    with pytest.raises(StudyError, match=f"study a is kept in {storage.uri}"):
        resume(folder, str(other))
    (folder / STORAGE_FILE).unlink()
    with pytest.raises(StudyError, match="was begun without --storage"):
        resume(folder, place)


def test_a_fetch_that_is_broken_off_is_done_again(both, place, monkeypatch):
    """The journal comes last: while it is not here, the study is not."""
    folder, _ = both
    shutil.rmtree(folder)
    get = Storage.get

    def broken(self, name, target):
        if name == "config.yaml":
            raise KeyboardInterrupt
        return get(self, name, target)

    monkeypatch.setattr(Storage, "get", broken)
    with pytest.raises(KeyboardInterrupt):
        resume(folder, place)
    assert not (folder / JOURNAL).exists()
    monkeypatch.setattr(Storage, "get", get)
    resume(folder, place)
    assert (folder / "config.yaml").read_text() == "a: 1"
    assert (folder / JOURNAL).read_bytes() == b"one\n"


def test_a_name_is_taken_there_too(both, place, tmp_path):
    with pytest.raises(StudyError, match=r"study 'a' exists at .*demo/a.*--resume"):
        kept_folder(tmp_path / "elsewhere", "demo", "a", place, resume=False)
    assert not (tmp_path / "elsewhere/demo/a").exists()


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("s3://key:secret@bucket/runs", "holds a secret"),
        ("ftp://bucket/runs", "cannot be used"),
    ],
)
def test_a_storage_that_is_none(place, says):
    with pytest.raises(StudyError, match=says) as caught:
        Storage.of(place, "demo", "a")
    assert "secret@" not in str(caught.value)


def test_no_study_there(place, tmp_path):
    with pytest.raises(StudyError, match=r"there is no study at .*demo/b"):
        kept_folder(tmp_path, "demo", "b", place, resume=True)
    with pytest.raises(StudyError, match="wants the study's --name"):
        kept_folder(tmp_path, "demo", None, place, resume=True)


def test_a_study_is_resumed_where_nothing_of_it_is(place, tune, tiny_sets, tmp_path):
    """Killed with its folder lost; resumed from another one: no ended trial is lost or runs again."""
    arguments = ["--name", "far", "--storage", place, "--trials", 5, *tiny_sets]
    first = tune("demo", "--runs", tmp_path / "lost", *arguments, folder=tmp_path)
    storage = Storage.of(place, "demo", "far")
    kept = tmp_path / "kept"
    kept.mkdir()

    def ended_there():
        if (journal := storage.read(JOURNAL)) is None:
            return {}
        (kept / JOURNAL).write_bytes(journal)
        return values(kept)

    wait_for(lambda: len(ended_there()) >= 2, 200)
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait()
    shutil.rmtree(tmp_path / "lost")
    ended = ended_there()
    assert 2 <= len(ended) < 5
    code, output = tune("demo", "--runs", tmp_path / "new", *arguments, "--resume", folder=tmp_path).end()
    assert code == 0, output
    assert {
        number: value for number, value in values(tmp_path / "new/demo/far").items() if number in ended
    } == ended
    rows = pq.read_table(tmp_path / "new/demo/far/trials.parquet").to_pylist()
    assert sum(row["state"] in ("complete", "pruned") for row in rows) == 5
    [onnx] = (tmp_path / "new/demo/far").glob("*.onnx")
    assert storage.read(onnx.name) == onnx.read_bytes()
    best = max((row for row in rows if row["value"] is not None), key=lambda row: row["value"])["number"]
    assert storage.exists(f"trials/{best:04d}/checkpoints/best.ckpt")
    # What no trial can go on from any more takes no room there.
    assert not [number for number in range(5) if storage.exists(f"trials/{number:04d}/checkpoints/last.ckpt")]
    # Not a trial was written to the driver's disk but the one that was exported, and the base beside it.
    assert {path.name for path in (tmp_path / "new/demo/far/trials").iterdir()} == {f"{best:04d}", "0000"}


def values(folder):
    """Trial -> (state, value) of those that ended."""
    study = open_study(StudyFolder(folder), load_space("demo").study)
    over = (TrialState.COMPLETE, TrialState.PRUNED)
    return {trial.number: (trial.state, trial.value) for trial in study.trials if trial.state in over}
