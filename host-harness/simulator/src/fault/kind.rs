//! The kinds of fault.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What goes wrong with an answer. In JSON: `{"kind": "truncate", "bytes": 700}`.
///
/// Those that change JSON leave an answer alone that is not an object (an array, an error text). All act on the answer
/// that the request would have had, so that a fault never hides a refusal behind a success unless it says so. Kinds without
/// members are written `Fault::Html {}` so that unknown members in JSON are refused for them too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Another status, with the vendor's error body or the one given.
    Status {
        /// 200 to 599.
        status: u16,
        /// The body, served as JSON when it begins with `{` or `[`, else as text.
        #[serde(default)]
        body: Option<String>,
        /// Headers to add or replace.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The value of `Retry-After`: seconds, a date, or nonsense.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// The right answer with headers added or replaced, such as a nonsensical `RateLimit-Reset`.
    Headers {
        /// The headers.
        headers: BTreeMap<String, String>,
    },
    /// The connection is reset before anything is sent.
    ResetBeforeHead {},
    /// The connection is reset after the head and half of the body.
    ResetAfterHead {},
    /// The connection ends in good order after so many bytes of the body, fewer than announced.
    Truncate {
        /// Bytes of the body that are sent, at most all but one.
        bytes: usize,
    },
    /// A complete answer whose JSON stops in the middle, or after so many bytes.
    TruncateJson {
        /// Bytes of the body that are kept.
        #[serde(default)]
        bytes: Option<usize>,
    },
    /// Nothing happens for a while, before the head or after half of the body; then all goes on.
    Stall {
        /// How long, in real seconds, 0 to 3600.
        seconds: f64,
        /// After the head and half of the body.
        #[serde(default)]
        after_head: bool,
    },
    /// The body comes in pieces of so many bytes with a pause before each.
    Drip {
        /// Bytes in a piece, 1 or more.
        bytes: usize,
        /// The pause, in real milliseconds.
        ms: u64,
    },
    /// The right answer, later.
    Delay {
        /// How much later, in real milliseconds.
        ms: u64,
    },
    /// A sign-in page: 200, `text/html`.
    Html {},
    /// 200 with `{}`.
    EmptyObject {},
    /// 200 without a body.
    EmptyBody {},
    /// 200 with `null`.
    NullBody {},
    /// The page lacks its list (`data`, `alerts`, `rrns`, `evidences`, `actors`).
    NoData {},
    /// The list is `null`.
    NullData {},
    /// The list is an object.
    WrongType {},
    /// The page lacks `metadata`.
    NoMetadata {},
    /// The first element of the list is replaced by this JSON text.
    BadRow {
        /// The text; need not be JSON.
        row: String,
    },
    /// The last elements are missing while the totals stay.
    MissingRows {
        /// How many.
        rows: usize,
    },
    /// The totals are too small by this much (never below zero).
    ShortTotal {
        /// How much.
        less: u64,
    },
    /// The totals are too large by this much; `total_pages` and `is_last_index` agree with that.
    LongTotal {
        /// How much.
        more: u64,
    },
    /// The page before the one asked for, under the number asked for.
    DuplicatePage {},
    /// Always the first page, under the number asked for, with totals that never end.
    EndlessPages {},
    /// 200 with partial data and a non-empty `region_failures`.
    RegionFailures {},
    /// 200 with all the data and a non-empty `region_failures`: the region that did not answer has nothing of it.
    EmptyRegionFailures {},
    /// The list's first element gets a member that is nested so deep.
    DeepJson {
        /// The depth.
        depth: usize,
    },
    /// A byte that is not UTF-8, inside the first string.
    InvalidUtf8 {},
    /// `Content-Encoding: gzip` on a body that is not compressed.
    WrongEncoding {},
    /// A small compressed body that becomes this large: valid JSON, padded with blanks.
    GzipBomb {
        /// Megabytes after decompression, 1 to 4096.
        megabytes: usize,
    },
    /// The right answer padded with blanks, not compressed.
    BigBody {
        /// Megabytes, 1 to 1024.
        megabytes: usize,
    },
    /// A redirect.
    Redirect {
        /// Where to.
        location: String,
        /// 302 by default.
        #[serde(default = "found")]
        status: u16,
    },
}

fn found() -> u16 {
    302
}

impl Fault {
    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Headers { .. } => "headers",
            Self::ResetBeforeHead {} => "reset_before_head",
            Self::ResetAfterHead {} => "reset_after_head",
            Self::Truncate { .. } => "truncate",
            Self::TruncateJson { .. } => "truncate_json",
            Self::Stall { .. } => "stall",
            Self::Drip { .. } => "drip",
            Self::Delay { .. } => "delay",
            Self::Html {} => "html",
            Self::EmptyObject {} => "empty_object",
            Self::EmptyBody {} => "empty_body",
            Self::NullBody {} => "null_body",
            Self::NoData {} => "no_data",
            Self::NullData {} => "null_data",
            Self::WrongType {} => "wrong_type",
            Self::NoMetadata {} => "no_metadata",
            Self::BadRow { .. } => "bad_row",
            Self::MissingRows { .. } => "missing_rows",
            Self::ShortTotal { .. } => "short_total",
            Self::LongTotal { .. } => "long_total",
            Self::DuplicatePage {} => "duplicate_page",
            Self::EndlessPages {} => "endless_pages",
            Self::RegionFailures {} => "region_failures",
            Self::EmptyRegionFailures {} => "empty_region_failures",
            Self::DeepJson { .. } => "deep_json",
            Self::InvalidUtf8 {} => "invalid_utf8",
            Self::WrongEncoding {} => "wrong_encoding",
            Self::GzipBomb { .. } => "gzip_bomb",
            Self::BigBody { .. } => "big_body",
            Self::Redirect { .. } => "redirect",
        }
    }

    /// The first member with a value that cannot be acted on: its name, its value, what it may be.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, String, &'static str)> {
        let status = |value: &u16| {
            (!(200..=599).contains(value)).then(|| ("status", value.to_string(), "it is a status from 200 to 599"))
        };
        let size = |value: &usize, most: usize, allowed| {
            (*value < 1 || *value > most).then(|| ("megabytes", value.to_string(), allowed))
        };
        match self {
            Self::Status { status: value, .. } | Self::Redirect { status: value, .. } => status(value),
            Self::Stall { seconds, .. } if !(0.0..=3600.0).contains(seconds) => {
                Some(("seconds", seconds.to_string(), "it is a number from 0 to 3600"))
            }
            Self::Drip { bytes: 0, .. } => Some(("bytes", "0".to_owned(), "it is 1 or more")),
            Self::GzipBomb { megabytes } => size(megabytes, 4096, "it is a number from 1 to 4096"),
            Self::BigBody { megabytes } => size(megabytes, 1024, "it is a number from 1 to 1024"),
            _ => None,
        }
    }
}
