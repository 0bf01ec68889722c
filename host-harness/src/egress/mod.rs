//! Egress: the one way out of the sandbox.
//!
//! What: every HTTP request of a guest passes, in this order, the policy (one origin, its rules of method and
//! path prefix), the header rules, the caps of the step, the injection of credentials, and only then a transport of the
//! tenant's own. What comes back is capped and searched for secrets before the guest sees it.
//! Why: the guest is not trusted with a secret nor with the choice of whom to talk to; the host is the only party
//! that knows both, so one pipeline in one place decides.
//! Not guaranteed: a vendor that transforms a secret (hashes it, splits it, turns it round) and sends it back is not
//! recognised; and a forward proxy resolves names itself, so behind one the check of addresses is the proxy's.

pub mod addresses;
mod advice;
mod body;
mod errors;
mod gate;
mod headers;
mod hooks;
mod kept;
mod meter;
mod network;
mod policy;
mod redact;
mod refusals;
mod resolver;
mod routes;
mod scheme;
mod scrub;
mod secrets;
mod token;
mod undone;
mod way;

#[cfg(test)]
mod tests;

pub use gate::Gate;
pub use gate::GateOptions;
pub use hooks::Hooks;
pub use kept::renew_tokens;
pub use meter::Reception;
pub use meter::StepMeter;
pub use network::Network;
pub use network::NetworkError;
pub use network::NetworkOptions;
pub use policy::Denial;
pub use policy::Policy;
pub use redact::REDACTED;
pub use redact::Redactor;
pub use resolver::Lookup;
pub use routes::RouteError;
pub use routes::Routes;
pub use secrets::SecretError;
pub use secrets::Secrets;
pub use token::TokenOptions;
pub use token::TokenSource;

pub(crate) use headers::may_carry_credential;
pub(crate) use policy::ambiguity;
pub(crate) use policy::lies_below;
pub(crate) use resolver::system_lookup;
pub(crate) use routes::is_host_name;
