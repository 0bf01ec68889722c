//! A connector that hands out everything it is given.
//!
//! It proves two things about a host: that a secret cannot be seen from inside
//! (it dumps its settings, environment, arguments and whatever the vendor
//! echoes back), and that the host knows nothing of any one vendor. Its note says
//! how its secret is to sign in.

// Built natively, as part of the workspace, there is nothing to export.
#![cfg(target_arch = "wasm32")]

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
        world: "signing-in-connector",
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
use bindings::exports::witfoo::signal_connector::sign_in;
use bindings::exports::witfoo::signal_connector::sign_in::{
    ClientAuthentication, ClientCredentials, Form, Method, Parameter,
};
use bindings::witfoo::signal_connector::log;
use bindings::witfoo::signal_connector::types::*;
use serde_json::json;
use wasi::http::types::{Fields, IncomingResponse, OutgoingRequest, Scheme as HttpScheme};

struct Probe;

#[allow(unsafe_code, unreachable_pub, reason = "generated code")]
mod glue {
    use super::{Probe, bindings};

    bindings::export!(Probe with_types_in super::bindings);
}

/// The stream it reports.
const DUMPS: &str = "dumps";

impl Guest for Probe {
    fn describe() -> Descriptor {
        Descriptor {
            name: "signal-client.probe".to_owned(),
            display_name: "Probe".to_owned(),
            category: "Test".to_owned(),
            version: "0.1.0".to_owned(),
            vendor_docs: "https://probe.example/docs".to_owned(),
            auth_method: "Token".to_owned(),
            default_poll_minutes: 5,
            minimum_poll_minutes: 1,
            multi_instance: true,
            streams: vec![DataStream {
                name: DUMPS.to_owned(),
                noun: DUMPS.to_owned(),
                description: "All that can be seen from inside.".to_owned(),
                announced: true,
            }],
            settings: vec![
                SettingField {
                    key: "note".to_owned(),
                    label: "Note".to_owned(),
                    help: "Handed back as it is.".to_owned(),
                    kind: SettingKind::Text(200),
                    required: false,
                    default: None,
                },
                SettingField {
                    key: "token".to_owned(),
                    label: "Token".to_owned(),
                    help: "Should never be seen again.".to_owned(),
                    kind: SettingKind::Secret,
                    required: true,
                    default: None,
                },
            ],
            credentials: vec![Credential { setting: "token".to_owned(), header: "x-probe-token".to_owned() }],
        }
    }

    fn configure(_: Vec<Setting>) -> Result<Plan, Vec<FieldError>> {
        Ok(Plan {
            origin: Origin { scheme: Scheme::Https, host: "api.probe.example".to_owned(), port: 443 },
            rules: vec![RequestRule { method: "GET".to_owned(), path_prefix: "/".to_owned() }],
        })
    }

    fn check(_: Vec<Setting>) -> Result<CheckReport, Failure> {
        Ok(CheckReport { summary: "The probe is always well.".to_owned(), reports: Vec::new() })
    }

    fn poll(settings: Vec<Setting>, checkpoint: Option<Vec<u8>>, _: Budget) -> Result<Batch, Failure> {
        let steps = checkpoint.as_ref().map_or(0, Vec::len);
        let answer = get("/echo").unwrap_or_else(|error| format!("{error:?}"));
        if answer.starts_with("401") {
            return Err(unauthorized());
        }
        let seen = json!({
            "settings": format!("{settings:?}"),
            "environment": std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
            "arguments": std::env::args().collect::<Vec<_>>(),
            "answer": answer,
        });
        log::write(log::Level::Info, &format!("seen: {seen}"));
        eprintln!("seen: {seen}");
        let id = format!("00000000-0000-1000-8000-{steps:012}");
        let json = json!({"id": id, "streamName": "probe", "message": seen.to_string()}).to_string();
        Ok(Batch {
            artifacts: vec![Artifact { id, stream: DUMPS.to_owned(), json }],
            checkpoint: vec![0; steps.saturating_add(1)],
            more: false,
            reports: vec![StreamReport { stream: DUMPS.to_owned(), fetched: 1, state: StreamState::Ok }],
            retry_after_seconds: None,
            hint: Some(format!("seen: {answer}")),
        })
    }
}

impl sign_in::Guest for Probe {
    fn methods(settings: Vec<Setting>) -> Result<Vec<Method>, Vec<FieldError>> {
        let note = settings.into_iter().find(|setting| setting.key == "note").map(|setting| setting.value);
        let Some(SettingValue::Text(note)) = note else { return Ok(Vec::new()) };
        let form = match note.as_str() {
            "prefixed" => Form::Prefixed("Probe ".to_owned()),
            "password" => Form::BasicPassword("probe-user".to_owned()),
            "user" => Form::BasicUser(String::new()),
            "token" => Form::ClientCredentials(grant(ClientAuthentication::Basic)),
            "token by form" => Form::ClientCredentials(grant(ClientAuthentication::Form)),
            "token from nowhere" => {
                let nowhere = Origin { scheme: Scheme::Https, host: "localhost".to_owned(), port: 443 };
                Form::ClientCredentials(ClientCredentials {
                    token_origin: nowhere,
                    ..grant(ClientAuthentication::Form)
                })
            }
            "refused" => {
                let message = "does not say how to sign in".to_owned();
                return Err(vec![FieldError { key: "note".to_owned(), message }]);
            }
            _ => return Ok(Vec::new()),
        };
        Ok(vec![Method { setting: "token".to_owned(), form }])
    }
}

/// A token from elsewhere.
fn grant(authentication: ClientAuthentication) -> ClientCredentials {
    ClientCredentials {
        token_origin: Origin { scheme: Scheme::Https, host: "login.probe.example".to_owned(), port: 443 },
        token_path: "/oauth2/token".to_owned(),
        client_id: "probe:client".to_owned(),
        scope: Some("read write".to_owned()),
        parameters: vec![Parameter { name: "audience".to_owned(), value: "https://api.probe.example/".to_owned() }],
        authentication,
    }
}

/// The vendor does not take what signs in.
fn unauthorized() -> Failure {
    Failure {
        reason: FailureReason::Unauthorized,
        message: "the vendor does not know the token".to_owned(),
        remedy: String::new(),
        http_status: Some(401),
        correlation_id: None,
        request_sent: true,
        retry: RetryAdvice::AfterChange,
    }
}

/// Status, headers and body of an answer.
fn get(path: &str) -> Result<String, Box<dyn std::error::Error>> {
    let request = OutgoingRequest::new(Fields::new());
    let refused = |()| "the request is refused";
    request.set_scheme(Some(&HttpScheme::Https)).map_err(refused)?;
    request.set_authority(Some("api.probe.example")).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    let future = wasi::http::outgoing_handler::handle(request, None)?;
    future.subscribe().block();
    let response = future.get().ok_or("no answer")?.map_err(|()| "answered twice")??;
    read(&response)
}

fn read(response: &IncomingResponse) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = format!("{}\n", response.status());
    for (name, value) in response.headers().entries() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    let body = response.consume().map_err(|()| "no body")?;
    let stream = body.stream().map_err(|()| "no stream")?;
    while let Ok(piece) = stream.blocking_read(65_536) {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    Ok(text)
}
