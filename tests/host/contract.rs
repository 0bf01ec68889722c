//! The contract: what `wit/` says, and that the built component keeps to it.
//!
//! The packages under `wit/deps` are the vendored `wasi` packages 0.2.12, unmodified; only their versions are looked
//! at here.

use std::path::Path;

use wasmtime::component::wit_parser::decoding::{DecodedWasm, decode};
use wasmtime::component::wit_parser::{
    Docs, InterfaceId, PackageId, Resolve, Stability, Type, TypeDef, TypeDefKind, TypeOwner, WorldId,
};

/// The largest component: somewhat more than it has; `budgets.toml` is tighter.
const MOST_BYTES: u64 = 745_000;

/// What the world grants: HTTP to the planned origin, two clocks, a log, and what those are made of.
const WORLD_IMPORTS: [&str; 9] = [
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:http/outgoing-handler@0.2.12",
    "wasi:http/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
    "witfoo:signal-connector/log@0.1.1",
    "witfoo:signal-connector/types@0.1.1",
];

/// What a language's standard library may import besides, as the world's documentation says. Hosts give empty or
/// discarding ones.
const LIBRARY_IMPORTS: [&str; 11] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:random/insecure-seed",
];

/// All that a connector exports.
const EXPORTS: [&str; 1] = ["witfoo:signal-connector/connector@0.1.1"];

/// The contract as written.
fn contract() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("wit")).unwrap();
    (resolve, package)
}

/// The world of the built component.
fn component() -> (Resolve, WorldId) {
    match decode(&std::fs::read(crate::common::host::connector()).unwrap()).unwrap() {
        DecodedWasm::Component(resolve, world) => (resolve, world),
        DecodedWasm::WitPackage(..) => panic!("a WIT package and no component"),
    }
}

/// What a world imports and exports, sorted.
fn boundary(resolve: &Resolve, world: WorldId) -> (Vec<String>, Vec<String>) {
    let world = &resolve.worlds[world];
    let mut imports: Vec<String> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    let mut exports: Vec<String> = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    imports.sort();
    exports.sort();
    (imports, exports)
}

/// The types that an interface defines itself, without those it only uses.
fn own_types(resolve: &Resolve, interface: InterfaceId) -> impl Iterator<Item = (&str, &TypeDef)> {
    resolve.interfaces[interface].types.iter().map(|(name, id)| (name.as_str(), &resolve.types[*id])).filter(
        move |(_, one)| match one.kind {
            TypeDefKind::Type(Type::Id(other)) => resolve.types[other].owner == TypeOwner::Interface(interface),
            _ => true,
        },
    )
}

/// Says what an item lacks. What is later than the first version is told by its interface or world.
fn lacking(found: &mut Vec<String>, name: &str, docs: &Docs, stability: &Stability) {
    let is_later = name.starts_with("sign-in") || name.starts_with("signing-in");
    let since_when = if is_later { "0.1.1" } else { "0.1.0" };
    if docs.contents.as_ref().is_none_or(|text| text.trim().len() < 8) {
        found.push(format!("{name} has no documentation"));
    }
    match stability {
        Stability::Stable { since, .. } if since.to_string() == since_when => {}
        _ => found.push(format!("{name} has no @since of a version there is")),
    }
}

#[test]
fn everything_in_the_contract_is_documented_and_says_since_when_it_is_there() {
    let (resolve, package) = contract();
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for (name, id) in &resolve.packages[package].interfaces {
        let interface = &resolve.interfaces[*id];
        lacking(&mut found, name, &interface.docs, &interface.stability);
        for (function_name, function) in &interface.functions {
            lacking(&mut found, &format!("{name}.{function_name}"), &function.docs, &function.stability);
            seen.push(function_name.clone());
        }
        for (type_name, one) in own_types(&resolve, *id) {
            lacking(&mut found, &format!("{name}.{type_name}"), &one.docs, &one.stability);
            seen.push(type_name.to_owned());
        }
    }
    for (name, id) in &resolve.packages[package].worlds {
        let world = &resolve.worlds[*id];
        lacking(&mut found, name, &world.docs, &world.stability);
    }
    assert_eq!(found, Vec::<String>::new());
    // The walk has come by what there is.
    for name in [
        "describe",
        "configure",
        "check",
        "poll",
        "write",
        "descriptor",
        "plan",
        "batch",
        "failure-reason",
        "methods",
        "client-credentials",
    ] {
        assert!(seen.iter().any(|one| one == name), "{name} is not among {seen:?}");
    }
}

