//! Resolving names to addresses that may be connected to.
//!
//! What: the resolver of every tenant's client. It drops the addresses that [`super::addresses`] refuses and fails
//! when none is left; the client connects to what it is given, so the address checked is the address used.
//! Why: a check before, by a resolution of its own, would be undone by a name that answers differently the second
//! time.
//! Why lookups are counted until they end: nobody can stop the operating system's, each of which keeps a thread of those
//! that all tenants share. Who owns a name can make it slow, and a connector can give up each request after a
//! millisecond; so requests for one name wait for one lookup, and a tenant has [`OF_ONE`] at most, however many it gave up.
//! Not guaranteed: nothing is kept once it was answered, and no answer is verified (no DNSSEC); the operating system's
//! resolver is used. Some dozens of tenants that all have slow names make others wait for theirs.

use super::addresses;
use crate::locks::lock;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Looks a name up: the operating system's resolver, or what a test or an embedding program puts in its place. What it
/// answers is checked all the same.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Most lookups of one tenant that have not ended: one, and another where the first takes longer than anybody waits.
const OF_ONE: usize = 2;

/// Most lookups of all tenants that have not ended: an eighth of the threads there are for such work.
const OF_ALL: usize = 64;

/// Places for the lookups of all tenants.
static ALL: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(OF_ALL)));

/// What a lookup comes to, for all who wait for it.
type Answer = Shared<BoxFuture<'static, Result<Vec<IpAddr>, Arc<std::io::Error>>>>;

/// The resolver of one tenant.
pub(super) struct GuardedResolver {
    /// Names that an operator configured (a proxy, the target of a route): their addresses are not checked.
    trusted: BTreeSet<String>,
    /// Longest time for one lookup.
    patience: Duration,
    lookups: Arc<Lookups>,
}

/// The lookups of one tenant.
struct Lookups {
    lookup: Lookup,
    /// After this time another lookup of a name is begun.
    patience: Duration,
    /// Places for them.
    own: Arc<Semaphore>,
    /// The latest of each name, and when it was begun.
    latest: Mutex<HashMap<String, (Instant, Answer)>>,
}

impl Lookups {
    /// The addresses of a name, from a lookup that is under way or a new one.
    async fn find(&self, name: &str) -> Result<Vec<IpAddr>, Arc<std::io::Error>> {
        match self.under_way(name) {
            Some(answer) => answer.await,
            None => self.begin(name).await?.await,
        }
    }

    /// A lookup of this name that somebody has begun and that may still be answered in time.
    fn under_way(&self, name: &str) -> Option<Answer> {
        let latest = lock(&self.latest);
        let (begun, answer) = latest.get(name)?;
        (answer.peek().is_none() && begun.elapsed() < self.patience).then(|| answer.clone())
    }

    /// Waits for a place and begins a lookup, unless somebody has meanwhile.
    async fn begin(&self, name: &str) -> Result<Answer, Arc<std::io::Error>> {
        let closed = |error| Arc::new(std::io::Error::other(error));
        let own = Arc::clone(&self.own).acquire_owned().await.map_err(closed)?;
        let all = Arc::clone(&ALL).acquire_owned().await.map_err(closed)?;
        if let Some(answer) = self.under_way(name) {
            return Ok(answer);
        }
        let lookup = (self.lookup)(name.to_owned());
        // A task of its own, so that the places stay taken until the lookup ends, whoever still waits for it.
        let work = tokio::spawn(async move {
            let found = lookup.await.map_err(Arc::new);
            drop((own, all));
            found
        });
        let answer: BoxFuture<'static, _> =
            Box::pin(async move { work.await.unwrap_or_else(|error| Err(Arc::new(std::io::Error::other(error)))) });
        let answer = answer.shared();
        lock(&self.latest).insert(name.to_owned(), (Instant::now(), answer.clone()));
        Ok(answer)
    }
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
        source: Arc<std::io::Error>,
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
        let lookups =
            Lookups { lookup, patience, own: Arc::new(Semaphore::new(OF_ONE)), latest: Mutex::new(HashMap::new()) };
        Self { trusted, patience, lookups: Arc::new(lookups) }
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
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            let addresses = match tokio::time::timeout(patience, lookups.find(&name)).await {
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

    /// A lookup that takes a minute and cannot be stopped, and how many of them have not ended.
    fn slow() -> (Lookup, Arc<Semaphore>, Arc<std::sync::atomic::AtomicUsize>) {
        let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let ended = Arc::new(Semaphore::new(0));
        let (count, end) = (Arc::clone(&begun), Arc::clone(&ended));
        let lookup: Lookup = Arc::new(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let end = Arc::clone(&end);
            let work = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_mins(1)).await;
                end.add_permits(1);
                vec![IpAddr::from([93, 184, 216, 34])]
            });
            Box::pin(async move { work.await.map_err(std::io::Error::other) })
        });
        (lookup, ended, begun)
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_that_nobody_waits_for_count_until_they_end() {
        let (lookup, ended, begun) = slow();
        let resolver = GuardedResolver::new(BTreeSet::new(), Duration::from_secs(5), lookup);
        let unfinished = || begun.load(std::sync::atomic::Ordering::Relaxed) - ended.available_permits();
        for _ in 0..500 {
            let asked = resolver.resolve("api.example.com".parse().unwrap());
            assert!(tokio::time::timeout(Duration::from_millis(30), asked).await.is_err());
            assert!(unfinished() <= OF_ONE, "{}", unfinished());
        }
        assert_eq!(unfinished(), OF_ONE, "another was begun when the first took too long");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_the_same_name_at_once_shares_one_lookup() {
        let (lookup, _, begun) = slow();
        let resolver = GuardedResolver::new(BTreeSet::new(), Duration::from_mins(2), lookup);
        let asked = (0..50).map(|_| resolver.resolve("api.example.com".parse().unwrap()));
        for answer in futures::future::join_all(asked).await {
            assert_eq!(answer.map_err(|error| error.to_string()).unwrap().count(), 1);
        }
        assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 1);
        // What was answered is not kept.
        assert!(resolver.resolve("api.example.com".parse().unwrap()).await.is_ok());
        assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}
