//! As many open files as this process may have.
//!
//! Why: systems commonly begin with 1,024, for the sake of programs that use `select`. A host with hundreds of tenants has
//! several connections for each that is being polled, and would fail for no reason that an operator could see.
//! Not guaranteed: more than the hard limit, which only the system raises.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the hard one.
pub(super) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!("open files: up to {maximum:?} instead of {current:?}"),
        Err(error) => tracing::debug!("open files: up to {current:?}, and no more: {error}"),
    }
}
