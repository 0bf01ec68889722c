//! Metrics in the text format of Prometheus.
//!
//! Why made of the board at every scrape and not counted apart: status and metrics then say the same, instances that are
//! gone leave no series behind, and there is nothing to register.
//! Counters begin with the process: what is remembered of the time before may go back after a crash.
//! The table in docs/operating.md lists every name here; a test compares them.

use std::fmt::Write as _;

use time::OffsetDateTime;

use crate::connectors::serving::ConnectorReport;
use crate::log::escape;
use crate::resident::board::{Board, Histogram, HostStatus, STEP_BOUNDS};
use crate::resident::status::{InstanceStatus, State, StreamStatus, seconds_until};

/// What every name begins with.
const PREFIX: &str = "signal_client_";

/// Everything that metrics are made of, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The time.
    pub now: OffsetDateTime,
    /// The host.
    pub host: HostStatus,
    /// The instances.
    pub instances: Vec<InstanceStatus>,
    /// Durations of steps by connector.
    pub steps: std::collections::BTreeMap<String, [Histogram; 2]>,
    /// The connectors.
    pub connectors: Vec<ConnectorReport>,
    /// Artifacts that wait for delivery; none when the store did not say.
    pub outbox_depth: Option<u64>,
}

impl Snapshot {
    /// What is on the board now.
    #[must_use]
    pub fn of(board: &Board, connectors: Vec<ConnectorReport>, outbox_depth: Option<u64>) -> Self {
        Self {
            now: board.now(),
            host: board.host(),
            instances: board.instances_since_start(),
            steps: board.steps(),
            connectors,
            outbox_depth,
        }
    }

    /// The page.
    #[must_use]
    pub fn text(&self) -> String {
        let mut page = Page::default();
        self.host_metrics(&mut page);
        self.instance_metrics(&mut page);
        self.work_metrics(&mut page);
        self.connector_metrics(&mut page);
        page.0
    }

    fn host_metrics(&self, page: &mut Page) {
        let host = &self.host;
        page.family("info", "gauge", "The host, by version.");
        page.sample("info", &[("version", host.version)], 1.0);
        page.family("start_timestamp_seconds", "gauge", "When the host started.");
        page.sample("start_timestamp_seconds", &[], unix(host.started));
        page.family("broken", "gauge", "Whether a part of the host has panicked.");
        page.sample("broken", &[], f64::from(u8::from(!host.broken.is_empty())));
        page.family("polls_running", "gauge", "Polls at the moment.");
        page.sample("polls_running", &[], count(host.polls_running as u64));
        page.family("config_problems", "gauge", "What is wrong with the configuration file as it is now.");
        page.sample("config_problems", &[], count(host.config.problems.len() as u64));
        page.family("config_loaded_timestamp_seconds", "gauge", "When the configuration that runs was taken.");
        if let Some(loaded) = host.config.loaded {
            page.sample("config_loaded_timestamp_seconds", &[], unix(loaded));
        }
        page.family(
            "log_lines_dropped_total",
            "counter",
            "Log lines that were dropped because whoever reads them stood still.",
        );
        page.sample("log_lines_dropped_total", &[], count(crate::log::dropped()));
        page.family("delivered_total", "counter", "Artifacts that the sink has taken since the start.");
        page.sample("delivered_total", &[], count(host.sink.delivered));
        if !host.sink.is_there {
            // What only has to be searched waits for nothing.
            return;
        }
        page.family("outbox_depth", "gauge", "Artifacts that are stored and wait for delivery.");
        if let Some(depth) = self.outbox_depth {
            page.sample("outbox_depth", &[], count(depth));
        }
        page.family("sink_up", "gauge", "Whether the sink takes artifacts.");
        // What cannot be read of one instance is no failure of the output.
        let is_up = host.sink.failure.as_ref().is_none_or(|failure| !failure.code.starts_with("output-"));
        page.sample("sink_up", &[], f64::from(u8::from(is_up)));
    }

