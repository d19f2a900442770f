//! The binary `outrigger`: everything is in the library, so that tests and benches reach it.

use std::process::ExitCode;

/// A call allocates often and little: mimalloc takes 6 % fewer instructions for it than the
/// system's allocator. Without huge pages, which would make an idle connection cost half as much
/// again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    outrigger::cli::main()
}
