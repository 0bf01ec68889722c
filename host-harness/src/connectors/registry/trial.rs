//! The trial of a new version: what it has to show before it serves.
//!
//! What: it is loaded within a time limit, configures every live instance, stays within what the operator grants, and
//! completes a canary step.
//! Why compared with the version that serves: an instance whose settings or checkpoint are broken anyway must not keep
//! an update away, least of all the one that mends it. And where nothing serves yet, one instance's trouble must not
//! keep all others from being collected.
//! Not guaranteed: that compiling ends when its time is up, where it is not done in a process of its own; the thread is left to
//! itself then, and only so many are.

use super::super::apart::{Apart, ApartError, Compiled};
use super::super::connector::is_kept;
use super::super::serving::{LiveInstances, NotReady};
use super::super::{ConfigureError, Connector, LoadError, hex};
use super::canary::{Canary, canary};
use super::grant::Grant;
use super::home::Home;
use super::lock;
use super::pins::{Ceiling, NotGranted};
use super::trying::Trying;
use crate::contract::types;
use crate::egress::Redactor;
use crate::sandbox::{Engine, clean};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Components that are compiled at once, each by threads of its own. One uses all CPUs already; a second place keeps one
/// that compiles for ever from holding up the others.
pub(super) const COMPILERS: usize = 2;

/// What is left for describing, once a component is compiled in a process of its own.
const AFTER: Duration = Duration::from_secs(15);

/// Most bytes of a reason.
const REASON_BYTES: usize = 2048;

/// What speaks against a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Stable code.
    pub(super) code: &'static str,
    /// In one line.
    pub(super) reason: String,
}

/// Why a component was not loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotLoaded {
    /// It cannot run here, now or later.
    Never(Fault),
    /// It failed, or took too long.
    Failed(Fault),
    /// The host failed.
    Host(Fault),
}

/// How components are loaded.
pub(super) struct Loader {
    /// What they run on.
    pub(super) engine: Engine,
    /// Where compiled code is kept.
    pub(super) cache: PathBuf,
    /// Longest time from bytes to description.
    pub(super) time: Duration,
    /// How it is compiled in a process of its own, if it is.
    pub(super) apart: Option<Apart>,
    /// Places of [`COMPILERS`].
    pub(super) places: Arc<Semaphore>,
    /// Where it is written down what is being loaded.
    pub(super) home: Home,
    /// Digests of what is being loaded, what was abandoned but has not ended yet among them.
    pub(super) under_way: Arc<Mutex<BTreeSet<String>>>,
}

/// One component that is being loaded.
struct UnderWay {
    digest: String,
    all: Arc<Mutex<BTreeSet<String>>>,
    _record: Option<Trying>,
    _place: OwnedSemaphorePermit,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.digest);
    }
}

impl Loader {
    /// Loads a component. Polls go on meanwhile: compiling has threads of its own.
    pub(super) async fn load(&self, bytes: Vec<u8>) -> Result<Connector, NotLoaded> {
        self.load_one(bytes, false).await
    }

