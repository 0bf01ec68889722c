//! What is said in `describe` and `configure`: the truth, or lies.

use crate::bindings::witfoo::signal_connector::types::*;
use crate::{is_made_for, version};

/// The one stream.
pub(crate) const STREAM: &str = "records";

/// The planned host; a version that was made for it has moved elsewhere.
pub(crate) fn host() -> String {
    let moved = if is_made_for("moved") { "moved." } else { "" };
    format!("{moved}api.hostile.example")
}

fn field(key: &str, kind: SettingKind) -> SettingField {
    SettingField {
        key: key.to_owned(),
        label: key.to_owned(),
        help: String::new(),
        kind,
        required: false,
        default: None,
    }
}

/// The descriptor, with the lies that are asked for.
pub(crate) fn descriptor(acts: &[String]) -> Descriptor {
    let stream = DataStream {
        name: STREAM.to_owned(),
        noun: STREAM.to_owned(),
        description: "Records.".to_owned(),
        announced: true,
    };
    let credential = |header: &str| Credential { setting: "token".to_owned(), header: header.to_owned() };
    let mut descriptor = Descriptor {
        name: "signal-client.hostile".to_owned(),
        display_name: "Hostile".to_owned(),
        category: "Test".to_owned(),
        version: version(),
        vendor_docs: "https://docs.hostile.example/".to_owned(),
        auth_method: "Token".to_owned(),
        default_poll_minutes: 5,
        minimum_poll_minutes: 1,
        multi_instance: true,
        streams: vec![stream.clone()],
        settings: vec![
            field("behaviour", SettingKind::Text(200)),
            field("argument", SettingKind::Text(65_536)),
            field("token", SettingKind::Secret),
        ],
        credentials: vec![credential("x-hostile-token")],
    };
    for act in acts {
        lie(act, &mut descriptor, &stream);
    }
    descriptor
}

/// Changes a descriptor as one act wants it.
fn lie(act: &str, descriptor: &mut Descriptor, stream: &DataStream) {
    let credential = |header: &str| Credential { setting: "token".to_owned(), header: header.to_owned() };
    match act {
        "header-host" => descriptor.credentials = vec![credential("Host")],
        "header-proxy" => descriptor.credentials = vec![credential("Proxy-Authorization")],
        "header-cookie" => descriptor.credentials = vec![credential("cookie")],
        "header-override" => descriptor.credentials = vec![credential("X-HTTP-Method-Override")],
        "header-crlf" => descriptor.credentials = vec![credential("x-a\r\nx-b")],
        "header-visible" => descriptor.credentials = vec![credential("user-agent")],
        "credential-twice" => descriptor.credentials.push(credential("x-other")),
        "credential-of-a-text" => {
            let other = Credential { setting: "argument".to_owned(), header: "x-other".to_owned() };
            descriptor.credentials.push(other);
        }
        "secret-without-credential" => descriptor.credentials.clear(),
        "secret-default" => {
            if let Some(token) = descriptor.settings.last_mut() {
                token.default = Some(SettingValue::Text("known-to-all".to_owned()));
            }
        }
        "many-settings" => {
            descriptor.settings.extend((0..5000).map(|n| field(&format!("field_{n}"), SettingKind::Boolean)));
        }
        "streams" => {
            let more = (0..5000).map(|n| DataStream { name: format!("stream-{n}"), ..stream.clone() });
            descriptor.streams.extend(more);
        }
        "huge" => descriptor.display_name = "x".repeat(40 << 20),
        "control" => descriptor.display_name = "Hostile\u{1b}[2J\n[INFO] other-connector: fetched 0 records".to_owned(),
        "backwards" => descriptor.display_name = "Hostile \u{202e}gnitset".to_owned(),
        "name-of-none" => descriptor.name = "other".to_owned(),
        "name-with-path" => descriptor.name = "signal-client.../../etc".to_owned(),
        "docs-script" => descriptor.vendor_docs = "javascript:alert(1)".to_owned(),
        "never-polled" => descriptor.default_poll_minutes = u32::MAX,
        "polled-at-once" => descriptor.minimum_poll_minutes = 0,
        _ => {}
    }
}

/// The plan, with the lie that is asked for. `argument` is the host of `origin`.
pub(crate) fn plan(act: &str, argument: &str) -> Result<Plan, Vec<FieldError>> {
    let rule = |method: &str, prefix: &str| RequestRule { method: method.to_owned(), path_prefix: prefix.to_owned() };
    let mut plan = Plan {
        origin: Origin { scheme: Scheme::Https, host: host(), port: 443 },
        rules: vec![rule("GET", "/v1/"), rule("POST", "/v1/search")],
    };
    match act {
        "origin" => plan.origin.host = argument.to_owned(),
        "port-0" => plan.origin.port = 0,
        "plain-http" => {
            plan.origin = Origin { scheme: Scheme::Http, host: "plain.hostile.example".to_owned(), port: 80 };
        }
        "no-rules" => plan.rules.clear(),
        "rules" => plan.rules = (0..5000).map(|n| rule("GET", &format!("/v{n}/"))).collect(),
        "method-connect" => plan.rules.push(rule("CONNECT", "/")),
        "method-crlf" => plan.rules.push(rule("GET\r\n", "/")),
        "path-up" => plan.rules.push(rule("GET", "/v1/../admin/")),
        "path-encoded" => plan.rules.push(rule("GET", "/v1/%2e%2e/")),
        "path-none" => plan.rules.push(rule("GET", "")),
        "errors" => {
            let error = FieldError { key: "k\n".repeat(1000), message: format!("\u{1b}[2J{argument}\n").repeat(1000) };
            return Err(vec![error; 50]);
        }
        _ => {}
    }
    Ok(plan)
}
