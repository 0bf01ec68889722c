//! Why a connector is not loaded, not configured, or not given to a tenant.
//!
//! Why: these reach an operator as they are, so each names what is wrong, where, and what would be right.
//! Not guaranteed: texts may be reworded; codes may not.

use super::audit::ACCEPTED_CONTRACT;
use super::faults::Faults;
use super::registry::NotGranted;
use crate::contract::types;
use crate::egress::NetworkError;
use crate::sandbox::{ALLOWED_IMPORTS, StepError};
use std::path::PathBuf;

/// Why a file is not a connector that can be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// It is too big.
    #[error("the component has {size} bytes; at most {limit} are allowed")]
    TooBig {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// It is something else altogether.
    #[error("this is not WebAssembly: it does not begin with the bytes of a .wasm file")]
    NotWasm,
    /// It is a module and not a component.
    #[error(
        "this is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// It is a component that cannot be read or compiled.
    #[error("the component is corrupt: {why}")]
    Corrupt {
        /// What is wrong with it.
        why: String,
    },
    /// It demands more of the engine than one component may have.
    #[error("the component demands more than the {limit}{unit} {}{what} that one may have", if unit.is_empty() { "" } else { "of " })]
    TooDemanding {
        /// Of what.
        what: &'static str,
        /// The unit of the limit with a space before it, or nothing.
        unit: &'static str,
        /// How much one may have.
        limit: usize,
    },
    /// It imports what connectors do not get.
    #[error(
        "the component imports {import}, which connectors do not get{}; allowed are {}",
        brought_by(import),
        ALLOWED_IMPORTS.join(", ")
    )]
    ForbiddenImport {
        /// What it imports.
        import: String,
    },
    /// It imports a version of an allowed interface that this host does not have.
    #[error("the component imports {import}; this host has it in versions {accepted}")]
    ImportVersion {
        /// What it imports.
        import: String,
        /// The accepted versions.
        accepted: &'static str,
    },
    /// It is made for another version of the contract.
    #[error("the component is made for {found}; this host accepts witfoo:signal-connector {ACCEPTED_CONTRACT}")]
    ContractVersion {
        /// What it imports or exports.
        found: String,
    },
    /// It is made for a later patch of the contract, which has an interface more.
    #[error(
        "the component has {found}, an interface that this host does not know; it needs a later version of this host"
    )]
    ContractInterface {
        /// What it imports or exports.
        found: String,
    },
    /// It is a component, but not a connector.
    #[error(
        "the component does not export witfoo:signal-connector/connector ({ACCEPTED_CONTRACT}); it exports {}",
        if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") }
    )]
    NotAConnector {
        /// What it exports.
        exports: Vec<String>,
    },
    /// Names are right, but functions or types are not.
    #[error("the component does not fit this host's interfaces: {why}")]
    Mismatch {
        /// What does not fit.
        why: String,
    },
    /// It failed to describe itself.
    #[error("the connector cannot describe itself: {0}")]
    Describe(StepError),
    /// What it says of itself breaks the contract.
    #[error("the connector describes itself wrongly: {0}")]
    Descriptor(Faults),
    /// The host failed.
    #[error("the component could not be loaded: {why}")]
    Host {
        /// Why.
        why: String,
    },
}

impl LoadError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "component-unreadable",
            Self::TooBig { .. } => "component-too-big",
            Self::NotWasm => "component-not-wasm",
            Self::CoreModule => "component-core-module",
            Self::Corrupt { .. } => "component-corrupt",
            Self::TooDemanding { .. } => "component-too-demanding",
            Self::ForbiddenImport { .. } => "component-forbidden-import",
            Self::ImportVersion { .. } => "component-import-version",
            Self::ContractVersion { .. } | Self::ContractInterface { .. } => "component-contract-version",
            Self::NotAConnector { .. } => "component-not-a-connector",
            Self::Mismatch { .. } => "component-mismatch",
            Self::Describe(_) => "component-describe",
            Self::Descriptor(_) => "component-descriptor",
            Self::Host { .. } => "host-error",
        }
    }
}