    /// The same for one that has proved itself on this machine: where this build of the host has compiled it before, a host
    /// that ends meanwhile has not ended over it.
    pub(super) async fn load_again(&self, bytes: Vec<u8>) -> Result<Connector, NotLoaded> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let looked = tokio::task::spawn_blocking(move || (is_kept(&engine, &bytes, &cache), bytes)).await;
        let host = |error: tokio::task::JoinError| {
            NotLoaded::Host(Fault { code: "host-error", reason: shown(&error.to_string()) })
        };
        let (is_kept, bytes) = looked.map_err(host)?;
        self.load_one(bytes, is_kept).await
    }

    /// `is_known`: it was compiled and described before, and is not to blame should the host end.
    async fn load_one(&self, bytes: Vec<u8>, is_known: bool) -> Result<Connector, NotLoaded> {
        let digest = hex(&Sha256::digest(&bytes));
        if lock(&self.under_way).contains(&digest) {
            // It was abandoned: of a content, one judgement at a time is under way. A second attempt would only take the
            // second place. When the first one ends well, its code is kept.
            let reason = "it is still being compiled since it was tried last".to_owned();
            return Err(NotLoaded::Failed(Fault { code: "compile-timeout", reason }));
        }
        let host = |reason: &str| NotLoaded::Host(Fault { code: "host-error", reason: reason.to_owned() });
        let place = tokio::time::timeout(self.time, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| host("other connectors are being compiled all the time"))?
            .map_err(|_| host("the host is shutting down"))?;
        let (engine, cache, time) = (self.engine.clone(), self.cache.clone(), self.time);
        // What is in the cache is not looked for there twice.
        let apart = self.apart.clone().filter(|_| !is_known);
        lock(&self.under_way).insert(digest.clone());
        let record = (!is_known).then(|| Trying::begin(&self.home, &digest));
        let under_way = UnderWay { digest, all: Arc::clone(&self.under_way), _record: record, _place: place };
        // A task of its own, so that the place stays taken for as long as the work goes on.
        let work = tokio::spawn(async move {
            let loaded = match compile_apart(apart, &engine, &bytes, &cache, time).await {
                Ok(()) => {
                    let loaded = Connector::from_bytes(&engine, bytes, Some(&cache)).await;
                    loaded.map_err(|error| not_loaded(&error))
                }
                Err(error) => Err(error),
            };
            drop(under_way);
            loaded
        });
        let most = if self.apart.is_some() { self.time.saturating_add(AFTER) } else { self.time };
        match tokio::time::timeout(most, work).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => Err(NotLoaded::Host(Fault { code: "host-error", reason: shown(&error.to_string()) })),
            Err(_) => {
                let reason = format!("it was not compiled and described within {:?}", self.time);
                Err(NotLoaded::Failed(Fault { code: "compile-timeout", reason }))
            }
        }
    }
}

/// Compiles a component in a process of its own, so that its code is in the cache, unless it is there already. Where no
/// process can be started, or nothing can be kept, it is left to this one.
async fn compile_apart(
    apart: Option<Apart>,
    engine: &Engine,
    bytes: &[u8],
    cache: &Path,
    within: Duration,
) -> Result<(), NotLoaded> {
    let Some(apart) = apart else { return Ok(()) };
    let (engine, bytes, cache) = (engine.clone(), bytes.to_vec(), cache.to_owned());
    let compiled = tokio::task::spawn_blocking(move || {
        if is_kept(&engine, &bytes, &cache) {
            Ok(Compiled::Kept)
        } else {
            apart.compile(&engine, bytes, &cache, within)
        }
    });
    let host = |reason: String| NotLoaded::Host(Fault { code: "host-error", reason: shown(&reason) });
    let error = match compiled.await.map_err(|error| host(error.to_string()))? {
        Ok(Compiled::Kept | Compiled::NotKept) => return Ok(()),
        Err(error) => error,
    };
    let reason = shown(&error.to_string());
    Err(match error {
        ApartError::Refused { code: "host-error", .. } | ApartError::Interrupted { .. } => host(reason),
        ApartError::Refused { code, .. } => NotLoaded::Never(Fault { code, reason }),
        ApartError::TimeUp { .. } => NotLoaded::Failed(Fault { code: "compile-timeout", reason }),
        ApartError::Ended { .. } => NotLoaded::Failed(Fault { code: "compile-ended", reason }),
        ApartError::Host(_) => {
            tracing::warn!("a component is compiled within the host, whose memory that may take: {reason}");
            return Ok(());
        }
    })
}

/// Tells what is wrong for good from what failed this time.
pub(super) fn not_loaded(error: &LoadError) -> NotLoaded {
    let fault = Fault { code: error.code(), reason: shown(&error.to_string()) };
    match error {
        LoadError::Describe(_) => NotLoaded::Failed(fault),
        LoadError::Host { .. } => NotLoaded::Host(fault),
        _ => NotLoaded::Never(fault),
    }
}

/// What a trial has found.
#[derive(Debug)]
pub(super) enum Finding {
    /// It may serve.
    Passed(Passed),
    /// It asks for more than is granted.
    Held {
        /// All it asks for.
        asked: Grant,
        /// What of that is not granted.
        why: NotGranted,
    },
    /// It failed.
    Failed(Fault),
}

/// A version that may serve.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// What its instances need, as far as it is granted.
    pub(super) asked: Grant,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
    /// The instances it was tried on, and whether each has a checkpoint.
    pub(super) instances: Vec<(Uuid, bool)>,
}