    fn instance_metrics(&self, page: &mut Page) {
        page.family("instance_state", "gauge", "1 for the state that the instance is in.");
        for one in &self.instances {
            for state in State::ALL {
                let [instance, kind] = labels(one);
                let value = f64::from(u8::from(one.state == state));
                page.sample("instance_state", &[instance, kind, ("state", state.as_str())], value);
            }
        }
        page.family("stream_state", "gauge", "1 for the state that the stream is in.");
        for one in &self.instances {
            let [instance, kind] = labels(one);
            for stream in &one.past.streams {
                for state in StreamStatus::STATES {
                    let labels = [instance, kind, ("stream", stream.name.as_str()), ("state", state)];
                    page.sample("stream_state", &labels, f64::from(u8::from(stream.state == state)));
                }
            }
        }
        page.family("instance_behind", "gauge", "Whether the vendor has more than the last poll could collect.");
        for one in &self.instances {
            page.sample("instance_behind", &labels(one), f64::from(u8::from(one.past.behind_since.is_some())));
        }
        page.family(
            "back_off_seconds",
            "gauge",
            "Seconds until a failing instance is polled again; 0 when it is not backing off.",
        );
        for one in &self.instances {
            let left = one.back_off.as_ref().map_or(0, |back_off| seconds_until(back_off.until, self.now));
            page.sample("back_off_seconds", &labels(one), count(left));
        }
        type Time = fn(&InstanceStatus) -> Option<OffsetDateTime>;
        let times: [(&str, &str, Time); 4] = [
            ("last_poll_timestamp_seconds", "When the last poll began.", |one| one.past.last_poll),
            ("last_success_timestamp_seconds", "When the last good poll began.", |one| one.past.last_success),
            ("last_new_timestamp_seconds", "When the last poll began that stored something new.", |one| {
                one.past.last_new
            }),
            ("next_poll_timestamp_seconds", "When it is polled next.", |one| one.next_poll),
        ];
        for (name, help, time) in times {
            page.family(name, "gauge", help);
            for one in &self.instances {
                if let Some(time) = time(one) {
                    page.sample(name, &labels(one), unix(time));
                }
            }
        }
        // All of them from the beginning: of a series that comes with its first count nobody sees the growth.
        const OUTCOMES: [&str; 4] = ["ok", "degraded", "failed", "interrupted"];
        type Map = fn(&InstanceStatus) -> Vec<(&str, u64)>;
        let maps: [(&str, &str, &str, Map); 3] = [
            ("polls_total", "outcome", "Polls, by outcome.", |one| {
                OUTCOMES.map(|outcome| (outcome, one.past.polls[outcome])).to_vec()
            }),
            ("failures_total", "code", "Failures of polls and streams, by code.", |one| {
                one.past.failures.iter().collect()
            }),
            ("records_total", "stream", "Records of the vendor found new or changed, by stream.", |one| {
                one.past.streams.iter().map(|stream| (stream.name.as_str(), stream.total)).collect()
            }),
        ];
        for (name, label, help, map) in maps {
            page.family(name, "counter", help);
            for one in &self.instances {
                for (key, value) in map(one) {
                    let [instance, kind] = labels(one);
                    page.sample(name, &[instance, kind, (label, key)], count(value));
                }
            }
        }
    }

    fn work_metrics(&self, page: &mut Page) {
        type Number = fn(&InstanceStatus) -> u64;
        let numbers: [(&str, &str, &str, Number); 8] = [
            ("steps_total", "counter", "Steps committed.", |one| one.past.total.steps),
            ("artifacts_new_total", "counter", "Artifacts stored.", |one| one.past.total.artifacts_new),
            (
                "artifact_bytes_total",
                "counter",
                "Bytes of artifacts stored, as the bound of a day counts them.",
                |one| one.past.total.artifact_bytes,
            ),
            ("artifacts_repeated_total", "counter", "Artifacts that came again.", |one| {
                one.past.total.artifacts_repeated
            }),
            ("requests_total", "counter", "Requests to the vendor.", |one| one.past.total.requests),
            ("requests_denied_total", "counter", "Requests of the connector that the host refused.", |one| {
                one.past.total.requests_denied
            }),
            ("received_bytes_total", "counter", "Bytes of response bodies.", |one| one.past.total.bytes_received),
            ("guest_memory_peak_bytes", "gauge", "Most memory that a step of the last poll used.", |one| {
                one.past.last.guest_memory_peak_bytes
            }),
        ];
        for (name, kind, help, number) in numbers {
            page.family(name, kind, help);
            for one in &self.instances {
                page.sample(name, &labels(one), count(number(one)));
            }
        }
        page.family("poll_seconds_total", "counter", "Time spent on polls.");
        for one in &self.instances {
            page.sample("poll_seconds_total", &labels(one), count(one.past.total.milliseconds) / 1_000.0);
        }
    }

