//! What a component demands of the engine before it runs: memories, tables, how large they begin, and how many parts it
//! is put together from.
//!
//! Why: the pool of instances is cut to these limits, so the engine refuses such a component anyway, but only after it
//! was compiled and in words that do not say what a maintainer should change.
//! Why each definition counts as often as it is instantiated: the compiler writes all instances out one by one. Ten
//! kilobytes of components that instantiate one another a thousand times take it all memory there is.
//! Why it counts once if it never is: whoever validates a component compares the types in it one with another, and two types
//! of some dozens of bytes are as large as a million members. Thousands of components that compare them again take hours.
//! Not guaranteed: what a component instantiates that it was given, and does not define, is not looked for; it counts as
//! too much. No toolchain for connectors makes such a component.

use super::error::LoadError;
use crate::sandbox::Limits;
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Encoding,
    Instance, Parser, Payload,
};

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 * 1024;

/// Most parts of a component: its instances, functions, types, imports, exports and aliases, with those of the components
/// that it instantiates, each time; or with those of all that are defined in it, each once, if these are more. The
/// InsightIDR connector has some six hundred, and a test sees to it that the ones of this repository stay below a tenth.
const PARTS: u64 = 8_192;

/// Compares what a component demands with the limits.
///
/// # Errors
/// The first demand that is too much; [`LoadError::Corrupt`] when the bytes cannot be read.
pub(super) fn check(bytes: &[u8], limits: &Limits) -> Result<(), LoadError> {
    let (defined, instantiated) = read(bytes).map_err(|error| LoadError::Corrupt { why: error.to_string() })?;
    let most = |limit: usize| u64::try_from(limit).unwrap_or(u64::MAX);
    let parts = usize::try_from(PARTS).unwrap_or(usize::MAX);
    for (amount, limit, unit, what) in [
        (instantiated.parts, parts, "", "parts, each counted as often as it is instantiated,"),
        // What is never instantiated is validated all the same.
        (defined.parts, parts, "", "parts, those of components that are never instantiated among them,"),
        (instantiated.core_instances, limits.core_instances, "", "core instances"),
        // What is defined and never instantiated takes nothing yet, but is there to be.
        (defined.memories.max(instantiated.memories), limits.memories, "", "memories"),
        (defined.memory_bytes.max(instantiated.memory_bytes), limits.memory_bytes, " bytes", "memory at its start"),
        (defined.tables.max(instantiated.tables), limits.tables, "", "tables"),
        (defined.largest_table, limits.table_elements, "", "elements in a table"),
    ] {
        if amount > most(limit) {
            return Err(LoadError::TooDemanding { what, unit, limit });
        }
    }
    Ok(())
}

/// What something demands, once.
#[derive(Clone, Copy, Debug, Default)]
struct Demands {
    parts: u64,
    core_instances: u64,
    memories: u64,
    memory_bytes: u64,
    tables: u64,
    largest_table: u64,
}

impl Demands {
    /// Of what is not defined in the component itself.
    const UNKNOWN: Self = Self {
        parts: u64::MAX,
        core_instances: u64::MAX,
        memories: u64::MAX,
        memory_bytes: u64::MAX,
        tables: u64::MAX,
        largest_table: 0,
    };

    /// Takes in what something else demands.
    fn add(&mut self, other: &Self) {
        self.parts = self.parts.saturating_add(other.parts);
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.tables = self.tables.saturating_add(other.tables);
        self.largest_table = self.largest_table.max(other.largest_table);
    }
}

/// A module or a component that is being read.
#[derive(Default)]
struct Level {
    /// What instantiating it demands, as far as it has been read.
    demands: Demands,
    /// What its modules demand, by index.
    modules: Vec<Demands>,
    /// What its components demand, by index.
    components: Vec<Demands>,
    /// Parts that stand in itself, and itself.
    own: u64,
    is_module: bool,
}

impl Level {
    /// So many parts more.
    fn add_parts(&mut self, count: impl TryInto<u64>) {
        let count = count.try_into().unwrap_or(u64::MAX);
        self.demands.parts = self.demands.parts.saturating_add(count);
        self.own = self.own.saturating_add(count);
    }

    /// A module or component was imported, or taken out of an instance.
    fn given(&mut self, kind: ComponentExternalKind) {
        match kind {
            ComponentExternalKind::Module => self.modules.push(Demands::UNKNOWN),
            ComponentExternalKind::Component => self.components.push(Demands::UNKNOWN),
            _ => {}
        }
    }
}

/// What stands at an index; what is not known, or not there, is too much.
fn at(all: &[Demands], index: u32) -> Demands {
    usize::try_from(index).ok().and_then(|index| all.get(index)).copied().unwrap_or(Demands::UNKNOWN)
}