#[test]
fn every_number_in_the_contract_says_its_range_or_unit() {
    let (resolve, package) = contract();
    let is_number = |of: &Type| match of {
        Type::Id(id) => match resolve.types[*id].kind {
            TypeDefKind::Option(inner) => !matches!(inner, Type::Id(_) | Type::Bool | Type::String | Type::Char),
            _ => false,
        },
        Type::Bool | Type::String | Type::Char | Type::ErrorContext => false,
        _ => true,
    };
    let mut undocumented = Vec::new();
    let mut numbers = 0;
    for (_, id) in &resolve.packages[package].interfaces {
        for (type_name, one) in own_types(&resolve, *id) {
            let TypeDefKind::Record(record) = &one.kind else { continue };
            for field in record.fields.iter().filter(|field| is_number(&field.ty)) {
                numbers += 1;
                // The range is the type's own meaning.
                if type_name != "integer-range" && field.docs.contents.is_none() {
                    undocumented.push(format!("{type_name}.{}", field.name));
                }
            }
        }
    }
    assert_eq!(undocumented, Vec::<String>::new());
    assert!(numbers > 8, "{numbers} numbers were looked at");
}

#[test]
fn the_world_imports_http_clocks_and_a_log_and_exports_the_connector() {
    let (resolve, package) = contract();
    assert_eq!(resolve.packages[package].name.to_string(), "witfoo:signal-connector@0.1.1");
    let worlds: Vec<&String> = resolve.packages[package].worlds.keys().collect();
    assert_eq!(worlds, ["signal-connector", "signing-in-connector"]);
    let (imports, exports) = boundary(&resolve, resolve.packages[package].worlds["signal-connector"]);
    assert_eq!(imports, WORLD_IMPORTS);
    assert_eq!(exports, EXPORTS);
    let (imports, exports) = boundary(&resolve, resolve.packages[package].worlds["signing-in-connector"]);
    assert_eq!(imports, WORLD_IMPORTS);
    assert_eq!(exports, [EXPORTS[0], "witfoo:signal-connector/sign-in@0.1.1"]);
    for (_, one) in resolve.packages.iter() {
        if one.name.namespace == "wasi" {
            assert_eq!(one.name.version.as_ref().map(ToString::to_string).as_deref(), Some("0.2.12"), "{}", one.name);
        }
    }
}

#[test]
fn the_component_imports_nothing_beyond_the_closed_list_and_exports_the_connector_alone() {
    let (resolve, world) = component();
    let (imports, exports) = boundary(&resolve, world);
    for import in &imports {
        let interface = import.split('@').next().unwrap();
        let granted = WORLD_IMPORTS.iter().any(|one| one.split('@').next() == Some(interface));
        assert!(granted || LIBRARY_IMPORTS.contains(&interface), "{import} is on no list");
    }
    assert!(imports.iter().any(|import| import.starts_with("wasi:http/outgoing-handler@")), "{imports:?}");
    assert_eq!(exports, EXPORTS);
}

#[test]
fn the_closed_list_is_what_the_host_gives_and_the_worlds_documentation_names() {
    let mut listed: Vec<&str> = WORLD_IMPORTS.iter().filter_map(|one| one.split('@').next()).collect();
    listed.extend(LIBRARY_IMPORTS);
    listed.sort_unstable();
    let mut given = host_harness::sandbox::ALLOWED_IMPORTS.to_vec();
    given.sort_unstable();
    assert_eq!(listed, given);
    let (resolve, package) = contract();
    let docs = resolve.worlds[resolve.packages[package].worlds["signal-connector"]].docs.contents.clone().unwrap();
    for name in LIBRARY_IMPORTS {
        let (_, interface) = name.rsplit_once('/').unwrap();
        let named = docs.contains(interface) || (interface.starts_with("terminal-") && docs.contains("terminal-*"));
        assert!(named, "the documentation of the world does not name {name}:\n{docs}");
    }
}

#[test]
fn the_component_has_the_functions_of_the_contract_with_their_types() {
    let (written, package) = contract();
    let (built, world) = component();
    let describe = |resolve: &Resolve, interface: InterfaceId| -> Vec<String> {
        resolve.interfaces[interface]
            .functions
            .values()
            .map(|one| {
                let parameters: Vec<&str> = one.params.iter().map(|parameter| parameter.name.as_str()).collect();
                format!("{}({}) {}", one.name, parameters.join(", "), one.result.is_some())
            })
            .collect()
    };
    let (key, _) = built.worlds[world].exports.iter().next().unwrap();
    let wasmtime::component::wit_parser::WorldKey::Interface(exported) = key else { panic!("{key:?}") };
    let written = describe(&written, written.packages[package].interfaces["connector"]);
    assert_eq!(describe(&built, *exported), written);
    assert_eq!(
        written,
        [
            "describe() true",
            "configure(settings) true",
            "check(settings) true",
            "poll(settings, checkpoint, budget) true"
        ]
    );
}

#[test]
fn the_component_is_small() {
    let bytes = std::fs::metadata(crate::common::host::connector()).unwrap().len();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes, at most {MOST_BYTES} are allowed");
}