    fn connector_metrics(&self, page: &mut Page) {
        let help = "Duration of the steps of a connector.";
        page.histograms("step_duration_seconds", help, self.steps.iter().map(|(name, [steps, _])| (name, steps)));
        let help = "From sending a request to the head of its response, or to its failure.";
        let requests = self.steps.iter().map(|(name, [_, requests])| (name, requests));
        page.histograms("request_duration_seconds", help, requests);
        page.family("connector_info", "gauge", "Connectors by version, digest, file and state.");
        for one in &self.connectors {
            let labels = [
                ("integration_type", one.integration_type.as_str()),
                ("version", &one.version),
                ("digest", &one.digest),
                // Two files may hold the same.
                ("file", &one.file),
                ("state", one.state.name()),
            ];
            page.sample("connector_info", &labels, 1.0);
        }
    }
}

/// What every series of an instance carries.
fn labels(one: &InstanceStatus) -> [(&str, &str); 2] {
    [("instance", &one.name), ("integration_type", &one.integration_type)]
}

/// Seconds since 1970.
#[allow(clippy::cast_precision_loss, reason = "exact for the next 285 million years")]
fn unix(time: OffsetDateTime) -> f64 {
    time.unix_timestamp() as f64
}

/// A count as the format has it.
#[allow(clippy::cast_precision_loss, reason = "counts beyond 2^53 may be off by a little")]
fn count(number: u64) -> f64 {
    number as f64
}

