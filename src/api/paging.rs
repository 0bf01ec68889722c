//! The envelopes of lists, read strictly.
//!
//! Why strictly: several well-known collectors take `200 {}`, a page of HTML or
//! a cut body for the end of the data and lose everything behind it. Here a
//! list without `data` or `metadata`, with another page than the one asked for,
//! or with fewer rows than its own totals promise is a failure, and moves
//! nothing. Rows themselves stay raw: one odd row must not spoil its page.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::client::Stop;
use super::json::text_of;
use super::records::Members;

/// Rows of a page: the largest the vendor takes.
pub const PAGE_SIZE: u64 = 100;
/// Where the rows of a `/idr/v2` list are.
const DATA: &[&str] = &["data"];

/// A page of a `/idr/v2` list.
#[derive(Debug)]
pub struct Page<'a> {
    /// The rows, raw.
    pub rows: Vec<&'a RawValue>,
    /// Rows of the whole list, as this page says; where it does not, those up to its end.
    pub total_rows: u64,
    /// Whether it says so.
    pub has_totals: bool,
    /// Whether pages may follow: the totals say so, or the page is full, since
    /// totals have been seen to move. Where a page of the Alert Triage API says that it is the last, and its total that this
    /// is the end, none follows.
    pub more: bool,
    /// Whether it says itself that none follows: see [`Pages::behind_the_end`].
    pub says_it_is_last: bool,
    /// What is wrong with its number of rows, if it has fewer than its totals promise: what it has can be used, and what it
    /// lacks may come.
    pub short: Option<String>,
    /// That regions have failed, if some have (`region_failures`, with status 200): of these it has nothing, and may count
    /// nothing.
    pub partial: Option<String>,
}

impl Page<'_> {
    /// The page, if no row is missing.
    ///
    /// # Errors
    ///
    /// How many are.
    pub fn whole(self) -> Result<Self, String> {
        match self.lack() {
            None => Ok(self),
            Some(why) => Err(why.to_owned()),
        }
    }

    /// Why rows may be missing, if they may.
    #[must_use]
    pub fn lack(&self) -> Option<&str> {
        self.partial.as_deref().or(self.short.as_deref())
    }

    /// What is on it, to tell whether the next page is the same one again: under
    /// another number, because a server has lost count.
    fn content(&self) -> u64 {
        self.rows.iter().fold(0, |seed, row| xxhash_rust::xxh64::xxh64(row.get().as_bytes(), seed))
    }
}

/// The pages of a list so far, as far as the next one is judged by them.
#[derive(Debug, Default)]
pub struct Pages {
    last: Option<u64>,
    /// Rows of the whole list, if the last page said that it was the last.
    end: Option<u64>,
}

impl Pages {
    /// Whether a page is the one before again. Those of a list of one page are
    /// not looked at.
    pub fn is_again(&mut self, page: &Page<'_>) -> bool {
        self.note(page);
        if self.last.is_none() && !page.more {
            return false;
        }
        let content = page.content();
        !page.rows.is_empty() && self.last.replace(content) == Some(content)
    }

    /// Notes whether a page says that it is the last.
    pub fn note(&mut self, page: &Page<'_>) {
        self.end = page.says_it_is_last.then_some(page.total_rows);
    }

    /// What the failure of the next page comes to. One is asked for behind a full page although that says that it is the
    /// last, in case its total is wrong: where there is none, the vendor may refuse it, and the list is at its end, with
    /// as many rows as its total says or not.
    ///
    /// # Errors
    ///
    /// The failure, if it is one of a page that is there.
    pub fn behind_the_end(&self, stop: Stop) -> Result<Page<'static>, Stop> {
        match (&stop, self.end) {
            (Stop::Failed(failure), Some(total_rows)) if matches!(failure.http_status, Some(400 | 404)) => Ok(Page {
                rows: Vec::new(),
                total_rows,
                has_totals: true,
                more: false,
                says_it_is_last: true,
                short: None,
                partial: None,
            }),
            _ => Err(stop),
        }
    }
}

