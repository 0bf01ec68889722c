//! What a component demands of the engine before it runs: memories, tables, and how large they begin.
//!
//! Why: the pool of instances is cut to these limits, so the engine refuses such a component anyway, but only after it
//! was compiled and in words that do not say what a maintainer should change.
//! Not guaranteed: a module that a component instantiates more than once counts once; the engine counts each.

use super::error::LoadError;
use crate::sandbox::Limits;
use wasmparser::{Parser, Payload};

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 * 1024;

/// Compares what the core modules of a component demand with the limits.
///
/// # Errors
/// The first demand that is too much; [`LoadError::Corrupt`] when the bytes cannot be read.
pub(super) fn check(bytes: &[u8], limits: &Limits) -> Result<(), LoadError> {
    let corrupt = |error: wasmparser::BinaryReaderError| LoadError::Corrupt { why: error.to_string() };
    let mut demands = Demands::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(corrupt)? {
            Payload::MemorySection(memories) => {
                for memory in memories {
                    demands.memory(memory.map_err(corrupt)?.initial, limits)?;
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    demands.table(table.map_err(corrupt)?.ty.initial, limits)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What was found so far.
#[derive(Default)]
struct Demands {
    memories: usize,
    memory_bytes: u64,
    tables: usize,
}

impl Demands {
    /// One more memory, with so many pages at first.
    fn memory(&mut self, pages: u64, limits: &Limits) -> Result<(), LoadError> {
        self.memories += 1;
        self.memory_bytes = self.memory_bytes.saturating_add(pages.saturating_mul(PAGE));
        if self.memories > limits.memories {
            return too_demanding("memories", "", limits.memories);
        }
        if self.memory_bytes > u64::try_from(limits.memory_bytes).unwrap_or(u64::MAX) {
            return too_demanding("memory at its start", " bytes", limits.memory_bytes);
        }
        Ok(())
    }

    /// One more table, with so many elements at first.
    fn table(&mut self, elements: u64, limits: &Limits) -> Result<(), LoadError> {
        self.tables += 1;
        if self.tables > limits.tables {
            return too_demanding("tables", "", limits.tables);
        }
        if elements > u64::try_from(limits.table_elements).unwrap_or(u64::MAX) {
            return too_demanding("elements in a table", "", limits.table_elements);
        }
        Ok(())
    }
}

/// The error for a demand.
fn too_demanding(what: &'static str, unit: &'static str, limit: usize) -> Result<(), LoadError> {
    Err(LoadError::TooDemanding { what, unit, limit })
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
}
