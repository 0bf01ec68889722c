//! What a guest may import.
//!
//! What: the closed list of interfaces, and a linker that holds exactly these. Clocks are the host's, HTTP goes
//! through the gate, the log is cleaned; environment and arguments are empty, standard input is closed, standard
//! output is discarded.
//! Why by enumeration: what is not linked cannot be reached by a mistake in a context. There is no filesystem and
//! there are no sockets in this process for guests.
//! Not guaranteed: in a step `wasi:random/insecure-seed` is random, so a guest that uses it may iterate its maps
//! differently each time.

use super::guest::Guest;
use super::guest_log::HasLog;
use super::request_words;
use crate::contract::{log, types};
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, io, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_http::p2::bindings::http;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};

/// The interfaces a component may import, without their versions: WASI 0.2 and this project's package.
pub const ALLOWED_IMPORTS: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure-seed",
    "witfoo:signal-connector/log",
    "witfoo:signal-connector/types",
];

/// Leads from a store to its table of resources.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// A linker with every interface of [`ALLOWED_IMPORTS`] and no other.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    cli::environment::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)?;
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)?;
    http::outgoing_handler::add_to_linker::<_, WasiHttp>(l, Guest::http)?;
    http::types::add_to_linker::<_, WasiHttp>(l, &http::types::LinkOptions::default(), Guest::http)?;
    request_words::bound(l)?;
    io::error::add_to_linker::<_, HasTable>(l, |guest: &mut Guest| guest.ctx().table)?;
    io::poll::add_to_linker::<_, HasTable>(l, |guest: &mut Guest| guest.ctx().table)?;
    io::streams::add_to_linker::<_, HasTable>(l, |guest: &mut Guest| guest.ctx().table)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(l, |guest: &mut Guest| guest.ctx().ctx.random())?;
    log::add_to_linker::<_, HasLog>(l, Guest::log)?;
    types::add_to_linker::<_, HasLog>(l, Guest::log)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;

    use super::ALLOWED_IMPORTS;
    use crate::sandbox::{Engine, EngineOptions};

    /// Whether a component that imports one function of an interface finds it here.
    fn links(engine: &Engine, interface: &str, function: &str) -> Result<(), String> {
        let text = format!(r#"(component (import "{interface}" (instance (export "{function}" (func)))))"#);
        let component = Component::new(engine.linker().engine(), wat::parse_str(text).unwrap()).unwrap();
        engine.linker().instantiate_pre(&component).map(|_| ()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_is_not_on_the_list_is_not_there_even_for_a_component_that_passed_no_audit() {
        let engine =
            Engine::new(EngineOptions { pooling: false, max_instances: 1, ..EngineOptions::default() }).unwrap();
        for (interface, function) in [
            ("wasi:filesystem/preopens@0.2.12", "get-directories"),
            ("wasi:filesystem/types@0.2.12", "filesystem-error-code"),
            ("wasi:sockets/instance-network@0.2.12", "instance-network"),
            ("wasi:sockets/tcp-create-socket@0.2.12", "create-tcp-socket"),
            ("wasi:sockets/udp-create-socket@0.2.12", "create-udp-socket"),
            ("wasi:sockets/ip-name-lookup@0.2.12", "resolve-addresses"),
            ("wasi:random/random@0.2.12", "get-random-u64"),
            ("wasi:http/incoming-handler@0.2.12", "handle"),
        ] {
            let (name, _) = interface.split_once('@').unwrap();
            assert!(!ALLOWED_IMPORTS.contains(&name));
            let why = links(&engine, interface, function).expect_err(interface);
            assert!(why.contains("implementation") && why.contains("not found"), "{interface}: {why}");
        }
        // What is on it is found, though this function has another type there.
        let why = links(&engine, "wasi:cli/environment@0.2.12", "get-environment").expect_err("another type");
        assert!(why.contains("get-environment` has the wrong type"), "{why}");
    }
}
