//! A Glacier vault as a directory: a drop box that is written front to back, listed from a catalogue, and read
//! hours after it was asked for.

use std::path::PathBuf;
use std::process::Command;

use wholefs::embedded::vault::{Manners, UploadSummary};
use wholefs::store::glacier::{Catalogue, Names};

use crate::support::mount::{Place, program};
use crate::support::tools::{Outcome, run};
use crate::support::{Content, Mount, Store};

mod commands;
mod deaths;
mod protocol;
mod writing;

const SOURCE: &str = "glacier://demo";
/// Parts of 4 MiB: a power of two, whatever is asked for.
const OPTIONS: [&str; 2] = ["--part-size", "5M"];

/// A vault with somebody else's upload and archive in it, and a place to mount it.
struct Scene {
    store: Store,
    place: Place,
    foreign_upload: String,
    foreign_archive: String,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(Manners {
            job_delay: std::time::Duration::from_millis(300),
            ..Manners::default()
        })
    }

    fn with(manners: Manners) -> Scene {
        let store = Store::vault(manners);
        let server = store.vault_server();
        Scene {
            foreign_upload: server.create_upload("demo", "tape 7"),
            foreign_archive: server.put_archive("demo", "photos 2012", b"theirs"),
            place: Place::default(),
            store,
        }
    }

    #[track_caller]
    fn mount(&self) -> Mount {
        self.mount_with(&[])
    }

    #[track_caller]
    fn mount_with(&self, more: &[&str]) -> Mount {
        let options = [&OPTIONS[..], more].concat();
        Mount::within(&self.place, "mnt", &self.store, SOURCE, &options)
    }

    /// The open uploads but for the foreign one.
    fn ours(&self) -> Vec<UploadSummary> {
        let mut uploads = self.store.vault_server().uploads("demo");
        uploads.retain(|upload| upload.id != self.foreign_upload);
        uploads
    }

    fn parts(&self) -> usize {
        self.ours().iter().map(|upload| upload.parts).sum()
    }

    /// What the catalogue says, as it is on the disk.
    fn names(&self) -> Names {
        let state = self.place.state();
        let [(of, _)] = &Catalogue::all(&state)[..] else {
            panic!("one catalogue");
        };
        let looked = Catalogue::look(&state, of).expect("a whole catalogue");
        looked.names().clone()
    }

    /// A file's bytes as the vault has them; `None` when the catalogue has no such name.
    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let names = self.names();
        let entry = names.files.get(name)?;
        let Some(archive) = entry.archive() else {
            assert_eq!(entry.size, 0, "{name} is in the catalogue");
            return Some(Vec::new());
        };
        let bytes = self.store.vault_server().archive("demo", archive);
        Some(bytes.unwrap_or_else(|| panic!("{name}: no archive {archive}")))
    }

    #[track_caller]
    fn assert_holds(&self, name: &str, content: &Content) {
        let bytes = self.bytes(name).unwrap_or_else(|| panic!("no {name}"));
        if let Err(error) = content.compare(&bytes[..]) {
            panic!("{name}: {error}");
        }
    }

    /// No upload of ours is open, what is theirs is there, and each archive of ours has its name.
    #[track_caller]
    fn assert_clean(&self, what: &str) {
        assert_eq!(self.ours(), [], "{what}");
        let server = self.store.vault_server();
        let foreign = server.uploads("demo");
        assert!(
            foreign.iter().any(|u| u.id == self.foreign_upload),
            "{what}"
        );
        let names = self.names();
        assert!(names.garbage.is_empty(), "{what}: {:?}", names.garbage);
        let mut archives: Vec<String> = names
            .files
            .values()
            .filter_map(|entry| entry.archive().map(str::to_owned))
            .chain([self.foreign_archive.clone()])
            .collect();
        archives.sort();
        let there: Vec<String> = server.archives("demo").into_iter().map(|a| a.id).collect();
        assert_eq!(there, archives, "{what}");
    }

    /// The journals of mounts, dead or alive.
    fn journals(&self) -> Vec<PathBuf> {
        let mut left = self.place.instances();
        left.retain(|path| !path.ends_with("vaults"));
        left
    }

    fn command(&self, action: &str, more: &[&str]) -> Command {
        let mut command = program(&self.store);
        command.args(["vault", action, "demo"]).args(more);
        command.args([
            "--endpoint-url",
            &self.store.endpoint,
            "--region",
            self.store.region,
        ]);
        command.arg("--state-dir").arg(self.place.state());
        command
    }

    #[track_caller]
    fn run(&self, action: &str, more: &[&str]) -> Outcome {
        let outcome = run(&mut self.command(action, more));
        assert!(outcome.ok(), "{action}: {}", outcome.err);
        outcome
    }
}