impl LoadError {
    /// A code that came as a text, as one of [`LoadError::code`].
    #[must_use]
    pub fn known_code(text: &str) -> &'static str {
        const CODES: [&str; 12] = [
            "component-unreadable",
            "component-too-big",
            "component-not-wasm",
            "component-core-module",
            "component-too-demanding",
            "component-forbidden-import",
            "component-import-version",
            "component-contract-version",
            "component-not-a-connector",
            "component-mismatch",
            "component-corrupt",
            "host-error",
        ];
        CODES.into_iter().find(|code| *code == text).unwrap_or("component-corrupt")
    }
}

/// Why settings make no plan.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// The connector says which settings are wrong. Keys and messages are cleaned.
    #[error("the settings are not valid: {}", list(.0))]
    Fields(Vec<types::FieldError>),
    /// The call itself failed.
    #[error("the connector cannot configure itself: {0}")]
    Step(StepError),
    /// What the connector plans breaks the contract.
    #[error("the connector makes a plan that breaks the contract: {0}")]
    Plan(Faults),
}

impl ConfigureError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fields(_) => "invalid-settings",
            Self::Step(error) => error.code(),
            Self::Plan(_) => "plan-invalid",
        }
    }
}

/// `key: message`, joined by semicolons.
fn list(errors: &[types::FieldError]) -> String {
    errors.iter().map(|error| format!("{}: {}", error.key, error.message)).collect::<Vec<_>>().join("; ")
}

/// Why a tenant cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// Its name is not one.
    #[error(
        "the name of an instance must be 1 to 64 characters without control characters and without space at the ends"
    )]
    Name,
    /// Its settings make no plan.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// A secret that the connector needs is not there.
    #[error("the secret {key} ({label}) is missing")]
    MissingSecret {
        /// Key of the setting.
        key: String,
        /// Its label in the form.
        label: String,
    },
    /// A secret that the connector does not know.
    #[error("{key} is not a secret of this connector; its secrets are {known}")]
    UnknownSecret {
        /// The key given.
        key: String,
        /// The keys there are.
        known: String,
    },
    /// A secret was given as an ordinary setting.
    #[error("{key} is a secret; give it as one, never among the settings")]
    SecretAmongSettings {
        /// Key of the setting.
        key: String,
    },
    /// A secret cannot be sent in the form that the connector says.
    #[error("the secret {key} ({label}) {why}")]
    SecretForm {
        /// Key of the setting.
        key: String,
        /// Its label in the form.
        label: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The plan is plain HTTP, and no route allows it.
    #[error("the connector plans plain http for {host}; a route for it must be given to allow that")]
    PlainHttp {
        /// The planned host.
        host: String,
    },
    /// The operator has not granted what it plans.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// The network cannot be set up.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl TenantError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name => "instance-name",
            Self::Configure(error) => error.code(),
            Self::MissingSecret { .. } => "secret-missing",
            Self::UnknownSecret { .. } => "secret-unknown",
            Self::SecretAmongSettings { .. } => "secret-among-settings",
            Self::SecretForm { .. } => "secret-form",
            Self::PlainHttp { .. } => "plan-plain-http",
            Self::NotGranted(error) => error.code(),
            Self::Network(error) => error.code(),
        }
    }
}

/// What of Rust brings a forbidden import in, where that is known: authors look for it in vain in what they wrote.
fn brought_by(import: &str) -> &'static str {
    let is_of = |package: &str| import.starts_with(package);
    if is_of("wasi:filesystem/") {
        " (std::fs, or a dependency that uses files, brings it in)"
    } else if is_of("wasi:sockets/") {
        " (std::net, or a dependency that opens connections itself, brings it in; requests go through wasi:http)"
    } else if is_of("wasi:random/") {
        " (a dependency that wants random numbers, such as getrandom, brings it in; a HashMap does not)"
    } else {
        ""
    }
}