/// Reads page `index` of a `/idr/v2` list.
///
/// # Errors
///
/// What is wrong with it, for the operator.
pub fn v2(body: &[u8], index: u64) -> Result<Page<'_>, String> {
    v2_of(body, index, PAGE_SIZE)
}

/// Reads page `index` of a `/idr/v2` list that may lack rows ([`Page::short`]).
///
/// # Errors
///
/// What else is wrong with it, for the operator.
pub fn v2_in_parts(body: &[u8], index: u64) -> Result<Page<'_>, String> {
    Envelope::of(Body::read(body, DATA)?)?.v2(index, PAGE_SIZE)
}

/// Reads page `index` of a `/idr/v2` list in pages of `size` rows.
///
/// # Errors
///
/// What is wrong with it, for the operator.
pub fn v2_of(body: &[u8], index: u64, size: u64) -> Result<Page<'_>, String> {
    Envelope::of(Body::read(body, DATA)?)?.v2(index, size)?.whole()
}

/// Reads page `index` of the evidence or the actors of an alert. It may lack rows ([`Page::lack`]).
///
/// # Errors
///
/// What else is wrong with it, for the operator.
pub fn triage(body: &[u8], index: u64) -> Result<Page<'_>, String> {
    triage_in_parts(body, index, &["data", "evidences", "actors"])
}

/// Reads page `index` of the RRNs that a search of the Alert Triage API found. It may lack rows ([`Page::lack`]).
///
/// # Errors
///
/// What else is wrong with it, for the operator.
pub fn triage_rrns(body: &[u8], index: u64) -> Result<Page<'_>, String> {
    triage_in_parts(body, index, &["rrns"])
}

fn triage_in_parts<'a>(body: &'a [u8], index: u64, names: &[&str]) -> Result<Page<'a>, String> {
    let page = Envelope::in_parts(Body::read(body, names)?)?;
    let more = page.metadata.text("is_last_index").ok_or("no `is_last_index`")? != "true";
    let total_rows = page.number("total_items")?;
    let is_end = !more && total_rows == page.rows_so_far(index, PAGE_SIZE);
    let page = page.checked(total_rows, more, index, PAGE_SIZE)?;
    Ok(Page { more: page.more && !is_end, ..page })
}

/// Reads a page of comments: some have no `metadata`.
///
/// # Errors
///
/// What is wrong with it, for the operator.
pub fn comments(body: &[u8], index: u64, size: u64) -> Result<Page<'_>, String> {
    let body = Body::read(body, DATA)?;
    if body.members.object("metadata").is_some() {
        return Envelope::of(body)?.v2(index, size)?.whole();
    }
    whole(&body.members)?;
    let rows = body.rows?;
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    Ok(Page {
        rows,
        total_rows: count,
        has_totals: false,
        more: count >= size,
        says_it_is_last: false,
        short: None,
        partial: None,
    })
}

/// Reads a list that is nothing but an array.
///
/// # Errors
///
/// What is wrong with it, for the operator.
pub fn bare(body: &[u8]) -> Result<Vec<&RawValue>, String> {
    serde_json::from_str(utf8(body)?).map_err(|error| format!("not a JSON array: {error}"))
}

/// Reads a list without pages under the first of these names that is there.
///
/// # Errors
///
/// What is wrong with it, for the operator. Partial data is wrong too.
pub fn listed<'a>(body: &'a [u8], names: &[&str]) -> Result<Vec<&'a RawValue>, String> {
    match listed_in_parts(body, names)? {
        (rows, None) => Ok(rows),
        (_, Some(partial)) => Err(partial),
    }
}

