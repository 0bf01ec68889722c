//! Locks that a panic does not spoil.
//!
//! Why: what is behind the locks of the host is changed as a whole or not at all, so that a panic elsewhere has spoilt
//! nothing, and must not take down who comes next.
//! Not guaranteed: anything about locks whose content is changed in several steps; those are not to be taken with this.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is behind a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
