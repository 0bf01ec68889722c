//! The memory limit of an instance.
//!
//! What: all linear memories of a store together stay below one limit, and the highest point is recorded.
//! Why not wasmtime's own limiter: it limits each memory by itself, so a component with several of them gets a
//! multiple.
//! Not guaranteed: the host's memory for tables, handles and buffers is limited by other numbers, not by this one.

use super::limits::Limits;
use wasmtime::ResourceLimiter;

/// Limits and records what an instance takes.
#[derive(Debug)]
pub(super) struct MemoryLimiter {
    /// Most bytes of all memories together.
    limit: usize,
    /// Bytes of all memories now.
    in_use: usize,
    /// The most that `in_use` has ever been.
    peak: usize,
    /// The growth last granted and the peak before it, to take back should the growth fail after all.
    last: (usize, usize),
    /// Whether more than `limit` was ever asked for.
    refused: bool,
    /// Most core instances, memories, tables, and elements of a table.
    core_instances: usize,
    memories: usize,
    tables: usize,
    table_elements: usize,
}

impl MemoryLimiter {
    /// A limiter for a new store.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.memory_bytes,
            in_use: 0,
            peak: 0,
            last: (0, 0),
            refused: false,
            core_instances: limits.core_instances,
            memories: limits.memories,
            tables: limits.tables,
            table_elements: limits.table_elements,
        }
    }

    /// The most bytes in use at once.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Whether more was ever asked for than is allowed.
    pub(super) fn refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let total = self.in_use.saturating_add(growth);
        if total > self.limit {
            self.refused = true;
            self.last = (0, self.peak);
            return Ok(false);
        }
        self.last = (growth, self.peak);
        self.in_use = total;
        self.peak = self.peak.max(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let (growth, peak) = std::mem::replace(&mut self.last, (0, self.peak));
        self.in_use = self.in_use.saturating_sub(growth);
        self.peak = peak;
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements)
    }

    fn instances(&self) -> usize {
        self.core_instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> MemoryLimiter {
        MemoryLimiter::new(&Limits { memory_bytes: 100, table_elements: 10, ..Limits::default() })
    }

    #[test]
    fn all_memories_together_stay_below_the_limit() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap(), "a second memory counts too");
        assert!(limiter.refused());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.peak(), 100);
        assert!(!limiter.memory_growing(40, usize::MAX, None).unwrap());
    }

    #[test]
    fn a_growth_that_failed_is_taken_back_once() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 30, None).unwrap());
        assert!(limiter.memory_growing(30, 90, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert_eq!(limiter.peak(), 30);
        limiter.memory_grow_failed(wasmtime::Error::msg("again")).unwrap();
        assert!(limiter.memory_growing(30, 100, None).unwrap());
        assert!(!limiter.memory_growing(100, 101, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("a refusal takes nothing back")).unwrap();
        assert!(!limiter.memory_growing(100, 101, None).unwrap());
    }

    #[test]
    fn tables_are_limited_in_elements() {
        let mut limiter = limiter();
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(0, 11, None).unwrap());
    }
}
