//! Settings of a world and of the simulator that serves it.
//!
//! A [`WorldConfig`] says what exists; a [`SimulatorConfig`] says who may read it and how the server behaves. Both have
//! defaults that are deliberately unkind: late rows, old investigations that gain alerts, hostile text. Values are taken
//! as they are; nothing here is validated beyond its type.

use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::fault::FaultProfile;
use crate::oddities::Oddities;

/// The region codes that have an InsightIDR host (facts, section 1).
pub const REGIONS: [&str; 7] = ["us", "us2", "us3", "eu", "ca", "au", "ap"];

/// One customer organization of a generated world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationConfig {
    /// Region code of the host that serves it, such as `us`.
    pub region: String,
    /// Display name, unique within the world: the organization's id is derived from it and from the seed.
    pub name: String,
}

impl OrganizationConfig {
    /// An organization of this name in this region.
    pub fn new(region: impl Into<String>, name: impl Into<String>) -> Self {
        Self { region: region.into(), name: name.into() }
    }
}

/// What a generated world contains. Counts are for each organization.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// The seed: equal configurations give equal worlds, byte for byte.
    pub seed: u64,
    /// Organizations; each gets its own investigations. With none, the world is empty.
    pub organizations: Vec<OrganizationConfig>,
    /// What the clock shows when the simulator starts.
    pub start: OffsetDateTime,
    /// Investigations created in the 27 days before `start` and all visible at `start`.
    pub investigations: usize,
    /// Investigations created 40 to 380 days before `start`; most gain an alert near or after `start`.
    pub old_investigations: usize,
    /// Alerts of an investigation when it appears: about this many, or exactly this many with `exact_alerts`.
    pub alerts_per_investigation: usize,
    /// Every investigation, manual ones too, has exactly `alerts_per_investigation` alerts and gains no others.
    pub exact_alerts: bool,
    /// Evidence records of an alert that has some: 0 to this many, or exactly this many with `exact_alerts`.
    pub evidence_per_alert: usize,
    /// New investigations a day after `start`.
    pub growth_per_day: usize,
    /// Days after `start` in which things happen. Afterwards the world stands still.
    pub horizon_days: u32,
    /// Triage alerts that belong to no investigation, in the 27 days before `start`; as many a day as
    /// `growth_per_day` follow. Unless `exact_alerts`, one in five is made part of an investigation later.
    pub standalone_alerts: usize,
    /// The longest time between the creation of a record and its visibility (trap 5). The first alerts of an
    /// investigation follow it by up to 90 seconds, and for one investigation in a hundred by up to three times this.
    pub longest_delay: Duration,
    /// The tenants have the Alert Triage API (`/idr/at`).
    pub triage: bool,
    /// The tenants have the restricted evidence endpoint.
    pub restricted_evidence: bool,
    /// Investigations disappear this many days after their creation (the vendor keeps 13 months); 0 keeps them.
    pub retention_days: u32,
    /// People view, assign, prioritise, close and reopen.
    pub changes: bool,
    /// Of a hundred investigations so many never show `first_alert_time` and `latest_alert_time`, whatever alerts they
    /// have: at the vendor they are null at times (facts 6.1).
    pub untimed_percent: u8,
    /// What comes in pieces, late, again and again, or not at all.
    pub odd: Oddities,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            organizations: vec![OrganizationConfig::new("us", "Example Corp")],
            // 2026-01-15T12:00:00Z.
            start: OffsetDateTime::from_unix_timestamp(1_768_478_400).unwrap_or(OffsetDateTime::UNIX_EPOCH),
            investigations: 100,
            old_investigations: 10,
            alerts_per_investigation: 2,
            exact_alerts: false,
            evidence_per_alert: 3,
            growth_per_day: 24,
            horizon_days: 3,
            standalone_alerts: 5,
            longest_delay: Duration::from_secs(15 * 60),
            triage: true,
            restricted_evidence: false,
            retention_days: 396,
            changes: true,
            untimed_percent: 0,
            odd: Oddities::default(),
        }
    }
}

/// What the user behind a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything.
    Full,
    /// The key is good (`/validate` says so) and everything under `/idr` is 403.
    NoInsightIdr,
    /// Reads `/idr/v1` and `/idr/v2`; the Alert Triage family is 403 for this key.
    NoTriage,
}

