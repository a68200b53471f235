//! The Debian package: installed in a fresh Debian, used with that system's own tools, removed and purged.

mod long {
    use std::path::Path;
    use std::process::Command;

    use crate::support::mount::PROGRAM;
    use crate::support::seconds;
    use crate::support::tools::{run_within, shout};

    /// What `scripts/deb --check` ends with where no package can be tried.
    const NOT_HERE: i32 = 125;

    #[test]
    fn a_package_serves_and_leaves_nothing_but_an_open_journal() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(checkout.join("scripts/deb"));
        command.arg("--check").env("WHOLEFS_BIN", PROGRAM);
        let seen = run_within(&mut command, seconds(600));
        print!("{}", seen.out);
        if seen.status.code() == Some(NOT_HERE) {
            shout(&format!("SKIPPED: {}", seen.err.trim()));
            return;
        }
        assert!(seen.ok(), "{}{}", seen.out, seen.err);
        assert!(seen.out.contains("ok "), "nothing was checked");
    }
}
