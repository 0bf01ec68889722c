//! Records as the JSON that the vendor would send.
//!
//! Text is made from seeds when it is asked for and is the same every time. What a test pinned verbatim is passed on
//! byte for byte, numbers beyond 2^53 and unknown members included; a whole page is put together as text for that reason.

pub(crate) mod alert;
pub(crate) mod evidence;
pub(crate) mod investigation;
pub(crate) mod legacy;
pub(crate) mod product;
pub(crate) mod triage;

use bytes::Bytes;
use serde_json::Value;

/// The value as bytes on one line.
pub(crate) fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// JSON texts as an array.
pub(crate) fn array<T: AsRef<[u8]>>(items: &[T]) -> Vec<u8> {
    let length: usize = items.iter().map(|item| item.as_ref().len() + 1).sum();
    let mut out = Vec::with_capacity(length + 2);
    out.push(b'[');
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item.as_ref());
    }
    out.push(b']');
    out
}

/// An object whose first member is an array of JSON texts, followed by the members of `rest`, which is an object.
pub(crate) fn page<T: AsRef<[u8]>>(member: &str, items: &[T], rest: &Value) -> Bytes {
    let mut out = format!("{{\"{member}\":").into_bytes();
    out.extend_from_slice(&array(items));
    let rest = rest.to_string();
    match rest.strip_prefix('{') {
        Some("}") | None => out.push(b'}'),
        Some(members) => {
            out.push(b',');
            out.extend_from_slice(members.as_bytes());
        }
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_keep_their_items_byte_for_byte() {
        let items = [r#"{"n":123456789012345678901234567890}"#, "{ }"];
        assert_eq!(
            page("data", &items, &json!({"metadata": {"a": 1}})),
            r#"{"data":[{"n":123456789012345678901234567890},{ }],"metadata":{"a":1}}"#
        );
        assert_eq!(page::<&str>("data", &[], &json!({})), r#"{"data":[]}"#);
    }
}
