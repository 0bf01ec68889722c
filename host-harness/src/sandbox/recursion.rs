//! Whether a trap is the end of a stack.
//!
//! Why: a component keeps what its functions have on the stack at the beginning of its memory, and a stack that grows
//! beyond that goes on below address 0, which is the other end of 32 bits. What the engine calls it then, an access out
//! of bounds, leads an author astray.
//! Not guaranteed: an address that is wrong for another reason may be as high, and where memory is copied or filled as a
//! whole there is no address to be seen; then it is told as any access out of bounds.

use wasmtime::{Error, Trap};

/// How far below the beginning of memory a frame of a stack may reach. No guest has memory there. An offset into such
/// a frame is added to its address without an end at 32 bits, so what is in it may be as far above.
const FRAME: u64 = 64 << 20;

/// What the engine says of a fault, before its address.
const FAULT: &str = "memory fault at wasm address 0x";

/// Whether this looks like a stack that has grown beyond its end.
pub(super) fn is_too_deep(trap: Trap, error: &Error) -> bool {
    let below = (1 << 32) - FRAME..(1 << 32) + FRAME;
    let is_below = |cause: &(dyn std::error::Error + 'static)| {
        address(&cause.to_string()).is_some_and(|address| below.contains(&address))
    };
    trap == Trap::MemoryOutOfBounds && error.chain().any(is_below)
}

/// The address that a text of the engine names.
fn address(text: &str) -> Option<u64> {
    let rest = text.split_once(FAULT)?.1;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    u64::from_str_radix(digits, 16).ok()
}
