//! The keys of a mount change while it runs: programs notice nothing when there are new ones in time, are told
//! EACCES when there are none, and go on when there are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::mount::Place;
use crate::support::{Content, MIB, Mount, Store, Writer, eventually, seconds};

const SIZE: u64 = 12 * MIB;

/// A bucket that knows its usual keys, the test's, and those of a mount.
struct Bench {
    store: Store,
    place: Place,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            store: Store::embedded(),
            place: Place::default(),
        }
    }

    /// The store takes these from now on (besides the test's own): an id, and a secret of that name.
    fn accept(&self, ids: &[&str]) {
        let secrets: Vec<String> = ids.iter().map(|id| format!("secret-{id}")).collect();
        let mut pairs: Vec<(&str, &str)> = ids
            .iter()
            .zip(&secrets)
            .map(|(id, secret)| (*id, secret.as_str()))
            .collect();
        pairs.push((&self.store.access_key, &self.store.secret_key));
        self.store.server().accept_keys(&pairs);
    }

    /// As an administrator replaces a file.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let (file, new) = (self.place.path(name), self.place.path("new"));
        fs::write(&new, text).expect("written");
        fs::rename(&new, &file).expect("in place");
        file
    }

    /// A file in the form of ~/.aws/credentials.
    fn keys(&self, id: &str) -> PathBuf {
        let keys = format!("aws_access_key_id = {id}\naws_secret_access_key = secret-{id}\n");
        self.write("keys", &format!("[default]\n{keys}"))
    }

    /// Keys by a file alone, not by the environment.
    fn mount(&self, options: &[&str], environment: &[(&str, String)]) -> Mount {
        let mut options = options.to_vec();
        options.extend(["--part-size", "5M", "--metadata-ttl", "0s"]);
        let source = format!("s3://{}", self.store.bucket);
        Mount::started(
            &self.place,
            "mnt",
            &self.store,
            &source,
            &options,
            environment,
        )
    }

    fn mount_with_file(&self) -> Mount {
        let file = self.keys("one").display().to_string();
        self.mount(&["--credentials-file", &file], &[])
    }
}

/// Reads, writes and looks, and none of it fails.
#[track_caller]
fn assert_all_is_well(mount: &Mount, store: &Store, name: &str) {
    let content = Content::new(7, SIZE);
    fs::write(mount.path(name), content.bytes()).expect("written");
    store.assert_holds(name, &content);
    store.put("other", name);
    eventually(seconds(10), "what another client put is seen", || {
        fs::read(mount.path("other")).expect("read") == name.as_bytes()
    });
    fs::rename(mount.path(name), mount.path("renamed")).expect("renamed");
    assert!(fs::read_dir(&mount.at).expect("listed").flatten().count() >= 2);
    fs::remove_file(mount.path("renamed")).expect("removed");
}

#[test]
fn keys_that_are_replaced_in_their_file_are_found_there() {
    let bench = Bench::new();
    bench.accept(&["one"]);
    let mount = bench.mount_with_file();
    assert_all_is_well(&mount, &bench.store, "before");
    // In the middle of an upload, and of a reading.
    let (mut writer, mut reader) = (Writer::start(), Writer::start());
    writer.open(&mount.path("file"), "wct").write(2, SIZE);
    bench.store.await_parts("file", 2);
    bench.store.put("old", Content::new(3, SIZE).bytes());
    reader.open(&mount.path("old"), "r");
    bench.keys("two");
    bench.accept(&["two"]);
    writer.write(2, SIZE);
    reader.step(&format!("check 3 {SIZE}"));
    writer.step("close");
    bench.store.assert_holds("file", &Content::new(2, 2 * SIZE));
    assert_all_is_well(&mount, &bench.store, "after");
    assert_eq!(bench.store.open_uploads(), []);
    assert!(!mount.stderr().contains("WARN"), "{}", mount.stderr());
}

