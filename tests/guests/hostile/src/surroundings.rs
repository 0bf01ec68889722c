//! What can be seen of the host from inside.

use serde_json::{Value, json};
use std::io::Read;
use wasi::clocks::{monotonic_clock, wall_clock};

/// Times each clock is read.
const READINGS: usize = 2000;

/// Everything that can be read.
pub(crate) fn look() -> Value {
    let mut input = Vec::new();
    let read = std::io::stdin().take(1024).read_to_end(&mut input);
    let fine = |nanoseconds: u64| !nanoseconds.is_multiple_of(1_000_000);
    let monotonic = (0..READINGS).filter(|_| fine(monotonic_clock::now())).count();
    let wall = (0..READINGS).filter(|_| fine(u64::from(wall_clock::now().nanoseconds))).count();
    json!({
        "environment": std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        // The directory that is current in a process without files; no other call of `std::env` can name one.
        "directory": std::env::current_dir().map_or_else(|error| error.kind().to_string(), |path| path.display().to_string()),
        "program": std::env::current_exe().is_ok(),
        "arguments": std::env::args().collect::<Vec<_>>(),
        "input": read.map_or_else(|error| error.kind().to_string(), |size| format!("{size} bytes")),
        "fine_monotonic_readings": monotonic,
        "fine_wall_readings": wall,
        "monotonic_resolution": monotonic_clock::resolution(),
        "wall_resolution": wall_clock::resolution().nanoseconds,
    })
}