/// Tries a loaded version. `old` is what serves now.
pub(super) async fn prove(
    new: &Connector,
    old: Option<&Connector>,
    integration_type: &str,
    ceiling: &Ceiling,
    live: &dyn LiveInstances,
) -> Finding {
    let mut found = Passed::default();
    let mut sound = BTreeSet::new();
    let mut faults = Vec::new();
    let mut beyond = Grant::default();
    for id in live.ids(integration_type) {
        let instance = match live.ready(id, new).await {
            None => continue,
            Some(Ok(instance)) => instance,
            Some(Err(NotReady { id, name, has_checkpoint, failure })) => {
                found.instances.push((id, has_checkpoint));
                let text = shown(&format!("instance {name}: {}", failure.message));
                // A store that is in use, or a disk that does not answer, says nothing of any version.
                let is_of_host = failure.code == "host-error" || failure.code.starts_with("state-");
                let is_ready_for_old = match old {
                    Some(old) if !is_of_host => matches!(live.ready(id, old).await, Some(Ok(_))),
                    _ => false,
                };
                if is_ready_for_old {
                    return Finding::Failed(Fault { code: "invalid-settings", reason: text });
                }
                found.notes.push(text);
                continue;
            }
        };
        found.instances.push((instance.id, instance.has_checkpoint));
        let options = &instance.options;
        let redactor = Redactor::new(&options.secrets);
        let named = |what: &dyn Display| clean(&redactor, &format!("instance {}: {what}", options.name), REASON_BYTES);
        match new.configure_without(&options.settings, &redactor).await {
            Ok(plan) => {
                let asked = Grant::asked(new.descriptor(), &plan);
                match ceiling.check(new, &asked) {
                    Ok(()) => {
                        sound.insert(instance.id);
                        found.asked.add(&asked);
                        // The choices of one: trying those of thousands would take long, and lead nowhere else.
                        if sound.len() == 1 && ceiling.is_first(new) {
                            found.asked.go(&new.choices(&options.settings, &redactor).await);
                        }
                    }
                    Err(why) if was_admitted(old, &options.settings, &redactor, ceiling).await => {
                        beyond.add(&asked);
                        found.notes.push(named(&why));
                    }
                    Err(why) => found.notes.push(named(&why)),
                }
            }
            Err(error) => {
                let text = named(&error);
                let works_with_old = match old {
                    Some(old) => old.configure_without(&options.settings, &redactor).await.is_ok(),
                    None => false,
                };
                if works_with_old {
                    return Finding::Failed(Fault { code: error.code(), reason: text });
                }
                if old.is_none() && !matches!(error, ConfigureError::Fields(_)) {
                    faults.push(Fault { code: error.code(), reason: text.clone() });
                }
                found.notes.push(text);
            }
        }
    }
    if !beyond.origins.is_empty() && (old.is_some() || sound.is_empty()) {
        beyond.add(&found.asked);
        if let Err(why) = ceiling.check(new, &beyond) {
            return Finding::Held { asked: beyond, why };
        }
    }
    if let Some(fault) = faults.into_iter().next()
        && sound.is_empty()
    {
        return Finding::Failed(fault);
    }
    let mut instances = found.instances.clone();
    instances.retain(|(id, _)| sound.contains(id));
    match canary(new, old, ceiling, instances, live).await {
        Canary::Failed(fault) => return Finding::Failed(Fault { reason: shown(&fault.reason), ..fault }),
        Canary::Inconclusive(why) => {
            found.notes.push(format!("the canary step says nothing about it: {}", shown(&why)))
        }
        Canary::Worked => {}
    }
    Finding::Passed(found)
}

/// Whether what serves may have what it asks for with these settings; when nothing serves, nobody was refused yet.
async fn was_admitted(
    old: Option<&Connector>,
    settings: &[types::Setting],
    redactor: &Redactor,
    ceiling: &Ceiling,
) -> bool {
    let Some(old) = old else { return true };
    match old.configure_without(settings, redactor).await {
        Ok(plan) => ceiling.check(old, &Grant::asked(old.descriptor(), &plan)).is_ok(),
        Err(_) => false,
    }
}

/// A text from elsewhere as one harmless line.
pub(super) fn shown(text: &str) -> String {
    clean(&Redactor::default(), text, REASON_BYTES)
}