/// A key that the simulator knows.
#[derive(Clone)]
pub struct ApiKey {
    /// The only region whose host accepts the key.
    pub region: String,
    /// The value of `X-Api-Key`.
    pub key: String,
    /// What it may read.
    pub role: Role,
    /// Id or name of the organization it belongs to; `None` is the first organization of the region. With
    /// `multi-customer=true` a key reads every organization of its region.
    pub organization: Option<String>,
}

impl ApiKey {
    /// A key that reads everything of the region's first organization.
    pub fn new(region: impl Into<String>, key: impl Into<String>) -> Self {
        Self { region: region.into(), key: key.into(), role: Role::Full, organization: None }
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are made up, yet a log that shows them trains people to accept logs with keys.
        f.debug_struct("ApiKey").field("region", &self.region).field("role", &self.role).finish_non_exhaustive()
    }
}

/// Requests allowed to a key in a fixed window, written `250/60s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in one window, 1 or more.
    pub requests: u32,
    /// Length of the window, over zero, measured on the simulator's clock.
    pub window: Duration,
}

/// A rate limit that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rate limit {text:?} is not of the form REQUESTS/WINDOW, such as 250/60s or 1500/15min, with both above zero")]
pub struct RateLimitError {
    /// What was given.
    pub text: String,
}

impl RateLimitError {
    /// A stable name of the error.
    pub fn code(&self) -> &'static str {
        "bad-rate-limit"
    }
}

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (requests, window) = text.split_once('/')?;
            let requests = requests.trim().parse::<u32>().ok().filter(|n| *n > 0)?;
            let window = humantime::parse_duration(window.trim()).ok().filter(|d| !d.is_zero())?;
            Some(Self { requests, window })
        };
        read().ok_or_else(|| RateLimitError { text: text.to_owned() })
    }
}

/// What a 429 says about when to come back, beside the `RateLimit-Reset` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfterForm {
    /// No `Retry-After`: what the vendor does, as far as is known.
    #[default]
    Absent,
    /// Whole seconds.
    Seconds,
    /// An HTTP date on the simulator's clock.
    HttpDate,
}

/// Whether the clock moves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockMode {
    /// It moves with real time from the start instant, and from whatever it is set to later.
    #[default]
    Running,
    /// It moves only when it is set or advanced.
    Frozen,
}

/// Where rows without an alert time stand when the list is sorted by alert time, whatever the direction; the vendor
/// does not say (trap 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NullTimes {
    /// Before all others.
    #[default]
    First,
    /// After all others.
    Last,
}