/// The text so far.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a family of series.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n");
    }

    /// A family of histograms, one for each connector.
    fn histograms<'a>(&mut self, name: &str, help: &str, all: impl Iterator<Item = (&'a String, &'a Histogram)>) {
        self.family(name, "histogram", help);
        for (connector, histogram) in all {
            let mut so_far = 0;
            for (at, number) in histogram.counts.iter().enumerate() {
                so_far += number;
                let bound = STEP_BOUNDS.get(at).map_or("+Inf".to_owned(), ToString::to_string);
                let labels = [("connector", connector.as_str()), ("le", &bound)];
                self.sample(&format!("{name}_bucket"), &labels, count(so_far));
            }
            self.sample(&format!("{name}_sum"), &[("connector", connector)], histogram.sum);
            self.sample(&format!("{name}_count"), &[("connector", connector)], count(so_far));
        }
    }

    /// One value.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "{PREFIX}{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let text = escape(text).replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::connectors::serving::ConnectorState;
    use crate::instances::failure::FailureReport;
    use crate::resident::status::{BackOffStatus, Past, Work};

    fn snapshot() -> Snapshot {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("time");
        let board = Board::new(Arc::new(move || now), 16);
        let past = Past {
            last_poll: Some(now),
            last_new: Some(now - Duration::from_secs(300)),
            streams: vec![StreamStatus {
                name: "events".into(),
                noun: "events".into(),
                state: "ok".into(),
                last: 2,
                total: 12,
                failure: None,
            }],
            polls: BTreeMap::from([("ok".to_owned(), 3), ("failed".to_owned(), 1)]).into(),
            failures: BTreeMap::from([("timeout".to_owned(), 1)]).into(),
            failure: Some(Box::new(FailureReport::new("timeout", "no", ""))),
            total: Work {
                steps: 4,
                requests: 9,
                requests_denied: 2,
                bytes_received: 123_456,
                artifacts_new: 31,
                artifact_bytes: 45_000,
                artifacts_repeated: 5,
                milliseconds: 1_500,
                guest_memory_peak_bytes: 3_000_000,
            },
            ..Past::default()
        };
        let mut status = InstanceStatus {
            id: uuid::Uuid::from_u128(1),
            handle: None,
            name: "a \"quoted\\name\u{202e}".into(),
            integration_type: "acme".into(),
            state: State::Failed,
            since: now,
            interval_minutes: 5,
            polling: false,
            next_poll: Some(now + Duration::from_secs(60)),
            back_off: Some(BackOffStatus { failures: 2, seconds: 60, until: now + Duration::from_secs(60) }),
            routes: Vec::new(),
            past: Past::default(),
        };
        board.put(status.clone());
        status.past = past;
        board.put(status);
        board.change_host(|host| host.sink.is_there = true);
        board.count_step("acme", Duration::from_millis(20), &[Duration::from_millis(3), Duration::from_secs(7)]);
        let connector = ConnectorReport {
            integration_type: "acme".into(),
            version: "1.2.3".into(),
            digest: "d".into(),
            file: "f".into(),
            state: ConnectorState::Serving,
            reason: None,
            code: None,
            retry_at: None,
            since: now,
        };
        Snapshot::of(&board, vec![connector], Some(7))
    }

    #[test]
    fn the_page_is_in_the_format_of_prometheus_and_no_name_can_break_it() {
        insta::assert_snapshot!(snapshot().text());
    }

    #[test]
    fn counters_begin_with_the_process_whatever_is_remembered_of_the_time_before() {
        let board = Board::new(Arc::new(|| OffsetDateTime::UNIX_EPOCH), 1);
        let mut status = snapshot().instances.remove(0);
        status.name = "acme".into();
        board.put(status.clone());
        let values = || {
            let text = Snapshot::of(&board, Vec::new(), None).text();
            let labels = "{instance=\"acme\",integration_type=\"acme\"";
            let series = [
                format!("received_bytes_total{labels}}}"),
                format!("poll_seconds_total{labels}}}"),
                format!("records_total{labels},stream=\"events\"}}"),
                format!("polls_total{labels},outcome=\"ok\"}}"),
                format!("failures_total{labels},code=\"timeout\"}}"),
            ];
            series.map(|series| {
                let value = text.lines().find_map(|line| line.strip_prefix(&format!("{PREFIX}{series} ")));
                value.unwrap_or_else(|| panic!("{series} is not in {text}")).parse::<f64>().expect("number")
            })
        };
        assert_eq!(values(), [0.0; 5]);
        status.past.total.bytes_received += 1_000;
        status.past.total.milliseconds += 500;
        status.past.streams[0].total += 3;
        status.past.polls.count("ok");
        status.past.failures.count("timeout");
        // Also when it was gone meanwhile, and with a name of its own since.
        board.remove(status.id);
        board.put(status);
        assert_eq!(values(), [1_000.0, 0.5, 3.0, 1.0, 1.0]);
        assert_eq!(board.instances()[0].past.total.bytes_received, 124_456, "the status has everything");
    }

    #[test]
    fn a_stream_that_is_not_offered_shows_although_its_instance_is_well() {
        let mut snapshot = snapshot();
        let one = &mut snapshot.instances[0];
        one.name = "acme".into();
        one.state = State::Ok;
        one.past.streams[0].state = "unavailable".into();
        let text = snapshot.text();
        for (state, value) in [("ok", 0), ("degraded", 0), ("unavailable", 1)] {
            let labels = format!("instance=\"acme\",integration_type=\"acme\",stream=\"events\",state=\"{state}\"");
            let line = format!("{PREFIX}stream_state{{{labels}}} {value}");
            assert!(text.lines().any(|given| given == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn without_a_sink_nothing_is_said_of_one() {
        let mut without = snapshot();
        without.host.sink.is_there = false;
        let text = without.text();
        assert!(!text.contains("outbox_depth") && !text.contains("sink_up"), "{text}");
    }

    #[test]
    fn two_files_with_the_same_content_are_two_series() {
        let mut twice = snapshot();
        let mut copy = twice.connectors[0].clone();
        copy.file = "copy.wasm".into();
        twice.connectors.push(copy);
        let text = twice.text();
        let series: Vec<&str> = text.lines().filter(|line| line.contains("connector_info{")).collect();
        assert!(series.len() == 2 && series[0] != series[1], "{series:?}");
    }

    #[test]
    fn the_documentation_lists_every_metric_and_no_other() {
        let text = snapshot().text();
        let given: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let documentation = include_str!("../../../docs/operating.md");
        let listed: BTreeSet<&str> = documentation
            .lines()
            .filter_map(|line| line.strip_prefix("| `signal_client_")?.split('`').next())
            .map(|rest| rest.split('{').next().unwrap_or_default())
            .collect();
        let given: BTreeSet<&str> = given.into_iter().filter_map(|name| name.strip_prefix(PREFIX)).collect();
        assert_eq!(listed, given);
    }
}
