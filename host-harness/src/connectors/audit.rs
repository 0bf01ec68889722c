//! The audit of a component before it is compiled.
//!
//! What: what the bytes are, what they import and export and in which versions, compared with closed lists.
//! Why before: compiling untrusted code is the expensive part, and linking would only say that something is missing,
//! not what and why.
//! Not guaranteed: that functions and types fit; that is seen when the compiled component meets the linker.

use super::error::LoadError;
use crate::sandbox::ALLOWED_IMPORTS;
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

/// The versions of `witfoo:signal-connector` that this host takes.
pub(super) const ACCEPTED_CONTRACT: &str = "0.1.x";

/// The versions of the WASI interfaces that this host has.
const ACCEPTED_WASI: &str = "0.2.x";

/// The interfaces of the contract that this host knows.
const KNOWN: [&str; 4] = ["connector", "log", "sign-in", "types"];

/// What a sound component says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Audit {
    /// Interfaces it imports, with versions, in order.
    pub(super) imports: Vec<String>,
    /// What it exports, with versions, in order.
    pub(super) exports: Vec<String>,
    /// Version of the contract that it exports, for example `0.1.0`.
    pub(super) contract: String,
    /// Whether it exports `sign-in`.
    pub(super) signs_in: bool,
}

/// Names of interfaces, with versions, in order: all that an audit judges by. Kept with compiled code, because reading them
/// takes as long as everything else of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    /// What it imports.
    imports: Vec<String>,
    /// What it exports.
    exports: Vec<String>,
}

/// Tells what is no component at all from what may be one.
///
/// # Errors
/// What it is instead.
pub(super) fn recognise(bytes: &[u8]) -> Result<(), LoadError> {
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(b"\0asm"), Some([0x0d, 0, 1, 0])) => Ok(()),
        (Some(b"\0asm"), Some([1, 0, 0, 0])) => Err(LoadError::CoreModule),
        (Some(b"\0asm"), _) => {
            Err(LoadError::Corrupt { why: "its header names a binary format that is not known".to_owned() })
        }
        _ => Err(LoadError::NotWasm),
    }
}