/// How the simulator serves a world.
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// The keys it knows; without one, every request is 401.
    pub keys: Vec<ApiKey>,
    /// Added to every answer of the API (not to the control endpoints).
    pub latency: Duration,
    /// Requests under `/idr` for each key; `None` sends no rate headers at all, as the vendor's v2 lists did in 2023.
    pub rate_limit: Option<RateLimit>,
    /// Requests under `/idr/at` for each key, where these are counted apart from the others; `None` counts them together.
    pub triage_rate_limit: Option<RateLimit>,
    /// The same of requests under `/idr/v1`: limits differ from API to API (facts 7).
    pub v1_rate_limit: Option<RateLimit>,
    /// Whether answers carry rate headers. Without them a 429 says nothing about when to come back, unless `retry_after`
    /// has it do so.
    pub rate_headers: bool,
    /// What a 429 of the rate limit says in `Retry-After`.
    pub retry_after: RetryAfterForm,
    /// Faults to inject.
    pub faults: FaultProfile,
    /// Status for a good key at another region's host: 404, 401 or 500; another number is used as it is when it is
    /// a valid status, else 404.
    pub wrong_region_status: u16,
    /// `/validate` accepts a good key at every region's host, so that a check by `/validate` alone proves nothing.
    pub validate_anywhere: bool,
    /// What the whole Alert Triage family answers to a tenant that lacks it: 403 or 404; another number is used as it
    /// is when it is a valid status, else 403.
    pub no_triage_status: u16,
    /// What the restricted evidence endpoint answers to a tenant that lacks it: 404, or 403 for any other number.
    pub no_restricted_status: u16,
    /// Whether the clock moves by itself.
    pub clock: ClockMode,
    /// Where the clock starts; `None` is the world's own start.
    pub start: Option<OffsetDateTime>,
    /// Where rows without an alert time are sorted.
    pub null_times: NullTimes,
    /// The beginning of a window of investigations, or of a search for alerts, is cut to a multiple of this, as servers do whose times are whole
    /// seconds; zero takes it as it is.
    pub start_cut: Duration,
    /// A search for alerts goes by when they were raised (`alerted_at`) and not by their creation: no source tells which of
    /// their times it is (facts 4, 6.5).
    pub searches_by_alerted: bool,
    /// Lists can be asked for by the status `WAITING`, which the vendor's own plugin has not known for long (facts 6.1); else
    /// it is a 400, like any value that is not known.
    pub knows_waiting: bool,
    /// Lists of `/idr/v2` leave out `total_data` and `total_pages`, which the vendor gives "if possible".
    pub no_totals: bool,
    /// `POST /idr/at/alerts/ops/rrns` leaves out MITRE codes as the search does, so that only single reads have them.
    pub thin_hydration: bool,
    /// Requests without the `Accept-version` that is documented for their family, or with another, are 400. Clients that
    /// send none work with the vendor today, and the header is what it asks for.
    pub versions_needed: bool,
    /// A triage search for RRNs alone is as inexact as a full one: its totals move, and deep pages may repeat a row.
    pub loose_rrns: bool,
    /// In so many of a thousand minutes, drawn from the world's seed, one of the regions that a search or a read by RRNs of
    /// the triage API asks behind the scenes does not answer: 200 with a part of the data and `region_failures` (trap
    /// 12). [`crate::Simulator::set_silent_regions`] changes it while it serves.
    pub silent_regions: u16,
    /// Regions that do not answer have nothing of what is asked for: all the data is there, and `region_failures` too.
    pub silent_regions_are_empty: bool,
    /// What a page behind the last one of a list is: 400, 404, or with any other number an empty page. The facts know of
    /// pages up to the last only.
    pub page_behind: u16,
    /// Lists of evidence count one more than there is: the totals of the family are known to move (facts 4).
    pub long_evidence_totals: bool,
    /// Compress bodies for clients that send `Accept-Encoding: gzip`.
    pub gzip: bool,
    /// The server ends a connection in good order after so many answers, without having said `Connection: close`, as
    /// gateways do: a client that keeps connections must be ready for it. `None` keeps them.
    pub requests_per_connection: Option<u32>,
    /// Requests kept for [`crate::Simulator::requests`]; older ones are forgotten, counters go on.
    pub recorded_requests: usize,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            latency: Duration::ZERO,
            rate_limit: None,
            triage_rate_limit: None,
            v1_rate_limit: None,
            rate_headers: true,
            retry_after: RetryAfterForm::Absent,
            faults: FaultProfile::default(),
            wrong_region_status: StatusCode::NOT_FOUND.as_u16(),
            validate_anywhere: false,
            no_triage_status: StatusCode::FORBIDDEN.as_u16(),
            no_restricted_status: StatusCode::FORBIDDEN.as_u16(),
            clock: ClockMode::Running,
            start: None,
            null_times: NullTimes::First,
            start_cut: Duration::ZERO,
            searches_by_alerted: false,
            knows_waiting: true,
            no_totals: false,
            thin_hydration: false,
            versions_needed: false,
            loose_rrns: false,
            silent_regions: 0,
            silent_regions_are_empty: false,
            page_behind: StatusCode::OK.as_u16(),
            long_evidence_totals: false,
            gzip: false,
            requests_per_connection: None,
            recorded_requests: 200_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_is_requests_by_window() {
        let limit: RateLimit = "250/60s".parse().unwrap();
        assert_eq!(limit, RateLimit { requests: 250, window: Duration::from_secs(60) });
        assert_eq!("10/15min".parse::<RateLimit>().unwrap().window, Duration::from_secs(900));
    }

    #[test]
    fn a_bad_rate_limit_is_named() {
        for text in ["", "250", "0/60s", "5/0s", "x/60s", "5/60 parsecs", "-1/60s"] {
            let error = text.parse::<RateLimit>().unwrap_err();
            assert_eq!(error.code(), "bad-rate-limit");
            assert!(error.to_string().contains("250/60s"));
        }
    }

    #[test]
    fn a_key_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", ApiKey::new("us", "s3cr3t")).contains("s3cr3t"));
    }
}
