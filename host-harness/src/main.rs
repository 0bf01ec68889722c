//! The command `host-harness`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    host_harness::cli::main()
}
