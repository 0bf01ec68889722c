//! The warning that a route sends an instance's requests, and with them its secrets, elsewhere.
//!
//! Why remembered here: a host sets an instance up anew for every poll, and a line that comes with each of them is one that
//! nobody reads. So it is said once by a process, and again when the route has changed.
//! Not guaranteed: that two processes do not both say it.

use crate::locks::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use url::Url;

/// Connector, instance and planned host.
type Of = (String, String, String);

/// Where what was told of is sent. An entry for each instance with a route, as many as the operator has configured.
static TOLD: Mutex<BTreeMap<Of, Url>> = Mutex::new(BTreeMap::new());

/// Tells where what is meant for a host is sent, unless that was told.
pub(super) fn tell(connector: &str, instance: &str, host: &str, target: Option<&Url>) {
    let of = (connector.to_owned(), instance.to_owned(), host.to_owned());
    let before = match target {
        Some(url) => lock(&TOLD).insert(of, url.clone()),
        None => lock(&TOLD).remove(&of),
    };
    if let Some(url) = target.filter(|url| before.as_ref() != Some(*url)) {
        let to = url.as_str().trim_end_matches('/');
        tracing::warn!(connector, instance, "a route sends what is meant for {host} to {to}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_told_once_and_again_when_it_has_changed() {
        let [one, two] = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(|url| Url::parse(url).expect("a URL"));
        let told = |instance: &str, target: Option<&Url>| {
            crate::log::captured(|| tell("routed", instance, "api.example.com", target))
        };
        let line = |instance: &str, port: u8| {
            format!(
                "[WARN] routed: a route sends what is meant for api.example.com to http://127.0.0.1:{port} instance=\"{instance}\"\n"
            )
        };
        assert_eq!((told("a", Some(&one)), told("a", Some(&one))), (line("a", 1), String::new()));
        assert_eq!(told("b", Some(&one)), line("b", 1), "each instance by itself");
        assert_eq!((told("a", Some(&two)), told("a", Some(&two))), (line("a", 2), String::new()));
        assert_eq!((told("a", None), told("a", Some(&two))), (String::new(), line("a", 2)));
    }
}
