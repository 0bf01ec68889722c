//! The InsightIDR REST API, as far as a collector reads it.
//!
//! - [`transport`]: the two things the outside must provide, HTTP and clocks;
//! - [`client`]: one request: budget, allowance, retries, answer to failure;
//! - `families`: kinds of requests, each of which fails for itself;
//! - [`rate`]: the rate headers;
//! - [`errors`]: failures with the remedies of the operator's guide;
//! - [`paging`]: the envelopes of lists, read strictly;
//! - [`records`]: the members of records that the collection needs;
//! - [`calls`]: the endpoints.

pub mod calls;
pub mod client;
pub mod errors;
mod families;
pub mod json;
pub mod paging;
pub mod rate;
pub mod records;
pub mod transport;