/// Reads a component once. Gives what all that is defined in it demands, each once, and what instantiating it does.
fn read(bytes: &[u8]) -> Result<(Demands, Demands), BinaryReaderError> {
    let mut defined = Demands::default();
    let mut levels: Vec<Level> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let Payload::Version { encoding, .. } = &payload {
            let is_module = *encoding == Encoding::Module;
            let demands = Demands { core_instances: is_module.into(), ..Demands::default() };
            levels.push(Level { demands, own: 1, is_module, ..Level::default() });
            continue;
        }
        let Some((level, outer)) = levels.split_last_mut() else { continue };
        if !matches!(payload, Payload::End(_)) {
            section(level, outer, payload)?;
            continue;
        }
        let Some(ended) = levels.pop() else { continue };
        if ended.is_module {
            defined.add(&ended.demands);
        }
        defined.parts = defined.parts.saturating_add(ended.own);
        match levels.last_mut() {
            None => return Ok((defined, ended.demands)),
            Some(level) if ended.is_module => level.modules.push(ended.demands),
            Some(level) => level.components.push(ended.demands),
        }
    }
    Ok((defined, Demands::UNKNOWN))
}

/// Reads one section.
fn section(level: &mut Level, outer: &[Level], payload: Payload<'_>) -> Result<(), BinaryReaderError> {
    match payload {
        Payload::MemorySection(memories) => {
            let demands = &mut level.demands;
            for memory in memories {
                demands.memories = demands.memories.saturating_add(1);
                let bytes = memory?.initial.saturating_mul(PAGE);
                demands.memory_bytes = demands.memory_bytes.saturating_add(bytes);
            }
        }
        Payload::TableSection(tables) => {
            let demands = &mut level.demands;
            for table in tables {
                demands.tables = demands.tables.saturating_add(1);
                demands.largest_table = demands.largest_table.max(table?.ty.initial);
            }
        }
        Payload::InstanceSection(instances) => {
            for instance in instances {
                level.add_parts(1_u64);
                match instance? {
                    Instance::Instantiate { module_index, args } => {
                        level.add_parts(args.len());
                        level.demands.add(&at(&level.modules, module_index));
                    }
                    Instance::FromExports(exports) => level.add_parts(exports.len()),
                }
            }
        }
        Payload::ComponentInstanceSection(instances) => {
            for instance in instances {
                level.add_parts(1_u64);
                match instance? {
                    ComponentInstance::Instantiate { component_index, args } => {
                        level.add_parts(args.len());
                        level.demands.add(&at(&level.components, component_index));
                    }
                    ComponentInstance::FromExports(exports) => level.add_parts(exports.len()),
                }
            }
        }
        Payload::ComponentAliasSection(aliases) => {
            level.add_parts(aliases.count());
            for alias in aliases {
                match alias? {
                    ComponentAlias::InstanceExport { kind, .. } => level.given(kind),
                    ComponentAlias::Outer { kind, count, index } => alias_outer(level, outer, kind, count, index),
                    ComponentAlias::CoreInstanceExport { .. } => {}
                }
            }
        }
        Payload::ComponentImportSection(imports) => {
            level.add_parts(imports.count());
            for import in imports {
                level.given(import?.ty.kind());
            }
        }
        Payload::ComponentExportSection(exports) => {
            level.add_parts(exports.count());
            for export in exports {
                // What is exported has a second index from then on.
                let export = export?;
                match export.kind {
                    ComponentExternalKind::Module => level.modules.push(at(&level.modules, export.index)),
                    ComponentExternalKind::Component => level.components.push(at(&level.components, export.index)),
                    _ => {}
                }
            }
        }
        Payload::ComponentCanonicalSection(functions) => level.add_parts(functions.count()),
        Payload::ComponentTypeSection(types) => level.add_parts(types.count()),
        Payload::CoreTypeSection(types) => level.add_parts(types.count()),
        _ => {}
    }
    Ok(())
}

