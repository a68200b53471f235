//! Certificate authorities of the tests' own, and what they sign.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use wholefs::embedded::Tls;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut said = CertificateParams::default();
        said.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        said.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = said.self_signed(&key).expect("a certificate").pem();
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("ca.pem"), &certificate).expect("written");
        Authority {
            issuer: Issuer::new(said, key),
            certificate,
            folder,
        }
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// What a server of these names (or addresses) shows.
    pub fn certify(&self, names: &[&str]) -> Tls {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let said = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = said.signed_by(&key, &self.issuer).expect("a certificate");
        Tls {
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        }
    }

    /// The same as the files `server.pem` and `server.key`.
    pub fn certify_in_files(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let tls = self.certify(names);
        let file = |name: &str, bytes: Vec<u8>| {
            let file = self.folder.path().join(name);
            std::fs::write(&file, bytes).expect("written");
            file
        };
        (
            file("server.pem", tls.certificate),
            file("server.key", tls.key),
        )
    }
}