/// Reads what a component imports and exports.
///
/// Why not as WIT: packages that use each other in a circle are no valid WIT, but a component can say so, and a reader of
/// WIT may then never come to an end, which would take the whole host with it. Names are all that is needed.
///
/// # Errors
/// What is wrong with its bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Names, LoadError> {
    recognise(bytes)?;
    let corrupt = |error: wasmparser::BinaryReaderError| LoadError::Corrupt { why: error.to_string() };
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut within = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(corrupt)?;
        validator.payload(&payload).map_err(corrupt)?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => within = within.saturating_add(1),
            Payload::End(_) => within = within.saturating_sub(1),
            Payload::ComponentImportSection(section) if within == 0 => {
                for import in section {
                    imports.push(import.map_err(corrupt)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if within == 0 => {
                for export in section {
                    exports.push(export.map_err(corrupt)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    imports.sort();
    exports.sort();
    Ok(Names { imports, exports })
}

/// Audits a component by the names that were read from it.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn audit(names: Names) -> Result<Audit, LoadError> {
    let Names { imports, exports } = names;
    // Another version of the contract explains every other difference, so it is named first.
    for name in exports.iter().chain(&imports) {
        let (interface, version) = split(name);
        let Some(own) = interface.strip_prefix("witfoo:signal-connector/") else { continue };
        if !version.is_some_and(|v| is_within(v, ACCEPTED_CONTRACT)) {
            return Err(LoadError::ContractVersion { found: name.clone() });
        }
        // It counts on something that a later host does for it, and nobody would notice that this one does not.
        if !KNOWN.contains(&own) {
            return Err(LoadError::ContractInterface { found: name.clone() });
        }
    }
    for import in &imports {
        let (interface, version) = split(import);
        if !ALLOWED_IMPORTS.contains(&interface) {
            return Err(LoadError::ForbiddenImport { import: import.clone() });
        }
        if interface.starts_with("wasi:") && !version.is_some_and(|v| is_within(v, ACCEPTED_WASI)) {
            return Err(LoadError::ImportVersion { import: import.clone(), accepted: ACCEPTED_WASI });
        }
    }
    let contract = exports.iter().map(|name| split(name)).find_map(|(interface, version)| {
        (interface == "witfoo:signal-connector/connector").then_some(version).flatten().map(str::to_owned)
    });
    match contract {
        Some(contract) => {
            let signs_in = exports.iter().any(|name| split(name).0 == "witfoo:signal-connector/sign-in");
            Ok(Audit { imports, exports, contract, signs_in })
        }
        None => Err(LoadError::NotAConnector { exports }),
    }
}

/// Interface and version of `package:name/interface@version`.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((interface, version)) => (interface, Some(version)),
        None => (name, None),
    }
}

/// Whether a version lies within `MAJOR.MINOR.x`.
fn is_within(version: &str, accepted: &str) -> bool {
    let Some(prefix) = accepted.strip_suffix('x') else {
        return false;
    };
    version
        .strip_prefix(prefix)
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::component;
    use super::*;

    fn audit(bytes: &[u8]) -> Result<Audit, LoadError> {
        super::audit(read(bytes)?)
    }

    fn verdict(bytes: &[u8]) -> (&'static str, String) {
        let error = audit(bytes).unwrap_err();
        (error.code(), error.to_string())
    }

    fn component_with(imports: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {imports})")).unwrap()
    }

    #[test]
    fn a_connector_passes_and_is_listed() {
        let audit = audit(&component()).unwrap();
        assert_eq!(audit.contract, "0.1.0");
        assert!(audit.exports.iter().any(|name| name == "witfoo:signal-connector/connector@0.1.0"), "{audit:?}");
        assert!(audit.imports.iter().all(|name| ALLOWED_IMPORTS.contains(&split(name).0)), "{audit:?}");
    }

    #[test]
    fn what_is_no_component_is_told_apart() {
        assert_eq!(verdict(b"").0, "component-not-wasm");
        assert_eq!(verdict(b"#!/bin/sh\n").0, "component-not-wasm");
        assert_eq!(verdict(b"\0as").0, "component-not-wasm");
        assert_eq!(verdict(&wat::parse_str("(module)").unwrap()).0, "component-core-module");
        assert_eq!(verdict(b"\0asm\x0a\0\x01\0").0, "component-corrupt");
        assert_eq!(verdict(&wat::parse_str("(component)").unwrap()).0, "component-not-a-connector");
    }

    #[test]
    fn a_component_cut_off_or_changed_anywhere_is_corrupt_and_never_panics() {
        let whole = component();
        for length in (8..whole.len()).step_by(97) {
            assert!(audit(&whole[..length]).is_err(), "cut at {length}");
        }
        for at in (8..whole.len()).step_by(31) {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            let _ = audit(&changed);
        }
    }

    #[test]
    fn imports_beyond_the_list_are_named_with_what_is_allowed() {
        for import in [
            "wasi:filesystem/preopens@0.2.12",
            "wasi:sockets/tcp@0.2.12",
            "wasi:random/random@0.2.12",
            "acme:other/thing@1.0.0",
        ] {
            let (code, text) = verdict(&component_with(&format!(r#"(import "{import}" (instance))"#)));
            assert_eq!(code, "component-forbidden-import");
            assert!(text.contains(import) && text.contains("wasi:http/outgoing-handler"), "{text}");
        }
        let (code, text) = verdict(&component_with(r#"(import "wasi:clocks/wall-clock@0.3.0" (instance))"#));
        assert_eq!(code, "component-import-version");
        assert!(text.contains("0.2.x"), "{text}");
    }

    #[test]
    fn what_brings_a_forbidden_import_in_is_named_where_it_is_known() {
        for (import, brings) in [
            ("wasi:filesystem/preopens@0.2.12", "not get (std::fs, or a dependency that uses files, brings it in); "),
            ("wasi:sockets/tcp@0.2.12", "not get (std::net, "),
            ("wasi:random/random@0.2.12", "not get (a dependency that wants random numbers"),
            ("acme:other/thing@1.0.0", "not get; allowed are "),
        ] {
            let (_, text) = verdict(&component_with(&format!(r#"(import "{import}" (instance))"#)));
            assert!(text.contains(brings), "{text}");
        }
    }

    #[test]
    fn another_contract_version_is_named_before_all_else() {
        let text = r#"(component
            (import "wasi:filesystem/preopens@0.2.12" (instance))
            (instance $nothing)
            (export "witfoo:signal-connector/connector@0.2.0" (instance $nothing)))"#;
        let (code, text) = verdict(&wat::parse_str(text).unwrap());
        assert_eq!(code, "component-contract-version");
        assert!(text.contains("@0.2.0") && text.contains("0.1.x"), "{text}");
    }

    #[test]
    fn an_interface_of_a_later_patch_is_refused_and_named() {
        let text = r#"(component
            (instance $nothing)
            (export "witfoo:signal-connector/connector@0.1.7" (instance $nothing))
            (export "witfoo:signal-connector/telepathy@0.1.7" (instance $nothing)))"#;
        let (code, text) = verdict(&wat::parse_str(text).unwrap());
        assert_eq!(code, "component-contract-version");
        assert!(text.contains("/telepathy@0.1.7") && text.contains("a later version of this host"), "{text}");
    }

    #[test]
    fn a_component_of_another_world_says_what_it_exports() {
        let text = r#"(component (instance $nothing) (export "wasi:cli/run@0.2.0" (instance $nothing)))"#;
        let (code, text) = verdict(&wat::parse_str(text).unwrap());
        assert_eq!(code, "component-not-a-connector");
        assert!(text.contains("wasi:cli/run@0.2.0"), "{text}");
    }

    #[test]
    fn only_patches_of_the_accepted_minor_version_are_within_it() {
        for good in ["0.1.0", "0.1.12"] {
            assert!(is_within(good, "0.1.x"), "{good}");
        }
        for bad in ["0.1", "0.1.", "0.2.0", "0.10.0", "0.1.0-rc.1", "1.1.0", ""] {
            assert!(!is_within(bad, "0.1.x"), "{bad}");
        }
    }
}
