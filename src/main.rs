//! The `headgate` binary: arguments in, exit status out.

/// Gives the memory of unloaded models back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    headgate::cli::main()
}
