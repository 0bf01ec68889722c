//! Figures: their medians as a table, all samples as JSON.
//!
//! Not guaranteed: a verdict. A target is shown beside its figure, and people judge.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

/// One figure.
struct Figure {
    /// What was measured; stable, for programs.
    name: &'static str,
    /// Unit of the samples.
    unit: &'static str,
    /// What is aimed at.
    target: Option<&'static str>,
    /// In the order they were taken; at least one.
    samples: Vec<f64>,
}

/// All figures of a run.
pub(crate) struct Report {
    figures: Vec<Figure>,
    load_before: Option<f64>,
}

impl Report {
    /// No figures yet.
    pub(crate) fn new() -> Self {
        Self { figures: Vec::new(), load_before: load() }
    }

    /// Adds a figure.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        unit: &'static str,
        target: Option<&'static str>,
        samples: Vec<f64>,
    ) {
        self.figures.push(Figure { name, unit, target, samples });
    }

    /// Prints the table and writes the file of this name in the target directory.
    pub(crate) fn finish(self, name: &str) -> anyhow::Result<()> {
        let mut text =
            format!("{:<56} {:>10} {:>10} {:>10}  {:<12} {}\n", "", "median", "least", "most", "unit", "target");
        for figure in &self.figures {
            let sorted = sorted(&figure.samples);
            let end = |value: Option<&f64>| value.map_or_else(String::new, |value| number(*value));
            let line = format!(
                "{:<56} {:>10} {:>10} {:>10}  {:<12} {}",
                figure.name,
                number(median(&figure.samples)),
                end(sorted.first()),
                end(sorted.last()),
                figure.unit,
                figure.target.unwrap_or_default()
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let loads = [self.load_before, load()];
        let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        if let [Some(before), Some(after)] = loads {
            text.push_str(&format!("load of the machine (1 minute): {before} before, {after} after, on {cpus} CPUs\n"));
        }
        let file = file(name);
        text.push_str(&format!("all samples: {}\n", file.display()));
        std::io::stdout().write_all(text.as_bytes())?;
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                json!({
                    "name": figure.name, "unit": figure.unit, "target": figure.target,
                    "median": median(&figure.samples), "samples": figure.samples,
                })
            })
            .collect();
        let all = json!({ "figures": figures, "cpus": cpus, "load_before": loads.first(), "load_after": loads.last() });
        std::fs::write(&file, format!("{all:#}\n")).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// A file in the target directory.
fn file(name: &str) -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary).join(name)
}

/// The load of the last minute, where the system tells it.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// The samples from the least to the most.
fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The middle sample, or the mean of the two in the middle; 0 of none.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.saturating_sub(1)), at(half)) }
}

/// Three figures or so.
fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
