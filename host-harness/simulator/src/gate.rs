//! Who may pass: hosts, regions, keys and the rate limit.

use std::collections::HashMap;
use std::net::IpAddr;

use http::{HeaderMap, header};

use crate::config::{ApiKey, RateLimit, SimulatorConfig};
use crate::moment::Micros;

/// The end of every API host name.
const DOMAIN: &str = ".api.insight.rapid7.com";

/// What a host and a key add up to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access<'a> {
    /// The host is none of the API's.
    NoSuchHost,
    /// No key, an unknown key, or several keys.
    Unauthorized,
    /// A good key at another region's host.
    WrongRegion,
    /// A good key at its region's host.
    Granted(&'a ApiKey),
}

/// Judges the headers; returns the region of the host as well.
///
/// A host that is an address or `localhost` stands for the region of the key, or of the first key known.
pub(crate) fn judge<'a>(config: &'a SimulatorConfig, headers: &HeaderMap) -> (String, Access<'a>) {
    let mut presented = headers.get_all("x-api-key").iter();
    let key = presented.next().and_then(|key| config.keys.iter().find(|own| own.key.as_bytes() == key.as_bytes()));
    let key = if presented.next().is_some() { None } else { key };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = without_port(host).to_ascii_lowercase();
    let region = if name.is_empty() || name == "localhost" || is_address(&name) {
        key.or(config.keys.first()).map(|key| key.region.clone()).unwrap_or_default()
    } else {
        match name.strip_suffix(DOMAIN) {
            Some(region) => region.to_owned(),
            None => return (String::new(), Access::NoSuchHost),
        }
    };
    let access = match key {
        None => Access::Unauthorized,
        Some(key) if key.region != region => Access::WrongRegion,
        Some(key) => Access::Granted(key),
    };
    (region, access)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !is_address(host) => name,
        _ => host,
    }
}

fn is_address(name: &str) -> bool {
    name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// How much of its allowance a key has used.
#[derive(Debug, Default)]
pub(crate) struct Allowances(HashMap<String, (Micros, u32)>);

/// What the rate headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    /// Whole seconds until the window ends, rounded up.
    pub(crate) reset: u64,
    /// This request was one too many.
    pub(crate) exceeded: bool,
}

impl Allowances {
    /// Counts a request of a key. The window begins with the key's first request after the window before.
    pub(crate) fn take(&mut self, key: &str, limit: RateLimit, now: Micros) -> Allowance {
        let length = i64::try_from(limit.window.as_micros()).unwrap_or(i64::MAX);
        let window = self.0.entry(key.to_owned()).or_insert((now, 0));
        // A clock that was set back begins a new window too.
        if now < window.0 || now - window.0 >= length {
            *window = (now, 0);
        }
        let exceeded = window.1 >= limit.requests;
        if !exceeded {
            window.1 += 1;
        }
        let left = window.0.saturating_add(length).saturating_sub(now);
        Allowance {
            limit: limit.requests,
            remaining: limit.requests.saturating_sub(window.1),
            reset: u64::try_from(left).unwrap_or(0).div_ceil(1_000_000),
            exceeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::moment::SECOND;

    fn judged(host: &str, keys: &[&str]) -> (String, String) {
        let config = SimulatorConfig {
            keys: vec![ApiKey::new("us", "a"), ApiKey::new("eu", "b")],
            ..SimulatorConfig::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        for key in keys {
            headers.append("x-api-key", key.parse().unwrap());
        }
        let (region, access) = judge(&config, &headers);
        let access = match access {
            Access::Granted(key) => format!("granted {}", key.key),
            other => format!("{other:?}"),
        };
        (region, access)
    }

    #[test]
    fn hosts_and_keys_decide_together() {
        for (host, keys, region, access) in [
            ("us.api.insight.rapid7.com", &["a"][..], "us", "granted a"),
            ("US.api.insight.rapid7.com:443", &["a"], "us", "granted a"),
            ("eu.api.insight.rapid7.com", &["a"], "eu", "WrongRegion"),
            ("us.api.insight.rapid7.com", &["c"], "us", "Unauthorized"),
            ("us.api.insight.rapid7.com", &[], "us", "Unauthorized"),
            ("us.api.insight.rapid7.com", &["a", "a"], "us", "Unauthorized"),
            ("us.rest.logs.insight.rapid7.com", &["a"], "", "NoSuchHost"),
            ("example.com", &["a"], "", "NoSuchHost"),
            ("127.0.0.1:8811", &["b"], "eu", "granted b"),
            ("[::1]:8811", &["b"], "eu", "granted b"),
            ("localhost", &[], "us", "Unauthorized"),
        ] {
            assert_eq!(judged(host, keys), (region.to_owned(), access.to_owned()), "{host} {keys:?}");
        }
    }

    #[test]
    fn a_window_ends_and_begins_again() {
        let limit = RateLimit { requests: 2, window: Duration::from_secs(60) };
        let mut allowances = Allowances::default();
        assert_eq!(allowances.take("a", limit, 0), Allowance { limit: 2, remaining: 1, reset: 60, exceeded: false });
        assert_eq!(allowances.take("a", limit, 500_000).remaining, 0);
        let third = allowances.take("a", limit, 41 * SECOND);
        assert_eq!((third.exceeded, third.reset), (true, 19));
        assert!(!allowances.take("b", limit, 41 * SECOND).exceeded, "keys have allowances of their own");
        assert!(!allowances.take("a", limit, 60 * SECOND).exceeded);
    }
}
