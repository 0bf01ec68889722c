//! `host-harness search`: what was collected, as on the Conductor's search
//! page.

use std::borrow::Cow;
use std::collections::BTreeMap;

use clap::Args;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::CliError;
use super::output;
use super::spread::spread;
use super::state::State;
use crate::log::escape;
use crate::store::{Attributed, Hit, Most, Period, Reader, notes, remark};

/// Search the artifacts that were collected
///
/// All words must match, anywhere in an artifact; OR between words finds
/// either, NOT before a word leaves out what has it, both in capitals (AND may
/// be written, too). Words without an OR between them belong closer together;
/// brackets change that. Fields narrow a word down: src_ip: dst_ip: hostname:
/// user: severity: stream:. Words are matched there as elsewhere, so
/// stream:alerts also finds product-alerts. -severity:low, or NOT severity:low,
/// leaves out what has it there; any other word with a hyphen before it is
/// looked for as it is (what begins with two comes within the quotes of the
/// query, or behind a -- by itself). Quotes keep words together, a * at the end
/// of a word stands for any ending, behind a dot for whatever follows.
///
/// A time is found by its month (2026-01*), day (2026-01-15), hour
/// (2026-01-15T11), minute or second (2026-01-15T11:59), as it is written; a
/// blank may stand between day and time from the minute on (2026-01-15 11:59).
/// A UUID is found as a whole or by its beginning with a *. Without a query the
/// newest artifacts are shown. What was stored last comes first.
///
/// Of an artifact the first 256 KiB of values are searched. Words are what
/// stands between spaces and punctuation: within a text of Chinese, Japanese or
/// Thai a single word is not found. A quoted phrase may reach from one value of
/// an artifact into the next.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness search --state ./state stream:alerts severity:high
  host-harness search --config /etc/host-harness/conductor.toml severity:high
  host-harness search --state ./state 'user:\"Jane Doe\"' '10.0.0.*'
  host-harness search --state ./state --since 24h severity:high
  host-harness search --state ./state --since 2026-01-15T22:00 --until 2026-01-16T06:00 user:jdoe
  host-harness search --state ./state 2026-01-15T11 failed
  host-harness search --state ./state 'severity:(high OR critical) NOT stream:alerts'
  host-harness search --state ./state jdoe -severity:low
  host-harness search --state ./state --json --pretty --limit 1")]
pub(super) struct Search {
    #[command(flatten)]
    state: State,
    /// Show at most this many, 1 to 100,000
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Search the artifacts of this instance only
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Only what happened from this time on: how long ago (15m, 24h, 7d) or a moment in UTC
    /// (2026-01-15, 2026-01-15T11:30). The time is the one that is shown
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what happened before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print the artifacts themselves, one JSON object a line
    #[arg(long)]
    json: bool,
    /// Print with each artifact where it comes from, as /artifacts of a running
    /// host does: instance, id, stream, stored and artifact
    #[arg(long, requires = "json")]
    with_instance: bool,
    /// Spread each JSON object over several lines
    #[arg(long, requires = "json")]
    pretty: bool,
    /// What to search for
    #[arg(value_name = "QUERY")]
    query: Vec<String>,
}

impl Search {
    pub(super) fn run(self) -> Result<u8, CliError> {
        let directory = self.state.directory()?;
        let query = self.query.join(" ");
        if let Some(remark) = remark(&query) {
            tracing::warn!("{remark}");
        }
        let period = Period::between(self.since.as_deref(), self.until.as_deref(), OffsetDateTime::now_utc());
        let period = period.map_err(|no_time| CliError::usage(format!("--{no_time}")))?;
        let most = Most { period, ..Most::hits(self.limit) };
        let hits = Reader::open(&directory)?.search_at_most(&query, self.instance.as_deref(), most)?.hits;
        if hits.is_empty() {
            tracing::info!("no artifacts found");
            for note in notes(&query) {
                tracing::warn!("{note}");
            }
            return Ok(0);
        }
        let mut text = String::new();
        if self.json {
            for hit in &hits {
                text.push_str(&self.json(hit));
                text.push('\n');
            }
        } else {
            text = output::table("", &hits.iter().map(row).collect::<Vec<_>>());
        }
        output::print(&text)?;
        Ok(0)
    }

    /// The artifact as it is, alone or with where it comes from, or spread.
    fn json(&self, hit: &Hit) -> String {
        let json = if self.with_instance {
            serde_json::to_string(&Attributed::from(hit)).unwrap_or_default()
        } else {
            hit.json.clone()
        };
        if self.pretty { spread(&json) } else { json }
    }
}

/// Longest title shown in a line, in characters.
const MOST_TITLE: usize = 60;

/// Time, severity, instance, stream, title, sender and id.
fn row(hit: &Hit) -> Vec<String> {
    // Only the members of the artifact itself: what is deeper in it may be too much for a tree of values.
    let artifact: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(&hit.json).unwrap_or_default();
    let text = |value: &&RawValue| serde_json::from_str::<String>(value.get()).ok();
    let field =
        |name: &str| artifact.get(name).and_then(text).filter(|text| !text.is_empty()).map(|text| escape(&text));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let stored = || hit.stored.format(&Rfc3339).unwrap_or_default();
    vec![
        field("startTimeUTC").unwrap_or_else(stored),
        or_dash(field("severityLabel")),
        escape(&hit.instance),
        escape(&hit.stream),
        cut(&or_dash(field("ruleName").or_else(|| field("messageType")))),
        or_dash(field("senderHost")),
        hit.id.to_string(),
    ]
}

/// The text, shortened for a line.
fn cut(text: &str) -> String {
    if text.chars().count() <= MOST_TITLE {
        return text.to_owned();
    }
    text.chars().take(MOST_TITLE - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn hit(json: &str) -> Hit {
        Hit {
            instance: "acme".into(),
            id: Uuid::from_u128(1),
            stream: "alerts".into(),
            stored: OffsetDateTime::UNIX_EPOCH,
            json: json.into(),
        }
    }

    #[test]
    fn a_hit_is_one_line_whatever_is_in_it() {
        let json = serde_json::json!({
            "startTimeUTC": "2026-01-15T12:00:00Z", "severityLabel": "high", "senderHost": "api.example.com",
            "ruleName": format!("forged\n{}", "x".repeat(100)),
        });
        let row = row(&hit(&json.to_string()));
        let title = format!("forged\\n{}…", "x".repeat(51));
        let id = Uuid::from_u128(1).to_string();
        assert_eq!(row, ["2026-01-15T12:00:00Z", "high", "acme", "alerts", &title, "api.example.com", &id]);
    }

    #[test]
    fn what_an_artifact_does_not_say_is_a_dash_and_its_time_is_that_of_arrival() {
        assert_eq!(row(&hit("{}"))[..6], ["1970-01-01T00:00:00Z", "-", "acme", "alerts", "-", "-"]);
    }

    #[test]
    fn a_number_or_a_depth_that_no_parser_takes_hides_nothing_of_an_artifact() {
        let deep = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
        let json = format!(r#"{{"n":1e999,"deep":{deep},"severityLabel":"high"}}"#);
        assert_eq!(row(&hit(&json))[1], "high");
    }
}
