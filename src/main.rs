//! The binary: parses the command line and does what it says.

/// A worker that runs many short jobs spends a quarter of its time in the C library's allocator. This one takes the place of that
/// one for SQLite as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    windlass::server::cli::main()
}
