//! The embedded bucket as one of the vendors' stores, under host names as theirs.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wholefs::embedded::{Dialect, Options};

use super::store::Store;
use super::tools::sh_ok;

impl Store {
    pub fn amazon() -> Store {
        simulator("aws", "s3.test", "demo", "eu-west-1")
    }

    pub fn ncloud() -> Store {
        simulator("ncloud", "object.test", "demo", "kr")
    }

    /// Spoken to in its own way: its signature, its names of headers.
    pub fn cos() -> Store {
        simulator("cos", "cos.test", "demo-1250000000", "ap-seoul")
    }

    /// Spoken to as an S3 store.
    pub fn cos_as_s3() -> Store {
        simulator("cos", "s3.test", "demo-1250000000", "ap-seoul")
    }

    /// How the program has to be told to speak to it.
    pub fn auth(&self) -> Option<&'static str> {
        self.endpoint.contains("//cos.test:").then_some("cos")
    }

    /// A library the program needs to find it.
    pub fn resolver(&self) -> Option<&'static Path> {
        self.endpoint.contains(".test:").then(resolver)
    }
}

fn simulator(name: &'static str, domain: &str, bucket: &str, region: &'static str) -> Store {
    let mut store = Store::embedded_with(Options {
        dialect: Dialect::named(name).expect("a dialect"),
        buckets: vec![bucket.to_owned()],
        base_domain: Some(domain.to_owned()),
        ..Options::default()
    });
    let address = store.server().address();
    let by_name = format!("{domain}:{}", address.port());
    store.endpoint = store.endpoint.replace(&address.to_string(), &by_name);
    (store.region, store.provider) = (region, name);
    store
}

/// Built once, and put in place whole: other runs of the tests may be at it as well.
fn resolver() -> &'static Path {
    static RESOLVER: OnceLock<PathBuf> = OnceLock::new();
    RESOLVER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let made = folder.join(format!("resolve-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/resolve.c");
        sh_ok(
            "cc -O -shared -fPIC -o \"$1\" \"$2\"",
            &[&made, Path::new(source)],
        );
        let library = folder.join("resolve.so");
        std::fs::rename(&made, &library).expect("in place");
        library
    })
}
