//! Programs that are fed through a pipe by the one that started them: when that is killed, they close in order what is half.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::mount::Place;
use crate::support::tools::{kill, sh_ok};
use crate::support::{Content, MIB, Mount, Store, eventually, seconds};

/// A folder with a file that does not become smaller.
fn folder(place: &Place) -> String {
    let folder = place.path("data");
    fs::create_dir(&folder).expect("made");
    Content::new(7, 96 * MIB).save(&folder.join("big"));
    folder.display().to_string()
}

fn assert_given_up(store: &Store, mount: &Mount, path: &Path, what: &str) {
    eventually(seconds(30), what, || {
        mount.stderr().contains("was killed") && store.open_uploads().is_empty()
    });
    assert_eq!(
        store.get("archive").as_deref(),
        Some(&b"the good one"[..]),
        "{what}"
    );
    assert_eq!(fs::read(path).expect("there"), b"the good one", "{what}");
}

#[test]
fn an_archive_whose_packer_was_killed_is_not_published() {
    let place = Place::default();
    let folder = folder(&place);
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        let store = Store::embedded();
        store.put("archive", "the good one");
        let mount = Mount::with(&store, &["--part-size", "5M"]);
        let path = mount.path("archive");
        let mut tar = Command::new("tar")
            .args(["-C", &folder, "-czf"])
            .args([&path, Path::new(".")])
            .spawn()
            .expect("tar runs");
        store.await_parts("archive", 1);
        kill(tar.id(), signal);
        assert_given_up(&store, &mount, &path, &format!("signal {signal}"));
        // Not before: older kernels forget how it ended.
        tar.wait().expect("it ends");
        assert!(mount.terminate().success());
    }
}

#[test]
fn an_archive_whose_packer_was_left_in_peace_is_published() {
    let place = Place::default();
    let folder = folder(&place);
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    let path = mount.path("archive");
    sh_ok(
        "tar -C \"$1\" -czf \"$2\" . && tar -tzf \"$2\" >/dev/null && gzip -t \"$2\"",
        &[Path::new(&folder), &path],
    );
    // Who ends in order, and waits for nobody, has said all.
    let script = "import subprocess, sys\n\
        child = subprocess.Popen(['sh', '-c', 'gzip > \"$0\"', sys.argv[1]], stdin=subprocess.PIPE)\n\
        child.stdin.write(b'x' * 20000000)\nchild.stdin.close()\nimport os; os._exit(0)\n";
    let other = mount.path("other");
    let ended = Command::new("python3")
        .args(["-c", script])
        .arg(&other)
        .status();
    assert!(ended.expect("it runs").success());
    eventually(seconds(30), "it is there", || {
        store.objects().contains_key("other")
    });
    sh_ok("test \"$(gzip -dc \"$1\" | wc -c)\" = 20000000", &[&other]);
    assert!(mount.terminate().success());
}

/// Who reads no more than it wants ends its feeder by that, by a signal (SIGPIPE), and is whole.
#[test]
fn what_has_enough_of_its_feeder_is_published() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    let script = "import signal, subprocess, sys\n\
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n\
        child = subprocess.Popen(['head', '-c', '6000000'], stdin=subprocess.PIPE, stdout=open(sys.argv[1], 'wb'))\n\
        while True: child.stdin.write(b'x' * 65536)\n";
    for n in 0..5 {
        let name = format!("enough{n}");
        let ended = Command::new("python3")
            .args(["-c", script])
            .arg(mount.path(&name))
            .status()
            .expect("it runs");
        assert_eq!(ended.signal(), Some(libc::SIGPIPE));
        eventually(seconds(30), &name, || {
            store.objects().get(&name) == Some(&6_000_000)
        });
    }
    assert!(mount.terminate().success());
}

/// Its bytes are all there, however long they take to be written.
#[test]
fn who_has_closed_the_pipe_has_said_all() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    // The child opens while it is fed, and writes on when its feeder has closed the pipe, and when that is dead.
    let child = "import os, sys\n\
        file = open(sys.argv[1], 'wb', 0)\n\
        said = sys.stdin.buffer.read()\n\
        file.write(said)\n\
        print('half', flush=True)\n\
        os.read(3, 1)\n\
        file.write(said)\nfile.close()\nos._exit(0)\n";
    let feeder = "import os, subprocess, sys\n\
        wait, go = os.pipe()\n\
        os.dup2(wait, 3)\n\
        child = subprocess.Popen(['python3', '-c', sys.argv[2], sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[3])\n\
        child.stdin.write(b'x' * 100000)\nchild.stdin.close()\n\
        child.stdout.readline()\n\
        os.write(go, b'.')\n\
        os.kill(os.getpid(), 9)\n";
    let ended = Command::new("python3")
        .args(["-c", feeder])
        .arg(mount.path("file"))
        .arg(child)
        .status()
        .expect("it runs");
    assert_eq!(ended.signal(), Some(libc::SIGKILL));
    eventually(seconds(30), "it is there", || {
        store.objects().get("file") == Some(&200_000)
    });
    assert!(mount.terminate().success());
}

/// The file was opened by the one who feeds, and given on: it has closed its own descriptor.
#[test]
fn what_is_given_to_a_program_that_is_fed_is_given_up_with_its_feeder() {
    let store = Store::embedded();
    store.put("archive", "the good one");
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    let path = mount.path("archive");
    let script = "import os, subprocess, sys\n\
        file = open(sys.argv[1], 'wb')\n\
        child = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=file)\n\
        file.close()\nchild.stdin.write(os.urandom(12 << 20))\nchild.stdin.flush()\n\
        sys.stdin.read()\n";
    let mut feeder = Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("python runs");
    store.await_parts("archive", 1);
    kill(feeder.id(), libc::SIGKILL);
    assert_given_up(&store, &mount, &path, "given on");
    feeder.wait().expect("it ends");
    assert!(mount.terminate().success());
}