/// The same of a list that may lack what regions have that have failed, and whether some have: what it has can be used.
///
/// # Errors
///
/// What else is wrong with it, for the operator.
pub fn listed_in_parts<'a>(body: &'a [u8], names: &[&str]) -> Result<(Vec<&'a RawValue>, Option<String>), String> {
    let body = Body::read(body, names)?;
    let partial = whole(&body.members).err();
    Ok((body.rows?, partial))
}

/// Refuses partial data, which comes with status 200.
fn whole(members: &Members<'_>) -> Result<(), String> {
    match members.list("region_failures").len() {
        0 => Ok(()),
        failures => Err(format!("partial data, {failures} region(s) failed")),
    }
}

fn utf8(body: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(body).map_err(|_| "text that is not UTF-8".to_owned())
}

/// A page as it was sent: its rows, and its other members. Read in one go: most of what a poll without anything new costs
/// is going over bytes.
struct Body<'a> {
    /// What is under the first of the names that is there and not null, or that
    /// none is.
    rows: Result<Vec<&'a RawValue>, String>,
    /// Everything that is not under one of the names.
    members: Members<'a>,
}

impl<'a> Body<'a> {
    /// Reads a page whose rows are under one of these names.
    fn read(body: &'a [u8], names: &[&str]) -> Result<Self, String> {
        let mut deserializer = serde_json::Deserializer::from_str(utf8(body)?);
        let read = Named(names).deserialize(&mut deserializer);
        read.and_then(|body| deserializer.end().map(|()| body))
            .map_err(|error| format!("not the JSON of a page: {error}"))
    }
}

/// The names that rows may be under.
struct Named<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Body<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Body<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let mut rows: Option<(usize, Vec<&'de RawValue>)> = None;
        while let Some(name) = map.next_key::<&'de RawValue>()? {
            let name = text_of(name.get());
            let Some(at) = self.0.iter().position(|known| *known == name) else {
                members.push(name, map.next_value::<&'de RawValue>()?.into());
                continue;
            };
            // Null is as good as absent.
            if let Some(list) = map.next_value()?
                && rows.as_ref().is_none_or(|(best, _)| at <= *best)
            {
                rows = Some((at, list));
            }
        }
        let missing = || format!("no `{}`", self.0.join("` or `"));
        Ok(Body { rows: rows.map(|(_, list)| list).ok_or_else(missing), members })
    }
}

/// A page: its rows and its `metadata`.
struct Envelope<'a> {
    rows: Vec<&'a RawValue>,
    metadata: Members<'a>,
    /// See [`Page::partial`].
    partial: Option<String>,
}

impl<'a> Envelope<'a> {
    fn of(body: Body<'a>) -> Result<Self, String> {
        // Without totals nothing else would tell that rows are missing.
        whole(&body.members)?;
        Self::in_parts(body)
    }

    fn in_parts(body: Body<'a>) -> Result<Self, String> {
        let partial = whole(&body.members).err();
        let metadata = body.members.object("metadata").ok_or("no `metadata`")?;
        Ok(Self { rows: body.rows?, metadata, partial })
    }

    /// A whole number of the metadata.
    fn number(&self, key: &str) -> Result<u64, String> {
        self.metadata.text(key).and_then(|text| text.parse().ok()).ok_or_else(|| format!("no `{key}`"))
    }

    /// The same, if it is there.
    fn stated(&self, key: &str) -> Result<Option<u64>, String> {
        self.metadata.text(key).is_some().then(|| self.number(key)).transpose()
    }

    /// Rows up to the end of this page, which is the `asked`.
    fn rows_so_far(&self, asked: u64, size: u64) -> u64 {
        asked.saturating_mul(size).saturating_add(u64::try_from(self.rows.len()).unwrap_or(u64::MAX))
    }

