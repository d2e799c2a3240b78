"""An interrupted save leaves the old file or the new one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npattn._internal.files import load_arrays, save_arrays, whole, write_text
from support.named_arrays import same

ARRAYS = {"W_K": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([0.5, -1.0]), "t": np.array(3)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "model.npz", ARRAYS, {})
    return tmp_path / "model.npz"


class TestInterruption:
    """After an interruption the old file is still there, and no temporary file."""

    def intact(self, path: Path, save: Callable[[], None], error: type[BaseException], message: str) -> BaseException:
        with pytest.raises(error, match=message) as caught:
            save()
        assert same(load_arrays(path)[0], ARRAYS) and os.listdir(path.parent) == [path.name]
        return caught.value

    @pytest.mark.skipif(sys.platform == "win32", reason="only POSIX systems limit the size of a file")
    def test_no_space_left(self, path: Path) -> None:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
        try:
            found = self.intact(
                path, lambda: save_arrays(path, {"W": np.ones(10**6)}, {}), OSError, r"cannot write: .*model\.npz"
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(found, OSError) and found.errno == errno.EFBIG

    def test_ctrl_c(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        self.intact(path, lambda: save_arrays(path, {}, {}), KeyboardInterrupt, "^$")

    @pytest.mark.parametrize(("times", "fails"), [(2, False), (3, True)])
    def test_a_virus_scanner(self, path: Path, times: int, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """On Windows a program that holds the file makes the move fail, mostly for less than a second."""
        replace, calls, pauses = os.replace, [0], list[float]()

        def held(old: Path, new: Path) -> None:
            calls[0] += 1
            if calls[0] <= times:
                raise PermissionError(errno.EACCES, "Access is denied")
            replace(old, new)

        monkeypatch.setattr(os, "replace", held)
        monkeypatch.setattr(time, "sleep", pauses.append)
        monkeypatch.setattr(whole, "PAUSES", (0.5, 0.25))
        if fails:
            self.intact(path, lambda: save_arrays(path, {}, {}), PermissionError, "cannot write: Access is denied: ")
        else:
            save_arrays(path, {}, {})
            assert load_arrays(path)[0] == {} and os.listdir(path.parent) == [path.name]
        assert pauses == [0.5, 0.25]

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"cannot write: .*model\.npz"):
            save_arrays(tmp_path / "missing" / "model.npz", ARRAYS, {})
        assert os.listdir(tmp_path) == []

    def test_a_folder_with_the_name_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "model.npz").mkdir()
        with pytest.raises(OSError, match=r"cannot write: .*model\.npz"):
            save_arrays(tmp_path / "model.npz", ARRAYS, {})
        assert os.listdir(tmp_path) == ["model.npz"]

    @pytest.mark.parametrize("name", ["model.npz", "[a].npz"])
    def test_the_temporary_file_of_a_killed_process_is_removed(self, tmp_path: Path, name: str) -> None:
        """Files with similar names stay."""
        others = {f".{name}.b.{'0a' * 8}.tmp", f".a{name}.{'0a' * 8}.tmp", f".{name}.{'0g' * 8}.tmp", f".{name}.0a.tmp"}
        others |= {f"{name}.{'0a' * 8}.tmp", f".{name}.{'0a' * 9}.tmp", f".a.npz.{'0a' * 8}.tmp"}
        for other in (*others, f".{name}.{'0a' * 8}.tmp", f".{name}.{'9f' * 8}.tmp"):
            (tmp_path / other).touch()
        save_arrays(tmp_path / name, ARRAYS, {})
        assert set(os.listdir(tmp_path)) == {name, *others}

    @pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
    def test_kill_9(self, path: Path) -> None:
        script = """if True:
            import sys, numpy as np
            from npattn._internal.files.checkpoint import save_arrays
            for i in range(10**9):
                save_arrays(sys.argv[1], {"W": np.full(300_000, i)}, {"i": i})
                print(i, flush=True)
        """
        rng = np.random.default_rng(0)
        last = -1
        for _ in range(3):
            with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(rng.uniform(0, 0.02))
                process.send_signal(signal.SIGKILL)
                last = int((b"0\n" + process.stdout.read()).split(b"\n")[-2])
            arrays, metadata = load_arrays(path)
            assert metadata["i"] in (last, last + 1) and (arrays["W"] == metadata["i"]).all()
            assert len(os.listdir(path.parent)) <= 2


@pytest.mark.skipif(sys.platform == "win32", reason="links and permissions of POSIX")
class TestWhatIsKept:
    def test_a_symbolic_link_stays_and_its_target_is_replaced(self, tmp_path: Path) -> None:
        """A link to a link, to a file in another folder, and a link to a file that is not there yet."""
        for folder in ("disk", "run"):
            (tmp_path / folder).mkdir()
        target, missing = tmp_path / "disk" / "model.npz", tmp_path / "disk" / "missing.npz"
        save_arrays(target, {}, {})
        (tmp_path / "run" / "middle.npz").symlink_to("../disk/model.npz")
        (tmp_path / "run" / "model.npz").symlink_to("middle.npz")
        (tmp_path / "run" / "missing.npz").symlink_to(missing)
        for path in (target, missing):
            save_arrays(tmp_path / "run" / path.name, ARRAYS, {})
            assert (tmp_path / "run" / path.name).is_symlink() and not path.is_symlink()
            assert same(load_arrays(path)[0], ARRAYS)
        assert (tmp_path / "run" / "middle.npz").is_symlink()
        assert sorted(os.listdir(tmp_path / "disk")) == ["missing.npz", "model.npz"]
        assert sorted(os.listdir(tmp_path / "run")) == ["middle.npz", "missing.npz", "model.npz"]

    def test_an_error_names_the_link(self, tmp_path: Path) -> None:
        (tmp_path / "model.npz").symlink_to(tmp_path / "missing" / "other.npz")
        with pytest.raises(FileNotFoundError, match=r"cannot write: .*model\.npz"):
            save_arrays(tmp_path / "model.npz", ARRAYS, {})

    @pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
    def test_permissions(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        save_arrays(path, {}, {})
        assert path.stat().st_mode & 0o7777 == mode

    def test_a_new_file_follows_the_umask(self, tmp_path: Path) -> None:
        (tmp_path / "plain").touch()
        save_arrays(tmp_path / "model.npz", ARRAYS, {})
        assert (tmp_path / "model.npz").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_owner_and_group(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system does not allow it, the file is written all the same."""
        if os.geteuid() == 0:
            os.chown(path, 1234, 2345)
            path.chmod(0o640)
            save_arrays(path, {}, {})
            assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (1234, 2345, 0o640)
        monkeypatch.setattr(os, "fchown", refuse)
        monkeypatch.setattr(os, "fchmod", refuse)
        save_arrays(path, ARRAYS, {})
        assert same(load_arrays(path)[0], ARRAYS)


def refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, "no")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot open a folder")
@pytest.mark.parametrize("call", ["open", "fsync"])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EIO, errno.ENOSPC])
def test_a_folder_that_cannot_be_synchronised(
    path: Path, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is whole when CIFS answers EINVAL for its folder; a disk that is broken or full is an error."""
    original = getattr(os, call)

    def fail(what: object, *arguments: object) -> object:
        if os.path.isdir(f"/proc/self/fd/{what}" if call == "fsync" else what):  # type: ignore[call-overload]
            raise OSError(number, os.strerror(number))
        return original(what, *arguments)

    monkeypatch.setattr(os, call, fail)
    if number in (errno.EIO, errno.ENOSPC):
        with pytest.raises(OSError, match=r"cannot write: .*model\.npz"):
            save_arrays(path, {}, {})
    else:
        save_arrays(path, {}, {})
    assert load_arrays(path)[0] == {} and os.listdir(path.parent) == [path.name]


def test_text_is_replaced_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "run.json", "二〇二五\n")
    assert (tmp_path / "run.json").read_bytes() == "二〇二五\n".encode()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(PermissionError, match=r"run\.json"):
        write_text(tmp_path / "run.json", "x")
    assert (tmp_path / "run.json").read_bytes() == "二〇二五\n".encode() and len(os.listdir(tmp_path)) == 1