/// A name in one component for what is defined in another around it.
fn alias_outer(level: &mut Level, outer: &[Level], kind: ComponentOuterAliasKind, count: u32, index: u32) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let around = count.checked_sub(1).and_then(|up| outer.iter().rev().nth(up));
    let found = |all: fn(&Level) -> &Vec<Demands>, own: &Level| match (count, around) {
        (0, _) => at(all(own), index),
        (_, Some(around)) => at(all(around), index),
        (_, None) => Demands::UNKNOWN,
    };
    match kind {
        ComponentOuterAliasKind::CoreModule => {
            let demands = found(|level| &level.modules, level);
            level.modules.push(demands);
        }
        ComponentOuterAliasKind::Component => {
            let demands = found(|level| &level.components, level);
            level.components.push(demands);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::component;
    use super::*;

    #[test]
    fn what_fits_exactly_passes_and_one_more_does_not() {
        let limits = Limits { memories: 2, memory_bytes: 4 << 16, tables: 2, table_elements: 5, ..Limits::default() };
        let verdict = |parts: &str| {
            let bytes = wat::parse_str(format!("(component {parts})")).unwrap();
            check(&bytes, &limits).map_err(|error| error.to_string())
        };
        assert_eq!(
            verdict("(core module (memory 1)) (core module (memory 3) (table 5 funcref) (table 1 funcref))"),
            Ok(())
        );
        assert_eq!(
            verdict("(component (core module (memory 1))) (core module (memory 4))"),
            Err("the component demands more than the 262144 bytes of memory at its start that one may have".to_owned())
        );
        for (parts, word) in [
            ("(core module (memory 1) (memory 1)) (core module (memory 0))", "more than the 2 memories"),
            ("(core module (table 6 funcref))", "more than the 5 elements in a table"),
            ("(core module (table 1 funcref) (table 1 funcref) (table 1 funcref))", "more than the 2 tables"),
        ] {
            assert!(verdict(parts).is_err_and(|error| error.contains(word)), "{parts}");
        }
        assert!(check(&component(), &Limits::default()).is_ok());
    }

    /// The verdict with the limits that there are.
    fn usual(parts: &str) -> Result<(), String> {
        let bytes = wat::parse_str(format!("(component {parts})")).unwrap();
        assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
        check(&bytes, &Limits::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_instantiated_counts_each_time() {
        let times = |count: usize| "(core instance (instantiate $m))".repeat(count);
        assert_eq!(usual(&format!("(core module $m) {}", times(64))), Ok(()));
        let error = usual(&format!("(core module $m) {}", times(65))).unwrap_err();
        assert!(error.contains("more than the 64 core instances"), "{error}");
        assert_eq!(usual(&format!("(core module $m (memory 1)) {}", times(2))), Ok(()));
        let error = usual(&format!("(core module $m (memory 1)) {}", times(3))).unwrap_err();
        assert!(error.contains("more than the 2 memories"), "{error}");
        let error = usual(&format!("(core module $m (memory 600)) {}", times(2))).unwrap_err();
        assert!(error.contains("memory at its start"), "{error}");
    }

    #[test]
    fn components_that_instantiate_one_another_a_thousand_times_are_refused_before_they_are_compiled() {
        let nested = |module: &str, times: usize| {
            let times = |name: &str| format!("(instance (instantiate {name}))").repeat(times);
            format!(
                "(component $a {module}) (component $b (alias outer 1 $a (component $x)) {0}) \
                 (component $c (alias outer 1 $b (component $x)) {0}) \
                 (component $d (alias outer 1 $c (component $x)) {0}) {1}",
                times("$x"),
                times("$d")
            )
        };
        for module in ["", "(core module $m) (core instance (instantiate $m))"] {
            let error = usual(&nested(module, 1_000)).unwrap_err();
            assert!(error.contains("parts, each counted as often as it is instantiated"), "{error}");
        }
        assert_eq!(usual(&nested("(core module $m) (core instance (instantiate $m))", 2)), Ok(()));
        let error = usual(&nested("(core module $m) (core instance (instantiate $m))", 3)).unwrap_err();
        assert!(error.contains("64 core instances"), "{error}");
    }

    #[test]
    fn what_is_never_instantiated_counts_once() {
        // Each would have two types compared that are large as a whole.
        let parts = |count: usize| {
            let leaf = "(component (alias outer 1 $t (type $x)) (export \"x\" (type $x) (type (eq $x))))";
            let bytes =
                wat::parse_str(format!("(component (component $a (type $t (tuple u8)) {}))", leaf.repeat(count)));
            check(&bytes.unwrap(), &Limits::default()).map_err(|error| error.to_string())
        };
        assert_eq!(parts(900), Ok(()));
        let error = parts(3_000).unwrap_err();
        assert!(error.contains("parts, those of components that are never instantiated among them"), "{error}");
    }

    #[test]
    fn what_a_component_is_given_and_instantiates_counts_as_too_much() {
        for given in [
            "(component (import \"a\" (component $a)) (instance (instantiate $a)))",
            "(component (import \"a\" (core module $a)) (core instance (instantiate $a)))",
        ] {
            assert_eq!(usual(given), Ok(()), "never instantiated");
            let error = usual(&format!(
                "{} (component $a) (core module $m) (instance (instantiate $c {}))",
                given.replace("(component (import", "(component $c (import"),
                if given.contains("core") { "(with \"a\" (core module $m))" } else { "(with \"a\" (component $a))" },
            ));
            assert!(error.is_err_and(|error| error.contains("parts")), "{given}");
        }
        // A second name of what is defined here is no secret.
        let exported = "(component $a) (export $again \"a\" (component $a)) (instance (instantiate $again))";
        assert_eq!(usual(exported), Ok(()));
    }

    #[test]
    fn connectors_are_far_below_the_most_parts() {
        // Where they have been built: the InsightIDR connector was measured to have 543, the guest with most 735.
        let guests = std::env::var_os("GUESTS").map(|directory| std::fs::read_dir(directory).unwrap());
        let guests = guests.into_iter().flatten().map(|entry| entry.unwrap().path());
        let connector = std::env::var_os("CONNECTOR").map(std::path::PathBuf::from);
        for path in connector.into_iter().chain(guests).filter(|path| path.extension().is_some_and(|it| it == "wasm")) {
            let (_, found) = read(&std::fs::read(&path).unwrap()).unwrap();
            assert!(found.parts < PARTS / 10, "{}: {found:?}", path.display());
        }
    }
}
