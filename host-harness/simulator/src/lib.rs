//! A stand-in for the Rapid7 InsightIDR API, as strict and as treacherous as the vendor's.
//!
//! A [`World`] says what exists and when it can be seen: investigations, alerts, evidence, and people who change things. A
//! [`Simulator`] serves it, in process ([`Simulator::handle`]) or over HTTP ([`Server`], [`serve`]), to clients whose keys it
//! knows, with latency, a rate limit and faults. Its [`Truth`] says what a collector should have found. Everything follows from
//! a seed and the clock.
//!
//! What each endpoint does, with the sections of the API facts (`docs/insightidr-api.md`) behind it:
//!
//! | endpoint | strict | treacherous | facts |
//! |---|---|---|---|
//! | all | a key that is missing or unknown is 401; a key at another region's host 404 (or as set); wrong method 405; another `Accept-version` than the documented one 400 if set; a role without access 403 with correlation id | `R7-Correlation-Id` everywhere; 429 with `RateLimit-*` and `X-RateLimit-*`, without `Retry-After` unless set, at times with a body that is not JSON | 1, 7 |
//! | `GET /validate` | | says yes to a key without InsightIDR access; can say yes in every region | 1 |
//! | `GET /idr/v2/investigations` | `size` 1 to 100; wrong numbers, times, orders and values are 400 | unknown parameters ignored; 20 rows, 28 days and `priority,DESC` by default; bounds exclusive to the microsecond; `index` is a page number; pages past the end are empty; late rows appear behind newer ones; ties in arbitrary order; rows without alert time first or last | 2.1, 6.1, 8 |
//! | `POST /idr/v2/investigations/_search` | fields, operators, orders; JSON only | other members of the body ignored | 2.2 |
//! | `GET /idr/v2/investigations/{id}` | 404 when unknown or not visible yet; UUID refused with `multi-customer=true` | | 2.3 |
//! | `GET …/{id}/alerts` | `size` 1 to 100 | empty at first; a late alert appears behind a newer one and leaves the row alone; ids and rules in every shape | 2.4, 6.2, 8 |
//! | `GET …/{id}/rapid7-product-alerts` | | a bare array; a member that is an object or an array, at times both members in one element; alerts that come and change without a sign on the row | 2.5 |
//! | `GET /idr/v1/investigations` | `size` up to 1,000 | `assignee` and `rrn` absent at times | 3 |
//! | `GET /idr/v1/comments?target=` | `target` must be an RRN | `metadata` missing at times; bodies that are null; comments that come late, on closed ones too, and move `last_accessed` only if a user wrote them | 3 |
//! | `GET /idr/v1/restricted/…/evidence` | 403 (or 404) unless the organization has it | JSON in strings, some of it broken | 5 |
//! | `POST /idr/at/alerts/ops/search` | `start_time` needed; at most 6 months | no MITRE codes and less of the rest; totals that move; deep pages that repeat a row, if set those of RRNs alone too; `index` in the body ignored | 4, 6.3 |
//! | `POST /idr/at/alerts/ops/rrns` | 1 to 100 RRNs; `strict` | an order of its own; can be thin | 4 |
//! | `GET /idr/at/alerts/{rrn}` and `/evidences`, `/actors` | 400 for a UUID; 403 (or 404) without the feature | known before or after the investigation lists it; outside investigations worked on for itself, and made part of one later; evidence comes after the alert; `data` in every shape, broken and hostile ones included | 4, 6.4 |
//!
//! What a default world has not, and can be given ([`Oddities`]): evidence and actors that come piece by piece, with totals and
//! versions that move meanwhile (4, 6.3, 6.4); members that are null for one read and absent from another (3, 6.1 to 6.4);
//! comments and product alerts that come to investigations of any age (2.5, 3); investigations of hundreds of alerts that
//! gain more until the end. So can limits for single APIs, and a list that does not know the status `WAITING` (7, 6.1).
//!
//! Control endpoints under `/_simulator/` need no key: `GET truth`, `GET requests`, `GET requests/count`, `GET clock`,
//! `PUT clock` (an RFC 3339 time, or `+1h`), `PUT faults` (a [`FaultProfile`] as JSON), `POST reset`.
//!
//! Not guaranteed: that proportions, timings or limits are those of a real tenant; where the facts are silent (the order of ties,
//! of rows without a time, of unsorted searches), whatever is least convenient was chosen and can partly be set. Writing
//! endpoints do not exist: they are 404 or 405.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

mod api;
mod clock;
mod config;
mod control;
mod fault;
mod gate;
mod gzip;
mod listing;
mod message;
mod moment;
mod oddities;
mod query;
mod refusals;
mod render;
mod rng;
mod server;
mod simulator;
mod truth;
mod world;

pub use config::{
    ApiKey, ClockMode, NullTimes, OrganizationConfig, REGIONS, RateLimit, RateLimitError, RetryAfterForm, Role,
    SimulatorConfig, WorldConfig,
};
pub use fault::{Fault, FaultProfile, ProfileError, Rule};
pub use message::{Outcome, Pace, Reply, Request, RequestRecord};
pub use oddities::Oddities;
pub use server::{Server, serve};
pub use simulator::Simulator;
pub use truth::{
    Truth, TruthAlert, TruthComment, TruthInvestigation, TruthOrganization, TruthProductAlert, TruthVersion,
};
pub use world::{
    AlertId, AlertKind, AlertSpec, Change, InvestigationId, InvestigationSpec, OrganizationId, Person, World,
    WorldError,
};
