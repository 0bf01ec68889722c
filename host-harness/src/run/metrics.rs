//! Metrics in Prometheus text form, prefix `signal_client_`.
//!
//! Labels are names of instances and connectors, streams and codes: few, and
//! escaped by the library.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::instances::report::Cycle;
use crate::run::board::{InstanceState, Page};

type Labels = Vec<(&'static str, String)>;

/// The metrics. Clones are the same.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    polls: Family<Labels, Counter>,
    records: Family<Labels, Counter>,
    artifacts: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    denied: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    steps: Family<Labels, Counter>,
    duration: Family<Labels, Histogram, fn() -> Histogram>,
    memory: Family<Labels, Gauge>,
    back_off: Family<Labels, Gauge<f64, AtomicU64>>,
    undelivered: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("signal_client");
        let duration = Family::<Labels, Histogram, fn() -> Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.01, 4.0, 8))
        });
        let inner = Inner {
            polls: Family::default(),
            records: Family::default(),
            artifacts: Family::default(),
            failures: Family::default(),
            requests: Family::default(),
            denied: Family::default(),
            bytes: Family::default(),
            steps: Family::default(),
            duration,
            memory: Family::default(),
            back_off: Family::default(),
            undelivered: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("polls", "Polls by instance and outcome", inner.polls.clone());
        registry.register("records", "Records found new or changed, by stream", inner.records.clone());
        registry.register("artifacts", "Artifacts stored", inner.artifacts.clone());
        registry.register("failures", "Failures by code", inner.failures.clone());
        registry.register("requests", "Requests to the vendor", inner.requests.clone());
        registry.register("requests_denied", "Requests refused by the egress policy", inner.denied.clone());
        registry.register("received_bytes", "Bytes received from the vendor, decompressed", inner.bytes.clone());
        registry.register("steps", "Steps committed", inner.steps.clone());
        registry.register("poll_duration_seconds", "Duration of polls, waits included", inner.duration.clone());
        registry.register("guest_memory_peak_bytes", "Highest memory of a step of the last poll", inner.memory.clone());
        registry.register("back_off_seconds", "Wait before the next poll after trouble", inner.back_off.clone());
        registry.register("outbox_depth", "Artifacts that no output has taken yet", inner.undelivered.clone());
        Self { inner: Arc::new(Inner { registry, ..inner }) }
    }

    /// Counts a poll.
    pub fn polled(&self, instance: &str, connector: &str, cycle: &Cycle) {
        let of = |more: Option<(&'static str, &str)>| -> Labels {
            let mut labels = vec![("instance", instance.to_owned()), ("connector", connector.to_owned())];
            labels.extend(more.map(|(name, value)| (name, value.to_owned())));
            labels
        };
        let inner = &self.inner;
        inner.polls.get_or_create(&of(Some(("outcome", cycle.outcome())))).inc();
        for stream in &cycle.streams {
            inner.records.get_or_create(&of(Some(("stream", &stream.name)))).inc_by(stream.fetched);
        }
        inner.artifacts.get_or_create(&of(None)).inc_by(cycle.new);
        if let Some(failure) = cycle.first_failure() {
            inner.failures.get_or_create(&of(Some(("code", &failure.code)))).inc();
        }
        let usage = &cycle.usage;
        inner.requests.get_or_create(&of(None)).inc_by(u64::from(usage.requests));
        inner.denied.get_or_create(&of(None)).inc_by(u64::from(usage.egress_denied));
        inner.bytes.get_or_create(&of(None)).inc_by(usage.bytes_received);
        inner.steps.get_or_create(&of(None)).inc_by(u64::from(cycle.steps));
        inner.duration.get_or_create(&of(None)).observe(cycle.elapsed.as_secs_f64());
        let peak = i64::try_from(usage.guest_peak_bytes).unwrap_or(i64::MAX);
        inner.memory.get_or_create(&of(None)).set(peak);
    }

    /// Notes how long an instance backs off.
    pub fn waiting(&self, instance: &str, wait: Duration) {
        let labels = vec![("instance", instance.to_owned())];
        self.inner.back_off.get_or_create(&labels).set(wait.as_secs_f64());
    }

    /// Notes the depth of the outbox.
    pub fn undelivered(&self, artifacts: u64) {
        self.inner.undelivered.set(i64::try_from(artifacts).unwrap_or(i64::MAX));
    }

    /// Everything as text, with the states of the page.
    #[must_use]
    pub fn text(&self, page: &Page) -> String {
        let mut states = Registry::with_prefix("signal_client");
        let state = Family::<Labels, Gauge>::default();
        let info = Family::<Labels, Gauge>::default();
        for instance in &page.instances {
            for word in [
                InstanceState::Starting,
                InstanceState::Ok,
                InstanceState::Degraded,
                InstanceState::Failed,
                InstanceState::Disabled,
            ] {
                let labels = vec![("instance", instance.name.clone()), ("state", word.as_str().to_owned())];
                state.get_or_create(&labels).set(i64::from(instance.state == word));
            }
        }
        for connector in &page.connectors {
            let labels = vec![
                ("type", connector.integration_type.clone()),
                ("version", connector.version.clone()),
                ("digest", connector.digest.clone()),
                ("state", format!("{:?}", connector.state).to_lowercase()),
            ];
            info.get_or_create(&labels).set(1);
        }
        states.register("instance_state", "1 for the state that an instance is in", state);
        states.register("connector_info", "Connectors and their versions", info);
        let mut text = String::new();
        // Writing a text cannot fail.
        let _ = encode(&mut text, &self.inner.registry);
        let counters = text.trim_end().trim_end_matches("# EOF").to_owned();
        let mut text = String::new();
        let _ = encode(&mut text, &states);
        counters + &text
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}
