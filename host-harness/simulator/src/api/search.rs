//! `POST /idr/v2/investigations/_search` (facts 2.2).
//!
//! Fields, operators and orders that the call does not have are 400s; members of the body that it does not have are
//! ignored. The default window and order are those of the list.

use serde_json::{Map, Value};

use super::{Call, investigations};
use crate::listing::{Criterion, Field, Selection};
use crate::message::Reply;
use crate::query::{DEFAULT_WINDOW, Refusal, read_time, window};

/// Fields that can be searched with `EQUALS` and `IN`.
const EXACT: [&str; 8] =
    ["alert_mitre_t_codes", "alert_rule_rrn", "assignee_id", "organization_id", "priority", "rrn", "source", "status"];
/// Fields that can be searched with `CONTAINS` as well.
const TEXT: [&str; 3] = ["actor_asset_hostname", "actor_user_name", "title"];

/// Answers the search.
pub(super) fn search(call: &Call<'_>) -> Result<Reply, Refusal> {
    let page = call.query.page(20, 100)?;
    let organizations = call.scope()?;
    let body = call.json_body()?;
    let time = |name: &'static str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => read_time(name, text).map(Some),
        Some(_) => Err(Refusal::bad(format!("{name} must be a string"))),
    };
    let window = window(time("start_time")?, time("end_time")?, Some(DEFAULT_WINDOW), call.now)?;
    let search = objects(&body, "search")?.into_iter().map(criterion).collect::<Result<_, _>>()?;
    let (order, descending) = match objects(&body, "sort")?.first() {
        None => (Field::Priority, true),
        Some(sort) => order(sort)?,
    };
    let selection = Selection {
        organizations,
        statuses: Vec::new(),
        sources: Vec::new(),
        priorities: Vec::new(),
        email: None,
        tags: Vec::new(),
        search,
        order,
        descending,
    };
    investigations::rows(call, &selection, window, page)
}

/// The objects in an array of the body; a missing array is empty.
pub(super) fn objects<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Vec<&'a Map<String, Value>>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_object().ok_or_else(|| Refusal::bad(format!("{name} must hold objects"))))
            .collect(),
        Some(_) => Err(Refusal::bad(format!("{name} must be an array"))),
    }
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn order(sort: &Map<String, Value>) -> Result<(Field, bool), Refusal> {
    let (field, order) = (text(sort, "field"), text(sort, "order"));
    let wrong = || Refusal::bad(format!("sort needs a documented field and the order ASC or DESC: {field} {order}"));
    let descending = match order {
        "ASC" => false,
        "DESC" => true,
        _ => return Err(wrong()),
    };
    Ok((Field::named(field).filter(|field| *field != Field::Responsibility).ok_or_else(wrong)?, descending))
}

fn criterion(search: &Map<String, Value>) -> Result<Criterion, Refusal> {
    let (field, operator) = (text(search, "field"), text(search, "operator"));
    if !EXACT.contains(&field) && !TEXT.contains(&field) {
        return Err(Refusal::bad(format!("Field '{field}' cannot be searched")));
    }
    let value = search.get("value");
    let single = || value.and_then(Value::as_str).map(str::to_owned);
    let made = match operator {
        "EQUALS" => single().map(|value| Criterion::Equals(field.to_owned(), vec![value])),
        "CONTAINS" if TEXT.contains(&field) => single().map(|value| Criterion::Contains(field.to_owned(), value)),
        "IN" => value.and_then(Value::as_array).and_then(|values| {
            let values: Option<Vec<String>> = values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
            values.map(|values| Criterion::Equals(field.to_owned(), values))
        }),
        _ => {
            return Err(Refusal::bad(format!("Operator '{operator}' does not apply to field '{field}'")));
        }
    };
    made.ok_or_else(|| Refusal::bad(format!("Operator {operator} on field {field} has an unusable value")))
}
