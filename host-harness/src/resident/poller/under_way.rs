//! What is under way for an instance: a look at its files, a poll.
//!
//! Why guards: however it ends, by its result, given up or by a panic, nothing of it is left.
//! Not guaranteed: that only one poll of an instance is under way; whoever polls sees to that.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::Inner;
use crate::locks::lock;

/// Looks that are under way at most: more than there are polls at once, so that only file systems that do not answer use
/// them up, and half of the threads that the runtime has for what blocks.
const MOST_LOOKS: usize = 256;

/// A look at the files of an instance, for as long as it takes.
pub(super) struct Looking(Arc<Mutex<HashSet<Uuid>>>, Uuid);

impl Looking {
    /// Begins one, unless one is under way, or so many that threads have to be left for others.
    pub(super) fn begin(all: &Arc<Mutex<HashSet<Uuid>>>, id: Uuid) -> Option<Self> {
        let mut under_way = lock(all);
        (under_way.len() < MOST_LOOKS && under_way.insert(id)).then(|| Self(Arc::clone(all), id))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

/// A poll under way. What it leaves behind of an instance that was forgotten meanwhile, its credentials among it, is
/// forgotten when it ends, however it does.
pub(super) struct UnderWay<'a>(&'a Inner, Uuid);

impl<'a> UnderWay<'a> {
    pub(super) fn begin(inner: &'a Inner, id: Uuid) -> Self {
        lock(&inner.under_way).insert(id, false);
        Self(inner, id)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Self(inner, id) = self;
        if lock(&inner.under_way).remove(id) == Some(true) {
            inner.forget(*id);
        }
    }
}
