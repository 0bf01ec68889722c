//! The contract between host and connector, generated from `wit/`.
//!
//! Why: one definition, in WIT, serves both sides; this module only gives the
//! generated types the derives the host needs and shorter names.
//! Not guaranteed: the generated layout follows wasmtime's generator, so other
//! modules use the re-exports below and never the paths inside `bindings`.

/// The generated bindings.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code; the documentation stands in wit/")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "signal-connector",
        imports: { default: async },
        exports: { default: async },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:http": wasmtime_wasi_http::p2::bindings::http,
        },
        additional_derives: [PartialEq, serde::Serialize],
        require_store_data_send: true,
    });
}

/// The generated bindings of what a connector may export besides.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code; the documentation stands in wit/")]
pub mod optional {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "package host:optional; world signing { export witfoo:signal-connector/sign-in@0.1.1; }",
        world: "host:optional/signing",
        imports: { default: async },
        exports: { default: async },
        with: { "witfoo:signal-connector/types": crate::contract::bindings::witfoo::signal_connector::types },
        additional_derives: [PartialEq, serde::Serialize],
        require_store_data_send: true,
    });
}

pub use bindings::SignalConnector;
pub use bindings::SignalConnectorPre;
pub use bindings::witfoo::signal_connector::log;
pub use bindings::witfoo::signal_connector::types;
pub use optional::SigningPre;
pub use optional::exports::witfoo::signal_connector::sign_in;
