//! A connector that tries everything it must not do.
//!
//! What it does is chosen by the setting `behaviour`, `EXPORT:ACT` (for example `poll:spin`), with details in the setting
//! `argument`. What it does in `describe`, which has no settings, stands in [`MARKER`]: a test writes over it in the
//! built component. So one component is a hundred hostile ones.
//! It proves that a host contains, tells and survives all of it (tests/host/hostile.rs).

// Built natively, as part of the workspace, there is nothing to export.
#![cfg(target_arch = "wasm32")]

mod answers;
mod compute;
mod lies;
mod network;
mod surroundings;

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
        path: "../../../wit",
        world: "signal-connector",
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

use bindings::exports::witfoo::signal_connector::connector::Guest;
use bindings::witfoo::signal_connector::types::*;

struct Hostile;

#[allow(unsafe_code, unreachable_pub, reason = "generated code")]
mod glue {
    use super::{Hostile, bindings};

    bindings::export!(Hostile with_types_in super::bindings);
}

/// What `describe` does: the text after the colon, up to the first full stop; several acts stand between commas. Tests
/// write over it, and so make other versions of this connector.
static MARKER: [u8; 64] = *b"hostile-guest-describe:honest...................................";

/// The acts of [`MARKER`] as it is in the component that runs.
fn marker() -> Vec<String> {
    let text = String::from_utf8_lossy(std::hint::black_box(&MARKER)).into_owned();
    let acts = text.split_once(':').and_then(|(_, acts)| acts.split('.').next()).unwrap_or_default();
    acts.split(',').map(str::to_owned).collect()
}

/// Whether the component that runs was made for an act.
fn is_made_for(act: &str) -> bool {
    marker().iter().any(|one| one == act)
}

/// The version of the component that runs: `v2` in [`MARKER`] makes it `2.0.0`.
fn version() -> String {
    let acts = marker();
    let major = acts.iter().find_map(|act| act.strip_prefix('v')?.parse::<u32>().ok());
    format!("{}.0.0", major.unwrap_or(1))
}

/// The text of a setting.
fn text(settings: &[Setting], key: &str) -> String {
    let found = settings.iter().find_map(|setting| match &setting.value {
        SettingValue::Text(text) if setting.key == key => Some(text.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// What to do in an export; `honest` when the behaviour is about another one.
fn act(settings: &[Setting], export: &str) -> String {
    let behaviour = text(settings, "behaviour");
    behaviour.split_once(':').filter(|(at, _)| *at == export).map_or("honest", |(_, act)| act).to_owned()
}

/// Requests of a step that a new version is tried with.
const CANARY_REQUESTS: u32 = 20;

impl Guest for Hostile {
    fn describe() -> Descriptor {
        let acts = marker();
        for act in &acts {
            compute::perform(act);
        }
        lies::descriptor(&acts)
    }

    fn configure(settings: Vec<Setting>) -> Result<Plan, Vec<FieldError>> {
        let act = act(&settings, "configure");
        compute::perform(&act);
        lies::plan(&act, &text(&settings, "argument"))
    }

    fn check(settings: Vec<Setting>) -> Result<CheckReport, Failure> {
        let act = act(&settings, "check");
        compute::perform(&act);
        answers::check(&act)
    }

    fn poll(settings: Vec<Setting>, checkpoint: Option<Vec<u8>>, budget: Budget) -> Result<Batch, Failure> {
        let act = act(&settings, "poll");
        compute::perform(&act);
        // A version that has changed its mind since it was described.
        if is_made_for("turned") {
            return answers::poll("rewritten-checkpoint", "", checkpoint);
        }
        // One that works as long as it is tried, which a small budget tells.
        if is_made_for("crashing") || (is_made_for("sly") && budget.requests > CANARY_REQUESTS) {
            compute::perform("trap");
        }
        answers::poll(&act, &text(&settings, "argument"), checkpoint)
    }
}
