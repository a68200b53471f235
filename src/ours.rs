//! Directories whose content is believed: nobody else may write to them.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Says whose it is, or that others may write to it. (What root has is as good as ours.)
pub fn assert_ours(directory: &Path) -> io::Result<()> {
    let at = std::fs::metadata(directory)?;
    // SAFETY: always succeeds, touches no memory.
    let us = unsafe { libc::geteuid() };
    let why = match (at.uid(), at.mode()) {
        (owner, _) if owner != us && owner != 0 => {
            format!(
                "it belongs to user {owner}, who may write into it what he likes: do this as that user, or chown it"
            )
        }
        (_, mode) if mode & 0o022 != 0 => {
            "others may write into it what they like: chmod go-w".to_string()
        }
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_may_write_to_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let with = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.path(), mode).unwrap();
            assert_ours(folder.path())
        };
        assert!(with(0o700).is_ok() && with(0o755).is_ok());
        for mode in [0o770, 0o707, 0o1777] {
            let why = with(mode).unwrap_err().to_string();
            assert!(why.contains("chmod go-w"), "{why}");
        }
    }
}
