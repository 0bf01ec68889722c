//! Query parameters, read as strictly and as carelessly as the vendor reads them.
//!
//! A parameter that is known and wrong is a 400 with a message. A parameter that is unknown is ignored without a word
//! (facts 2.1: `status=` instead of `statuses=` returns unfiltered data). `+` means a blank, as in every query, so a
//! time with an unencoded offset is a 400.

use http::StatusCode;
use time::{Duration, OffsetDateTime};

use crate::listing::{Field, Selection};
use crate::moment::{Micros, parse};

/// The default window of the v2 list and of the search (facts 2.1).
pub(crate) const DEFAULT_WINDOW: Duration = Duration::days(28);

/// A refusal: status and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    /// 400 with this message.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// 404 in the vendor's words.
    pub(crate) fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, message: "Entity Not Found".to_owned() }
    }

    /// 403 in the vendor's words.
    pub(crate) fn forbidden() -> Self {
        Self { status: StatusCode::FORBIDDEN, message: "Insufficient Permissions".to_owned() }
    }
}

/// The decoded parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// A page: its number from 0 and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) index: u64,
    pub(crate) size: u64,
}

impl Page {
    /// The part of the items that the page shows; nothing past the end.
    pub(crate) fn of<'a, T>(&self, items: &'a [T]) -> &'a [T] {
        let from = self.index.saturating_mul(self.size).min(items.len() as u64);
        let to = from.saturating_add(self.size).min(items.len() as u64);
        items.get(from as usize..to as usize).unwrap_or_default()
    }
}

impl Query {
    /// Decodes a raw query.
    pub(crate) fn new(raw: &str) -> Self {
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Replaces every value of a parameter.
    pub(crate) fn replace(&mut self, name: &str, value: String) {
        self.0.retain(|(own, _)| own != name);
        self.0.push((name.to_owned(), value));
    }

    /// The comma list of a parameter; repeated parameters are joined, empty parts dropped.
    fn list(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(own, _)| own == name);
        values.flat_map(|(_, value)| value.split(',')).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// A comma list of which every part has to be one of these.
    fn choices(&self, name: &'static str, allowed: &[&str]) -> Result<Vec<String>, Refusal> {
        let mut list = self.list(name);
        if let Some(wrong) = list.iter().find(|part| !allowed.contains(&part.as_str())) {
            return Err(Refusal::bad(format!(
                "Invalid value '{wrong}' for parameter {name}; allowed: {}",
                allowed.join(", ")
            )));
        }
        list.sort_unstable();
        Ok(list)
    }

    /// A boolean: `true` or `false`.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Refusal> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                Err(Refusal::bad(format!("Invalid value '{other}' for parameter {name}; allowed: true, false")))
            }
        }
    }

    /// `index` and `size`, with the most that the endpoint allows.
    pub(crate) fn page(&self, default: u64, most: u64) -> Result<Page, Refusal> {
        let number = |name: &str, default: u64| match self.get(name) {
            None => Ok(default),
            Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text
                .parse::<u64>()
                .ok()
                .filter(|number| *number <= i32::MAX as u64)
                .ok_or_else(|| Refusal::bad(format!("Parameter {name} is out of range: {text}"))),
            Some(text) => Err(Refusal::bad(format!("Parameter {name} must be a non-negative integer: {text}"))),
        };
        let page = Page { index: number("index", 0)?, size: number("size", default)? };
        if page.size < 1 || page.size > most {
            return Err(Refusal::bad(format!("size must be between 1 and {most}")));
        }
        Ok(page)
    }

    /// A time.
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<OffsetDateTime>, Refusal> {
        self.get(name).map(|text| read_time(name, text)).transpose()
    }

    /// The window that `start_time` and `end_time` make.
    pub(crate) fn window(&self, default: Option<Duration>, now: OffsetDateTime) -> Result<(Micros, Micros), Refusal> {
        window(self.time("start_time")?, self.time("end_time")?, default, now)
    }

    /// The selection that the v2 list makes of its parameters.
    pub(crate) fn selection(&self, organizations: Vec<u32>, knows_waiting: bool) -> Result<Selection, Refusal> {
        let former: &[&str] = &["OPEN", "INVESTIGATING", "CLOSED"];
        let statuses = if knows_waiting { &["OPEN", "INVESTIGATING", "WAITING", "CLOSED"] } else { former };
        let (order, descending) = match self.get("sort") {
            None => (Field::Priority, true),
            Some(text) => sort(text)?,
        };
        let mut tags = self.list("tags");
        tags.sort_unstable();
        Ok(Selection {
            organizations,
            statuses: self.choices("statuses", statuses)?,
            sources: self.choices("sources", &["USER", "ALERT", "MANUAL", "HUNT", "AUTOMATION"])?,
            priorities: self.choices("priorities", &["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNSPECIFIED"])?,
            email: self.get("assignee.email").map(str::to_owned),
            tags,
            search: Vec::new(),
            order,
            descending,
        })
    }

    /// The selection that the v1 list makes: newest first.
    pub(crate) fn selection_v1(&self, organizations: Vec<u32>) -> Result<Selection, Refusal> {
        Ok(Selection {
            organizations,
            statuses: self.choices("statuses", &["OPEN", "INVESTIGATING", "CLOSED"])?,
            sources: Vec::new(),
            priorities: Vec::new(),
            email: None,
            tags: Vec::new(),
            search: Vec::new(),
            order: Field::Created,
            descending: true,
        })
    }
}

