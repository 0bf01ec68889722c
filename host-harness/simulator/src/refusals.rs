//! What is said to those who may not pass: no key, the wrong region, one request too many (facts, section 7).

use http::StatusCode;
use time::{Duration, OffsetDateTime};

use crate::config::{RetryAfterForm, SimulatorConfig};
use crate::gate::{Access, Allowance};
use crate::message::Reply;

/// What is said to whoever may not pass the gate.
pub(crate) fn refused(
    config: &SimulatorConfig,
    access: Access<'_>,
    method: &str,
    path: &str,
    correlation: &str,
) -> Reply {
    match access {
        Access::Unauthorized => Reply::error(StatusCode::UNAUTHORIZED, "Unauthorized", None),
        Access::WrongRegion if config.validate_anywhere && method == "GET" && path == "/validate" => {
            Reply::json(r#"{"message":"Authorized"}"#)
        }
        Access::WrongRegion => {
            let status = StatusCode::from_u16(config.wrong_region_status).unwrap_or(StatusCode::NOT_FOUND);
            match status {
                StatusCode::UNAUTHORIZED => Reply::error(status, "Unauthorized", None),
                StatusCode::NOT_FOUND => Reply::error(status, "Entity Not Found", Some(correlation)),
                other => Reply::error(other, other.canonical_reason().unwrap_or("Error"), Some(correlation)),
            }
        }
        Access::NoSuchHost | Access::Granted(_) => {
            Reply::error(StatusCode::NOT_FOUND, "Entity Not Found", Some(correlation))
        }
    }
}

/// The answer to one request too many; every third one has a body that is not JSON.
pub(crate) fn too_many(
    form: RetryAfterForm,
    spent: Allowance,
    now: OffsetDateTime,
    sequence: u64,
    correlation: &str,
) -> Reply {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut reply = if sequence.is_multiple_of(3) {
        Reply::with_type(status, "text/plain", "Too Many Requests\n")
    } else {
        Reply::error(status, "API rate limit exceeded", Some(correlation))
    };
    match form {
        RetryAfterForm::Absent => {}
        RetryAfterForm::Seconds => reply.set("retry-after", &spent.reset.to_string()),
        RetryAfterForm::HttpDate => {
            let after = Duration::seconds(i64::try_from(spent.reset).unwrap_or(0));
            reply.set("retry-after", &http_date(now.checked_add(after).unwrap_or(now)));
        }
    }
    reply
}

/// `Thu, 15 Jan 2026 12:00:00 GMT`.
pub(crate) fn http_date(at: OffsetDateTime) -> String {
    let weekday = at.weekday().to_string();
    let month = at.month().to_string();
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        weekday.get(..3).unwrap_or_default(),
        at.day(),
        month.get(..3).unwrap_or_default(),
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_have_their_form() {
        let at = OffsetDateTime::from_unix_timestamp(1_768_478_405).unwrap();
        assert_eq!(http_date(at), "Thu, 15 Jan 2026 12:00:05 GMT");
    }
}
