//! The contract's types, generated from `wit/`: natively as well, so that what speaks them can be tested natively.

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "generated code; the documentation stands in wit/"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "signal-connector",
        pub_export_macro: true,
        default_bindings_module: "crate::contract",
        additional_derives: [PartialEq],
        with: {
            "wasi:io/error@0.2.12": wasi::io::error,
            "wasi:io/poll@0.2.12": wasi::io::poll,
            "wasi:io/streams@0.2.12": wasi::io::streams,
            "wasi:clocks/wall-clock@0.2.12": wasi::clocks::wall_clock,
            "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
            "wasi:http/types@0.2.12": wasi::http::types,
            "wasi:http/outgoing-handler@0.2.12": wasi::http::outgoing_handler,
        },
    });
}

#[cfg(target_arch = "wasm32")]
pub(crate) use bindings::export;
pub use bindings::exports;
pub use bindings::witfoo::signal_connector::log;
pub use bindings::witfoo::signal_connector::types::*;
