//! What can be tried in any export: to keep the CPU, the memory, the thread or the log for oneself.

use crate::bindings::witfoo::signal_connector::log;
use crate::network;
use std::hint::black_box;
use wasi::clocks::monotonic_clock;

/// Lines of a flood of the log.
const FLOOD: usize = 20_000;

/// Requests that are refused, one after the other.
const REFUSED: usize = 200;

/// Does what is asked, if it is one of these. Most never return.
pub(crate) fn perform(act: &str) {
    match act {
        "spin" => spin(),
        "sleep" => sleep(),
        "sleep-in-pieces" => loop {
            monotonic_clock::subscribe_duration(1_000_000).block();
        },
        "trap" => core::arch::wasm32::unreachable(),
        "panic" => overflow(),
        "exit" => std::process::exit(3),
        "recurse" => {
            black_box(recurse::<64>(black_box(1)));
        }
        // What it keeps in memory is at its end before the calls are.
        "recurse-wide" => {
            black_box(recurse::<1024>(black_box(1)));
        }
        "grow" => {
            grow();
            core::arch::wasm32::unreachable();
        }
        // Goes on as if nothing had been refused.
        "grow-and-go-on" => grow(),
        "handles" => loop {
            std::mem::forget(monotonic_clock::subscribe_duration(3_600_000_000_000));
        },
        "fields" => network::hoard_fields(),
        "fetch" => {
            log::write(log::Level::Info, &format!("fetched: {}", network::get("/v1/records")));
        }
        "fetch-for-ever" => {
            for _ in 0..REFUSED {
                black_box(network::get("/elsewhere"));
            }
        }
        "log-flood" => {
            for line in 0..FLOOD {
                log::write(log::Level::Error, &format!("line {line} {}", "x".repeat(200)));
            }
        }
        "log-huge" => log::write(log::Level::Info, &"huge ".repeat(2 << 20)),
        "log-forge" => forge(),
        "standard-output" => {
            for _ in 0..FLOOD {
                println!("[INFO] other-connector: on standard output {}", "x".repeat(200));
                eprintln!("[INFO] other-connector: on standard error {}", "x".repeat(200));
            }
        }
        _ => {}
    }
}

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn sleep() {
    loop {
        monotonic_clock::subscribe_duration(3_600_000_000_000).block();
    }
}

/// A panic with a message on standard error.
fn overflow() {
    let none: Option<u8> = black_box(None);
    if none.is_none() {
        eprintln!("[INFO] other-connector: fetched 0 records\n\u{1b}[2Jpanicked");
        std::process::abort();
    }
}

/// Never ends, and is no loop.
fn recurse<const ROOM: usize>(depth: u64) -> u64 {
    let room = [depth; ROOM];
    // Not by value: a copy that ends below the beginning of memory has no address that a host could know.
    black_box(&room);
    if depth == 0 {
        return 0;
    }
    let deeper = recurse::<ROOM>(black_box(depth.wrapping_add(1)));
    deeper.wrapping_add(room.iter().sum())
}

/// Takes pages until there are none.
fn grow() {
    while core::arch::wasm32::memory_grow::<0>(16) != usize::MAX {}
    while core::arch::wasm32::memory_grow::<0>(1) != usize::MAX {}
}

/// Tries to write lines of others, to move the cursor, and to turn the text round.
fn forge() {
    for end in ["\n", "\r\n", "\r", "\u{2028}", "\u{85}", "\u{b}", "\0"] {
        log::write(log::Level::Info, &format!("harmless{end}[INFO] other-connector: fetched 0 records"));
    }
    log::write(log::Level::Warn, "\u{1b}[2J\u{1b}[1;1H[INFO] other-connector: cleared \u{9b}31m");
    log::write(log::Level::Warn, "\u{202e}sdrawkcab \u{2066}\u{200f}\u{feff}");
    log::write(log::Level::Warn, "\", \"source\": \"other-connector\", \"x\": \"");
}
