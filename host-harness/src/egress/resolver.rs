//! Resolving names to addresses that may be connected to.
//!
//! What: the resolver of every tenant's client. It drops the addresses that [`super::addresses`] refuses and fails
//! when none is left; the client connects to what it is given, so the address checked is the address used.
//! Why: a check before, by a resolution of its own, would be undone by a name that answers differently the second
//! time.
//! Not guaranteed: nothing is cached and no answer is verified (no DNSSEC); the operating system's resolver is used.

use super::addresses;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Looks a name up: the operating system's resolver, or what a test or an embedding program puts in its place. What it
/// answers is checked all the same.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The resolver of one tenant.
pub(super) struct GuardedResolver {
    /// Names that an operator configured (a proxy, the target of a route): their addresses are not checked.
    trusted: BTreeSet<String>,
    /// Longest time for one lookup.
    patience: Duration,
    lookup: Lookup,
}

/// Why a name gave no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The resolver said no.
    #[error("cannot resolve {name}: {source}")]
    Failed {
        /// The name.
        name: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// It said that there are no addresses.
    #[error("{name} has no addresses")]
    Empty {
        /// The name.
        name: String,
    },
    /// It said nothing in time.
    #[error("no answer for {name} within {patience:?}")]
    TimedOut {
        /// The name.
        name: String,
        /// How long was waited.
        patience: Duration,
    },
    /// All addresses are refused.
    #[error("{name} resolves to {address}, which is refused: {why}; a route is the only way there")]
    Prohibited {
        /// The name.
        name: String,
        /// The first of its addresses.
        address: IpAddr,
        /// What range it is in.
        why: &'static str,
    },
}

impl GuardedResolver {
    /// A resolver that waits `patience` for an answer and does not check the addresses of `trusted` names.
    pub(super) fn new(trusted: BTreeSet<String>, patience: Duration, lookup: Lookup) -> Self {
        Self { trusted, patience, lookup }
    }
}

/// The operating system's resolver.
pub(crate) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            // The port is replaced by the client; 0 asks for nothing in particular.
            Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.map(|address| address.ip()).collect())
        })
    })
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let trusted = self.trusted.contains(&name);
        let patience = self.patience;
        let answer = (self.lookup)(name.clone());
        Box::pin(async move {
            let addresses = match tokio::time::timeout(patience, answer).await {
                Ok(Ok(addresses)) => addresses,
                Ok(Err(source)) => return Err(ResolveError::Failed { name, source }.into()),
                Err(_) => return Err(ResolveError::TimedOut { name, patience }.into()),
            };
            let allowed = if trusted { addresses } else { filter(&name, addresses)? };
            if allowed.is_empty() {
                return Err(ResolveError::Empty { name }.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// The addresses that may be connected to; fails when there were some and all are refused.
fn filter(name: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, ResolveError> {
    let first_refused = addresses.iter().find_map(|address| addresses::refusal(*address).map(|why| (*address, why)));
    let allowed: Vec<IpAddr> = addresses.into_iter().filter(|address| addresses::refusal(*address).is_none()).collect();
    match first_refused {
        Some((address, why)) if allowed.is_empty() => {
            Err(ResolveError::Prohibited { name: name.to_owned(), address, why })
        }
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(answer: &[&str], trusted: &[&str]) -> Result<Vec<IpAddr>, String> {
        let answer: Vec<IpAddr> = answer.iter().map(|text| text.parse().unwrap()).collect();
        let lookup: Lookup = Arc::new(move |_| {
            let answer = answer.clone();
            Box::pin(async move { Ok(answer) })
        });
        let trusted = trusted.iter().map(|name| (*name).to_owned()).collect();
        let resolver = GuardedResolver::new(trusted, Duration::from_secs(5), lookup);
        match resolver.resolve("api.example.com".parse().unwrap()).await {
            Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn refused_addresses_are_dropped_and_public_ones_kept() {
        let kept = resolve(&["10.0.0.1", "93.184.216.34", "::1"], &[]).await.unwrap();
        assert_eq!(kept, ["93.184.216.34".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_with_only_refused_addresses_fails_and_says_why() {
        let error = resolve(&["169.254.169.254", "127.0.0.1"], &[]).await.unwrap_err();
        assert!(error.contains("169.254.169.254") && error.contains("metadata"), "{error}");
        assert!(resolve(&[], &[]).await.unwrap_err().contains("no addresses"));
    }

    #[tokio::test]
    async fn only_names_an_operator_configured_are_not_checked() {
        assert_eq!(resolve(&["127.0.0.1"], &["api.example.com"]).await.unwrap().len(), 1);
        assert!(resolve(&["127.0.0.1"], &["proxy.example.com"]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_never_answers_is_given_up() {
        let lookup: Lookup = Arc::new(|_| Box::pin(std::future::pending()));
        let resolver = GuardedResolver::new(BTreeSet::new(), Duration::from_secs(5), lookup);
        let error = resolver.resolve("api.example.com".parse().unwrap()).await.err().unwrap();
        assert!(matches!(error.downcast_ref(), Some(ResolveError::TimedOut { .. })));
    }
}
