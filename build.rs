//! The size of the component's stack.
//!
//! 64 KiB instead of the toolchain's 1 MiB, which would be four fifths of the memory of a poll. The tests that run the
//! component (`end_to_end`, `differential`, `faults`, `broken_files`, `isolation`, `resident`, `contract`) pass with
//! 16 KiB too. The stack lies below everything else, so one that is too deep ends in a trap and nothing is overwritten.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=65536");
    }
}
