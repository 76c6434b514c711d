//! The binary: parses the command line and does what it says.

fn main() -> std::process::ExitCode {
    windlass::server::cli::main()
}