/// A time in a query or a body.
pub(crate) fn read_time(name: &str, text: &str) -> Result<OffsetDateTime, Refusal> {
    parse(text).ok_or_else(|| {
        Refusal::bad(format!(
            "{name} must be an ISO 8601 date and time with an offset, such as 2026-01-15T12:00:00Z: {text}"
        ))
    })
}

/// Exclusive bounds, rounded outwards to the microsecond, which changes nothing for instants of whole microseconds.
/// Without a start, the default window before *now* begins, whatever the end.
pub(crate) fn window(
    start: Option<OffsetDateTime>,
    end: Option<OffsetDateTime>,
    default: Option<Duration>,
    now: OffsetDateTime,
) -> Result<(Micros, Micros), Refusal> {
    let bounded = |micros: i128| i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX });
    let before = end.map_or_else(|| now.unix_timestamp_nanos() + 1, OffsetDateTime::unix_timestamp_nanos);
    let after = match (start, default) {
        (Some(start), _) => start.unix_timestamp_nanos(),
        (None, Some(window)) => (now - window).unix_timestamp_nanos(),
        (None, None) => i128::MIN,
    };
    if start.is_some() && end.is_some() && after > before {
        return Err(Refusal::bad("start_time must be before end_time"));
    }
    Ok((bounded(after.div_euclid(1_000)), bounded((before + 999).div_euclid(1_000))))
}

/// `field,DIRECTION`.
fn sort(text: &str) -> Result<(Field, bool), Refusal> {
    let wrong =
        || Refusal::bad(format!("sort must be FIELD,ASC or FIELD,DESC with one of the documented fields: {text}"));
    let (field, direction) = text.split_once(',').ok_or_else(wrong)?;
    let descending = match direction {
        "ASC" => false,
        "DESC" => true,
        _ => return Err(wrong()),
    };
    Ok((Field::named(field).ok_or_else(wrong)?, descending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(raw: &str) -> Result<(Selection, (Micros, Micros)), Refusal> {
        let now = OffsetDateTime::from_unix_timestamp(1_768_478_400).unwrap();
        let query = Query::new(raw);
        query.page(20, 100)?;
        query.flag("multi-customer")?;
        Ok((query.selection(vec![0], true)?, query.window(Some(DEFAULT_WINDOW), now)?))
    }

    #[test]
    fn wrong_values_of_known_parameters_are_refused() {
        for raw in [
            "size=101",
            "size=0",
            "size=-1",
            "size=+5",
            "size=ten",
            "size=",
            "index=-1",
            "index=1.0",
            "index=99999999999",
            "statuses=open",
            "statuses=OPEN,DONE",
            "sources=EMAIL",
            "priorities=UNMAPPED",
            "sort=created_time",
            "sort=created_time,asc",
            "sort=title,ASC",
            "sort=created_time,ASC,rrn,ASC",
            "start_time=2026-01-01",
            "start_time=2026-01-01T00:00:00",
            "start_time=2026-01-01T00:00:00+00:00",
            "end_time=yesterday",
            "start_time=1768478400000",
            "start_time=2026-01-02T00:00:00Z&end_time=2026-01-01T00:00:00Z",
            "multi-customer=yes",
        ] {
            let refusal = select(raw).expect_err(raw);
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            assert!(!refusal.message.is_empty());
        }
    }

    #[test]
    fn unknown_parameters_change_nothing() {
        let plain = select("").unwrap();
        for raw in ["status=OPEN", "assignee_email=x@example.com", "sort_field=rrn", "filter=a", "Size=5000", "limit=1"]
        {
            assert_eq!(select(raw).unwrap(), plain, "{raw}");
        }
    }

    #[test]
    fn the_defaults_hide_data() {
        let (selection, (after, before)) = select("").unwrap();
        assert_eq!((selection.order, selection.descending), (Field::Priority, true));
        assert_eq!(before - after, 28 * crate::moment::DAY + 1);
        assert_eq!(Query::new("").page(20, 100).unwrap(), Page { index: 0, size: 20 });
    }

    #[test]
    fn an_encoded_offset_is_accepted() {
        let plain = select("start_time=2026-01-01T00:00:00.000001Z").unwrap();
        let offset = select("start_time=2026-01-01T01:00:00.000001%2B01:00").unwrap();
        assert_eq!(plain.1, offset.1);
    }

    #[test]
    fn pages_past_the_end_are_empty() {
        let items = [1, 2, 3];
        assert_eq!(Page { index: 0, size: 2 }.of(&items), [1, 2]);
        assert_eq!(Page { index: 1, size: 2 }.of(&items), [3]);
        assert!(Page { index: 2, size: 2 }.of(&items).is_empty());
        assert!(Page { index: u64::MAX, size: 100 }.of(&items).is_empty());
    }
}
