"""A study kept elsewhere: S3 (moto's server, through pyarrow) and a path."""

import shutil

import pytest

from otter_ray.errors import StudyError
from otter_ray.study.layout import JOURNAL, STORAGE_FILE, StudyFolder
from otter_ray.study.leftovers import remove_leftovers
from otter_ray.study.opening import create_folder, open_folder, open_or_create_in_storage
from otter_ray.study.storage import FolderUploader, Storage, storage_of
from otter_ray.tune.driver.journal_upload import JournalUploader
from tests.support.commands import wait_for


@pytest.mark.parametrize("names", [("demo", "a"), ("專案", "ü b")])
def test_what_is_put_is_there(place, names, tmp_path):
    storage = Storage.of(place, *names)
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


def test_any_name_is_one_folder(place, tmp_path):
    """In a URI `#` ends a path, `?` begins options and `%20` is a space."""
    (tmp_path / "file").write_text("1")
    names = ["a", "a#b", "a?b=1", "a b", "a%20b", "\u00fcbung", "\u5c08\u6848"]
    for name in names:
        Storage.of(place, "demo", name).put(tmp_path / "file", name)
    for name in names:
        assert Storage.of(place, "demo", name).read(name) == b"1"
        assert not any(Storage.of(place, "demo", name).exists(other) for other in names if other != name)


def test_what_a_killed_command_was_writing_is_removed(tmp_path):
    study, kept, outside = tmp_path / "runs/demo/a", tmp_path / "nfs/demo/a", tmp_path / "outside"
    leftovers = [
        study / ".best.yaml.12.34.partial",
        study / "demo_20261130_fp32.partial",
        study / "demo_20261130_fp32.json",
        study / "restored.partial/last.ckpt",
        study / "trials/0003/checkpoints/last.ckpt.partial",
        study / "finals/trials/0001/.config.yaml.12.34.partial",
        kept / "trials/0003/checkpoints/.last.ckpt.12.34.partial",
    ]
    others = [
        study / "demo_20261129_fp32.json",
        study / "demo_20261129_fp32.onnx",
        study / "exports/demo_20261130_fp32.json",
        study / "figures.json",
        study / "trials/0003/checkpoints/last.ckpt",
        kept / "trials/0003/checkpoints/last.ckpt",
        study / "trials/0003/download.partial",
        outside / "mine.partial",
    ]
    for file in (*leftovers, *others):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (study / "link").symlink_to(outside)
    remove_leftovers(StudyFolder(study), Storage(str(kept)))
    assert [file for file in leftovers if file.exists()] == []
    assert [file for file in others if not file.exists()] == []
    remove_leftovers(StudyFolder(study), Storage("s3://bucket/demo/a"))


def test_a_mirror_sends_what_has_changed(place, tmp_path, monkeypatch):
    storage, folder = Storage.of(place, "demo", "a"), tmp_path / "trial"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/last.ckpt").write_text("1")
    (folder / "config.yaml").write_text("a: 1")
    mirror, sent = FolderUploader(storage, folder, "trials/0000"), []
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
    return open_or_create_in_storage(folder.parents[1], "demo", "a", place, resume=True)


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
    with pytest.raises(StudyError, match="continued both in"):
        resume(folder, place)
    with pytest.raises(StudyError, match="continued both in"):
        storage.put_journal(folder)
    assert storage.read(JOURNAL) == b"one\ntheirs\n"
    assert (folder / JOURNAL).read_text() == "one\nmine\n"


def test_a_line_that_is_being_written_is_not_copied(both):
    """A driver that dies takes it back, and would not find its own journal there."""
    folder, storage = both
    (folder / JOURNAL).write_bytes(b"one\ntwo\nthr")
    storage.put_journal(folder)
    assert storage.read(JOURNAL) == b"one\ntwo\n"


def test_the_journal_follows_beside_the_search(both, caplog):
    folder, storage = both
    mirror = JournalUploader(storage, folder)
    mirror.setup()
    (folder / JOURNAL).write_bytes(b"one\ntwo\n")
    mirror.on_trial_start()
    wait_for(lambda: storage.read(JOURNAL) == b"one\ntwo\n")
    (folder / JOURNAL).write_bytes(b"another\n")
    mirror.on_trial_complete()
    wait_for(lambda: "continued both in" in caplog.text)
    mirror.on_experiment_end()
    assert storage.read(JOURNAL) == b"one\ntwo\n"


def test_a_study_goes_on_where_it_is_kept(both, place, tmp_path):
    """Whether --storage is given again or not; elsewhere it does not."""
    folder, storage = both
    assert storage_of(open_folder(folder.parents[1], "demo", "a")) == storage
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
        open_or_create_in_storage(tmp_path / "elsewhere", "demo", "a", place, resume=False)
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
        open_or_create_in_storage(tmp_path, "demo", "b", place, resume=True)
    with pytest.raises(StudyError, match="needs the study's --name"):
        open_or_create_in_storage(tmp_path, "demo", None, place, resume=True)


@pytest.mark.parametrize("uri", ["/home/me", "s3://bucket/runs", "s3://bucket/runs/demo/other"])
def test_a_folder_does_not_say_where_else_to_write(tmp_path, uri):
    folder = create_folder(tmp_path, "demo", "a")
    (folder.path / "storage.txt").write_text(f"{uri}\n")
    with pytest.raises(StudyError, match=r"which is no copy of demo/a\. Correct it"):
        storage_of(folder)
