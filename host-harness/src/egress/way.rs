//! The way to one origin: where requests are really sent, and by which client.
//!
//! Why apart: what connectors reach and where the host gets tokens for them are reached in the same way, with the same
//! care about addresses, routes, proxies and authorities.
//! Not guaranteed: that anybody answers there.

use super::advice::Advice;
use super::network::{Network, NetworkError};
use super::policy::Policy;
use super::resolver::{GuardedResolver, Lookup};
use super::routes::Routes;
use crate::sandbox::Limits;
use http::HeaderValue;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The way to one origin. Clones share its connections.
#[derive(Clone)]
pub(super) struct Way {
    /// Where requests are really sent: the origin, or the route from it.
    pub(super) target: Url,
    /// The planned host, when a route leads elsewhere. Otherwise the client says it itself, from the URL.
    pub(super) host_header: Option<HeaderValue>,
    pub(super) client: reqwest::Client,
    /// What the operator can do when nothing gets through.
    pub(super) advice: Arc<Advice>,
}

impl Way {
    /// The way to the origin of a policy. Nothing is connected yet. The addresses of `trusted` names are not checked.
    ///
    /// # Errors
    /// When the proxy cannot be used, or the origin makes no URL.
    pub(super) fn to(
        policy: &Policy,
        routes: &Routes,
        network: &Network,
        limits: &Limits,
        lookup: Lookup,
        trusted: BTreeSet<String>,
    ) -> Result<Self, NetworkError> {
        let route = routes.target(policy.host());
        let wrong = |why: String| NetworkError::Client { why };
        let target = match route {
            Some(url) => url.clone(),
            None => Url::parse(&policy.origin()).map_err(|error| wrong(error.to_string()))?,
        };
        let authority = HeaderValue::from_str(&policy.authority()).map_err(|error| wrong(error.to_string()))?;
        let host_header = route.map(|_| authority);
        let proxy = network.proxy_url().filter(|_| route.is_none());
        let proxy = proxy.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
        let advice = Arc::new(Advice::new(policy.host(), proxy));
        let client = client(network, limits, route, lookup, trusted)?;
        Ok(Self { target, host_header, client, advice })
    }
}

/// The client of one tenant. Its pool of connections belongs to it alone.
fn client(
    network: &Network,
    limits: &Limits,
    route: Option<&Url>,
    lookup: Lookup,
    mut trusted: BTreeSet<String>,
) -> Result<reqwest::Client, NetworkError> {
    let mut builder = reqwest::Client::builder()
        // HTTP/2 takes the authority from the URL, which a route has changed; HTTP/1.1 takes the Host header we set.
        .tls_backend_preconfigured(network.tls(route.is_none())?)
        // A redirect is the guest's to see, and leads nowhere else: the policy would refuse another origin anyway.
        .redirect(reqwest::redirect::Policy::none())
        // Neither HTTPS_PROXY nor the like from the environment.
        .no_proxy()
        .connect_timeout(limits.connect_timeout)
        // Servers and load balancers commonly close idle connections after 60 seconds or more. Closing first avoids
        // sending into a connection that is being closed; polls are minutes apart, so nothing is lost.
        .pool_idle_timeout(limits.idle_timeout)
        .pool_max_idle_per_host(limits.requests_in_flight)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        // It is undone here, where more than one layer is noticed.
        .gzip(false)
        .user_agent(concat!("signal-client/", env!("CARGO_PKG_VERSION")));
    match route {
        Some(url) => {
            trusted.extend(url.host_str().map(str::to_owned));
            builder = builder.http1_only();
        }
        None => {
            if let Some((proxy, host)) = network.proxy()? {
                trusted.insert(host);
                builder = builder.proxy(proxy);
            }
        }
    }
    builder
        .dns_resolver(GuardedResolver::new(trusted, limits.dns_timeout, lookup))
        .build()
        .map_err(|error| NetworkError::Client { why: describe(&error) })
}

/// An error of the client with its causes, without the URL.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    if text.is_empty() { "the HTTP client failed".to_owned() } else { text }
}