/// A program that says keys, and when they expire; counts how often it was asked.
fn credential_process(bench: &Bench) -> Vec<(&'static str, String)> {
    let (said, asked) = (bench.place.path("said"), bench.place.path("asked"));
    let script = format!(
        "#!/bin/sh\necho . >> {}\nexec cat {}\n",
        asked.display(),
        said.display()
    );
    let process = bench.write("process", &script);
    fs::set_permissions(&process, fs::Permissions::from_mode(0o755)).expect("our own");
    let config = format!("[default]\ncredential_process = {}\n", process.display());
    let config = bench.write("config", &config);
    // An empty one wins over the usual keys and is no key.
    let nowhere = bench.place.path("nowhere").display().to_string();
    vec![
        ("AWS_CONFIG_FILE", config.display().to_string()),
        ("AWS_SHARED_CREDENTIALS_FILE", nowhere),
        ("AWS_PROFILE", "default".to_string()),
    ]
}

fn says(bench: &Bench, id: &str, expires: &str) {
    let text = format!(
        "{{\"Version\": 1, \"AccessKeyId\": \"{id}\", \"SecretAccessKey\": \"secret-{id}\", \
         \"SessionToken\": \"token\", \"Expiration\": \"{expires}\"}}"
    );
    bench.write("said", &text);
}

/// A moment so many seconds from now, as these programs write it.
fn in_seconds(seconds: u32) -> String {
    let mut date = Command::new("date");
    let date = date.args([
        "-u",
        "+%Y-%m-%dT%H:%M:%SZ",
        "-d",
        &format!("+{seconds} seconds"),
    ]);
    let date = date.output().expect("date").stdout;
    String::from_utf8(date).expect("text").trim().to_owned()
}

fn times(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[test]
fn keys_that_expire_are_asked_for_again_in_time() {
    let bench = Bench::new();
    bench.accept(&["one", "two"]);
    let environment = credential_process(&bench);
    says(&bench, "one", &in_seconds(20));
    let mount = bench.mount(&["--profile", "default"], &environment);
    let asked = bench.place.path("asked");
    assert_eq!(times(&asked), 1);
    assert_all_is_well(&mount, &bench.store, "before");
    says(&bench, "two", &in_seconds(3600));
    // Programs go on and on; the first keys end meanwhile.
    eventually(seconds(60), "the source is asked again", || {
        fs::write(mount.path("small"), "x").expect("written");
        times(&asked) > 1
    });
    bench.accept(&["two"]);
    assert_all_is_well(&mount, &bench.store, "after");
    // And not again and again.
    assert_eq!(times(&asked), 2);
    assert!(!mount.stderr().contains("WARN"), "{}", mount.stderr());
}

#[test]
fn keys_that_are_no_longer_valid_are_eacces_until_there_are_others() {
    let bench = Bench::new();
    bench.accept(&["one"]);
    let mount = bench.mount_with_file();
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(2, SIZE);
    bench.store.await_parts("file", 2);
    bench.accept(&[]);
    let denied = Some(libc::EACCES);
    assert_eq!(writer.attempt("close"), Err(libc::EACCES));
    let refused = fs::write(mount.path("small"), "x").expect_err("refused");
    assert_eq!(refused.raw_os_error(), denied);
    let refused = fs::metadata(mount.path("other")).expect_err("refused");
    assert_eq!(refused.raw_os_error(), denied);
    let refused = fs::read_dir(&mount.at).map(|entries| entries.flatten().count());
    assert_ne!(refused.ok(), Some(1), "{}", mount.stderr());
    let said = mount.stderr();
    let line = said
        .lines()
        .find(|line| line.contains("/file: not published"));
    let line = line.unwrap_or_else(|| panic!("nothing is said of the file:\n{said}"));
    for word in ["InvalidAccessKeyId", "renew them where they came from"] {
        assert!(line.contains(word), "{line}");
    }
    assert!(!said.contains("secret-one"), "{said}");
    // What could not be aborted is when there are keys again.
    assert_eq!(bench.store.open_uploads().len(), 1);
    bench.accept(&["three"]);
    bench.keys("three");
    eventually(seconds(60), "it goes on", || {
        fs::write(mount.path("small"), "x").is_ok()
    });
    bench
        .store
        .assert_no_uploads_within(90, "there are keys again");
    assert_all_is_well(&mount, &bench.store, "after");
}
