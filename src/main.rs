//! Parse, start, exit code.

fn main() -> std::process::ExitCode {
    wholefs::cli::main()
}
