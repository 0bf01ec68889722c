//! What the operator of this host can do about a request that did not get through.
//!
//! Why here: a connector is told what happened in the words of `wasi:http`, and tells its user; it knows nothing of this
//! host's proxy and authorities. Without a line of the host's own, a proxy that is down looks like a vendor that is.
//! Not guaranteed: that it is the proxy, or an inspection of TLS, that is at fault.

use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime_wasi_http::Error;

/// Gives advice once, until a request gets through again.
pub(super) struct Advice {
    /// The planned host.
    host: String,
    /// The proxy that requests take, without user and password.
    proxy: Option<String>,
    given: AtomicBool,
}

impl Advice {
    /// For requests to a host, through this proxy if there is one.
    pub(super) fn new(host: &str, proxy: Option<String>) -> Self {
        Self { host: host.to_owned(), proxy, given: AtomicBool::new(false) }
    }

    /// A request got through.
    pub(super) fn got_through(&self) {
        self.given.store(false, Ordering::Relaxed);
    }

    /// What there is to do about a failure, if anything, unless it was said before. `connecting` tells whether it was one
    /// of connecting.
    pub(super) fn about(&self, error: &Error, connecting: bool) -> Option<String> {
        let host = &self.host;
        let text = match error {
            Error::TlsCertificateError => format!(
                "the certificate that answers for {host} is not trusted: if TLS is inspected on the way, name the authority that does in \
                 extra_ca_files of [host] (for commands without a configuration: --ca-file)"
            ),
            _ if connecting => {
                let proxy = self.proxy.as_ref()?;
                format!(
                    "{host} is not reached through the proxy {proxy}: see that it runs and lets requests to it through"
                )
            }
            _ => return None,
        };
        (!self.given.swap(true, Ordering::Relaxed)).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_once_until_a_request_gets_through() {
        let advice = Advice::new("api.example.com", Some("proxy.example:3128".into()));
        assert_eq!(advice.about(&Error::ConnectionTerminated, false), None);
        let text = advice.about(&Error::ConnectionRefused, true).unwrap();
        assert!(text.contains("through the proxy proxy.example:3128"), "{text}");
        assert_eq!(advice.about(&Error::ConnectionRefused, true), None);
        advice.got_through();
        assert!(advice.about(&Error::TlsCertificateError, true).unwrap().contains("extra_ca_files"));
        assert_eq!(Advice::new("api.example.com", None).about(&Error::ConnectionRefused, true), None);
    }
}