    /// The page of a `/idr/v2` list. `size` of the metadata is not looked at: the vendor sometimes gives the rows returned
    /// instead of the rows asked for. It gives totals "if possible": either of them does, and without any the list ends
    /// with a page that is not full.
    fn v2(self, asked: u64, size: u64) -> Result<Page<'a>, String> {
        let (total_pages, total_data) = (self.stated("total_pages")?, self.stated("total_data")?);
        let (so_far, full) = (self.rows_so_far(asked, size), asked.saturating_add(1).saturating_mul(size));
        let (total_rows, more) = match (total_data, total_pages) {
            (Some(rows), None) => (rows, full < rows),
            (Some(rows), Some(pages)) => (rows, asked.saturating_add(1) < pages),
            // A page with others behind it is full.
            (None, Some(pages)) if asked.saturating_add(1) < pages => (full, true),
            (None, _) => (so_far, false),
        };
        let is_told = total_data.is_some() || total_pages.is_some();
        let page = self.checked(total_rows, more, asked, size)?;
        Ok(Page { has_totals: total_data.is_some(), says_it_is_last: is_told && page.says_it_is_last, ..page })
    }

    /// The page, after the checks that all pages share.
    fn checked(self, total_rows: u64, more: bool, asked: u64, size: u64) -> Result<Page<'a>, String> {
        let given = self.number("index")?;
        if given != asked {
            return Err(format!("page {given} instead of page {asked}"));
        }
        let rows = u64::try_from(self.rows.len()).unwrap_or(u64::MAX);
        let promised = total_rows.saturating_sub(asked.saturating_mul(size)).min(size);
        let short = (rows < promised).then(|| format!("{rows} rows where its totals promise {promised}"));
        if more && rows == 0 {
            return Err("an empty page with pages behind it".to_owned());
        }
        let (partial, says_it_is_last, more) = (self.partial, !more, more || rows >= size);
        Ok(Page { rows: self.rows, total_rows, has_totals: true, more, says_it_is_last, short, partial })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_its_rows_raw() {
        let body =
            br#"{"data":[{"rrn":"a","n":1.0},null],"metadata":{"index":0,"size":2,"total_pages":1,"total_data":2}}"#;
        let page = v2(body, 0).unwrap();
        assert_eq!(page.rows.iter().map(|row| row.get()).collect::<Vec<_>>(), [r#"{"rrn":"a","n":1.0}"#, "null"]);
        assert!(!page.more);
    }

    #[test]
    fn what_is_no_page_is_a_failure_that_says_why() {
        for (body, why) in [
            ("", "EOF"),
            ("{}", "no `metadata`"),
            ("<html>", "expected value"),
            (r#"{"data":null,"metadata":{"total_pages":1}}"#, "no `data`"),
            (r#"{"data":[]}"#, "no `metadata`"),
            (r#"{"data":[],"metadata":{"index":0,"total_pages":-1,"total_data":0}}"#, "no `total_pages`"),
            (r#"{"data":[{"a":1}],"metadata":{"index":0"#, "EOF"),
            (r#"{"data":[],"metadata":{"index":1,"total_pages":1,"total_data":0}}"#, "page 1 instead of page 0"),
            (r#"{"data":[],"metadata":{"index":0,"total_pages":1,"total_data":"x"}}"#, "no `total_data`"),
            (r#"{"data":[1],"metadata":{"index":0,"total_data":2}}"#, "1 rows where its totals promise 2"),
            (r#"{"data":[1],"metadata":{"index":0,"total_pages":2}}"#, "1 rows where its totals promise 100"),
            (r#"{"data":[],"metadata":{"index":1}}"#, "page 1 instead of page 0"),
            (r#"{"data":[],"metadata":{}}"#, "no `index`"),
            (
                r#"{"data":[1],"metadata":{"index":0,"total_pages":1,"total_data":2}}"#,
                "1 rows where its totals promise 2",
            ),
            (r#"{"data":[],"metadata":{"index":0,"total_pages":2,"total_data":0}}"#, "empty page"),
        ] {
            let error = v2(body.as_bytes(), 0).unwrap_err();
            assert!(error.contains(why), "{body}: {error}");
        }
        assert!(v2(b"{\"data\":[\"\xff\"],\"metadata\":{}}", 0).is_err());
    }

    #[test]
    fn a_deep_row_is_only_a_row() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = format!(r#"{{"data":[{deep}],"metadata":{{"index":0,"total_pages":1,"total_data":1}}}}"#);
        assert_eq!(v2(body.as_bytes(), 0).unwrap().rows.len(), 1);
    }

    #[test]
    fn partial_data_is_a_failure_of_any_list_that_has_no_other_way_to_tell() {
        let bad = br#"{"data":[1],"region_failures":[{"region":"us"}],"metadata":{"index":0}}"#;
        assert!(v2(bad, 0).unwrap_err().contains("partial data"));
        assert!(v2_in_parts(bad, 0).unwrap_err().contains("partial data"));
        assert!(comments(bad, 0, 2).is_err());
        assert!(comments(br#"{"data":[1],"region_failures":[{}]}"#, 0, 2).is_err());
    }

    #[test]
    fn partial_triage_data_is_told_beside_what_there_is() {
        let good = r#"{"evidences":[1],"metadata":{"index":0,"size":100,"items_in_index":1,"total_items":1,"is_last_index":true}}"#;
        let page = triage(good.as_bytes(), 0).unwrap();
        assert_eq!((page.rows.len(), page.lack()), (1, None));
        let bad = r#"{"evidences":[1],"region_failures":[{"region":"us"}],"metadata":{"index":0,"total_items":2,"is_last_index":true}}"#;
        let page = triage(bad.as_bytes(), 0).unwrap();
        assert!(page.rows.len() == 1 && page.lack().unwrap().contains("partial data") && page.short.is_some());
        assert!(triage(br#"{"metadata":{"index":0,"total_items":1,"is_last_index":true}}"#, 0).is_err());
        let bad = br#"{"alerts":[1],"region_failures":[{}]}"#;
        assert!(matches!(listed_in_parts(bad, &["alerts"]), Ok((rows, Some(_))) if rows.len() == 1));
    }

    #[test]
    fn rows_are_under_the_first_name_that_is_there_wherever_it_stands() {
        let names = ["alerts", "data"];
        for (body, rows) in [
            (r#"{"data":[1,2],"alerts":[3]}"#, vec!["3"]),
            (r#"{"alerts":[3],"data":[1,2]}"#, vec!["3"]),
            (r#"{"alerts":null,"data":[1,2]}"#, vec!["1", "2"]),
            (r#"{"data":[1,2],"alerts":null}"#, vec!["1", "2"]),
            (r#"{"alerts":[3],"alerts":[4]}"#, vec!["4"]),
        ] {
            let read = listed(body.as_bytes(), &names).unwrap();
            assert_eq!(read.iter().map(|row| row.get()).collect::<Vec<_>>(), rows, "{body}");
        }
    }

    #[test]
    fn lists_without_pages_are_as_strict() {
        assert_eq!(bare(b"[{},7]").unwrap().len(), 2);
        for body in ["{}", "", "null", "<html>", "[1", "[1]x"] {
            assert!(bare(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(listed(br#"{"alerts":[1],"region_failures":[]}"#, &["alerts"]).unwrap().len(), 1);
        for body in [r#"{"alerts":[1],"region_failures":[{}]}"#, "{}", "[]", r#"{"alerts":{}}"#] {
            assert!(listed(body.as_bytes(), &["alerts"]).is_err(), "{body}");
        }
    }

    #[test]
    fn comments_come_with_and_without_metadata() {
        assert!(comments(br#"{"data":[1,2]}"#, 0, 2).unwrap().more, "a full page is never taken for the last");
        assert!(!comments(br#"{"data":[1]}"#, 0, 2).unwrap().more);
        let with = br#"{"data":[1],"metadata":{"index":0,"total_pages":1,"total_data":2}}"#;
        assert!(comments(with, 0, 2).is_err(), "totals that are there count");
        assert!(comments(b"{}", 0, 2).is_err());
    }
}
