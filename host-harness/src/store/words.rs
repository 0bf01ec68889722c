//! UUIDs and times as words of the full-text index.
//!
//! Why: the index takes words apart at every hyphen and colon. A UUID would be five words that nobody else has, a time six
//! of which most say nothing, and these are most of what an artifact of a security product consists of: every second
//! word of the index, and every second of the time it takes. So a UUID is one word here, without its hyphens, and a time
//! two: its day, and its second. A search for `2026-01-15`, for `2026-01-15T11` or for a time with all its digits finds
//! what happened then, which words taken apart do not.
//! Not guaranteed: fractions of a second and offsets are not searched for, nor the inner parts of a UUID. A time is taken
//! as it is written, whatever its offset.

use memchr::memchr_iter;

/// Lengths of the parts of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];

/// A text as it is indexed and searched for.
pub(super) fn indexed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    write_indexed(text, &mut out);
    out
}

/// Adds a text as it is indexed and searched for.
pub(super) fn write_indexed(text: &str, out: &mut String) {
    let mut copied = 0;
    // Shorter than a day there is nothing to look for.
    let hyphens = if text.len() < 10 { "" } else { text };
    for hyphen in memchr_iter(b'-', hyphens.as_bytes()) {
        if hyphen < copied {
            continue;
        }
        let Some(found) = uuid_at(text, hyphen).or_else(|| time_at(text, hyphen)) else { continue };
        let Some(before) = text.get(copied..found.begin) else { continue };
        out.push_str(before);
        found.write(out);
        copied = found.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
}

/// Whether an indexed text ends with a time of day: then what begins with it is meant, for a minute is written without
/// its seconds.
pub(super) fn ends_with_time(indexed: &str) -> bool {
    let last = indexed.rsplit(' ').next().unwrap_or_default();
    let (day, time) = (last.get(..8).unwrap_or_default(), last.get(8..).unwrap_or_default());
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    day.len() == 8 && are_digits(day) && time.strip_prefix('t').is_some_and(are_digits)
}

/// A text that ends with the beginning of a UUID or of a time, as it is indexed up to there.
pub(super) fn beginning(text: &str) -> Option<String> {
    // Longer than all that could be one.
    const FAR: usize = "4be49362-6b0f-4a5b-9bd9-5ae4aef0ea9e".len();
    let first = text.floor_char_boundary(text.len().saturating_sub(FAR));
    let starts = (first..text.len()).filter(|at| {
        text.is_char_boundary(*at)
            && at.checked_sub(1).and_then(|before| text.as_bytes().get(before)).is_none_or(is_separator)
    });
    starts.into_iter().find_map(|at| {
        let (before, begun) = text.split_at(at);
        let word = beginning_of_uuid(begun).or_else(|| beginning_of_time(begun))?;
        Some(format!("{}{word}", indexed(before)))
    })
}

/// A day and the time of day behind it as one time, if they are.
pub(super) fn moment(day: &str, time: &str) -> Option<String> {
    if !matches(day, b"0000-00-00") || !time.get(..3).is_some_and(|hour| matches(hour, b"00:")) {
        return None;
    }
    let moment = format!("{day}T{}", time.trim_end_matches([',', ';', '.']));
    let is_one = match moment.strip_suffix('*') {
        Some(begun) => beginning_of_time(begun).is_some(),
        None => ends_with_time(&indexed(&moment)),
    };
    is_one.then_some(moment)
}

/// The beginning of a time, of more than its year, as the word that it is the beginning of.
fn beginning_of_time(text: &str) -> Option<String> {
    const TIME: &str = "0000-00-00t00:00:00";
    let text = text.to_ascii_lowercase();
    let pattern = TIME.get(..text.len()).filter(|pattern| pattern.len() > "0000".len())?;
    matches(&text, pattern.as_bytes()).then(|| text.replace(['-', ':'], ""))
}

/// The beginning of a UUID, of more than its first part, as the word that it is the beginning of.
fn beginning_of_uuid(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('-').collect();
    let whole = parts.len().checked_sub(1).filter(|whole| (1..UUID.len()).contains(whole))?;
    let fits = |(at, (part, length)): (usize, (&&str, usize))| {
        part.bytes().all(|byte| byte.is_ascii_hexdigit())
            && if at < whole { part.len() == length } else { part.len() <= length }
    };
    parts.iter().zip(UUID).enumerate().all(fits).then(|| parts.concat())
}

/// A UUID or a time in a text.
struct Found<'a> {
    begin: usize,
    end: usize,
    /// The UUID or the day, with its hyphens.
    first: &'a str,
    /// Hours, minutes and seconds of the time of day, as far as they are there.
    time: [&'a str; 3],
}

impl Found<'_> {
    /// Writes the words for it.
    fn write(&self, out: &mut String) {
        let first = || self.first.split('-');
        out.extend(first());
        if !self.time[0].is_empty() {
            out.push(' ');
            out.extend(first());
            out.push('t');
            out.extend(self.time);
        }
    }
}

/// The UUID whose first hyphen is here.
fn uuid_at(text: &str, hyphen: usize) -> Option<Found<'_>> {
    let begin = hyphen.checked_sub(8)?;
    let end = begin + 36;
    let first = text.get(begin..end).filter(|_| stands_alone(text, begin, end))?;
    let has_form = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    first.bytes().enumerate().all(has_form).then_some(Found { begin, end, first, time: [""; 3] })
}

/// The day whose first hyphen is here, with the time of day behind it if there is one.
fn time_at(text: &str, hyphen: usize) -> Option<Found<'_>> {
    let begin = hyphen.checked_sub(4)?;
    let behind = begin + 10;
    let first = text.get(begin..behind).filter(|day| matches(day, b"0000-00-00"))?;
    let space = text.as_bytes().get(behind).copied();
    let mut time = [""; 3];
    let mut end = behind;
    if matches!(space, Some(b'T' | b't' | b' ')) {
        for (at, part) in time.iter_mut().enumerate() {
            let is_separated = at == 0 || text.as_bytes().get(end) == Some(&b':');
            let two = text.get(end + 1..end + 3).filter(|two| is_separated && matches(two, b"00"));
            let Some(two) = two else { break };
            *part = two;
            end += 3;
        }
        end += fraction(text.get(end..).unwrap_or_default());
        end += offset(text.get(end..).unwrap_or_default());
    }
    let is_hour_alone = space == Some(b' ') && time[1].is_empty();
    if is_hour_alone || !stands_alone(text, begin, end) {
        // What begins like a time of day and is none.
        (end, time) = (behind, [""; 3]);
    }
    stands_alone(text, begin, end).then_some(Found { begin, end, first, time })
}

/// The length of a fraction of a second.
fn fraction(text: &str) -> usize {
    let digits = |rest: &str| rest.bytes().take_while(u8::is_ascii_digit).count();
    text.strip_prefix(['.', ',']).map(digits).filter(|digits| *digits > 0).map_or(0, |digits| digits + 1)
}

/// The length of an offset from UTC.
fn offset(text: &str) -> usize {
    if text.starts_with(['Z', 'z']) {
        return 1;
    }
    match text.get(..6) {
        Some(offset) if matches(offset, b"+00:00") || matches(offset, b"-00:00") => 6,
        _ => 0,
    }
}

/// Whether a text has digits where the pattern has zeros, and is the same elsewhere.
fn matches(text: &str, pattern: &[u8]) -> bool {
    let same = |(byte, pattern): (u8, &u8)| if *pattern == b'0' { byte.is_ascii_digit() } else { byte == *pattern };
    text.len() == pattern.len() && text.bytes().zip(pattern).all(same)
}

/// Whether no word goes on before or behind a part of a text.
fn stands_alone(text: &str, begin: usize, end: usize) -> bool {
    let bytes = text.as_bytes();
    begin.checked_sub(1).and_then(|before| bytes.get(before)).is_none_or(is_separator)
        && bytes.get(end).is_none_or(is_separator)
}

/// Whether no word goes on over this byte.
fn is_separator(byte: &u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uuid_is_one_word() {
        let uuid = "4be49362-6b0f-4a5b-9bd9-5ae4aef0ea9e";
        let word = "4be493626b0f4a5b9bd95ae4aef0ea9e";
        for (text, expected) in [
            (uuid.to_owned(), word.to_owned()),
            (
                format!("rrn:investigation:us:{uuid}:investigation:ABC"),
                format!("rrn:investigation:us:{word}:investigation:ABC"),
            ),
            (format!("{uuid} {uuid}"), format!("{word} {word}")),
            (format!("a-{uuid}-b"), format!("a-{word}-b")),
            (format!("{{{}}}", uuid.to_uppercase()), format!("{{{}}}", word.to_uppercase())),
        ] {
            assert_eq!(indexed(&text), expected);
        }
        for other in
            [format!("x{uuid}"), format!("{uuid}0"), format!("ä{uuid}"), format!("{uuid}é"), uuid.replace('e', "g")]
        {
            assert_eq!(indexed(&other), other);
        }
    }

    #[test]
    fn a_time_is_its_day_and_its_second() {
        for (text, expected) in [
            ("2026-01-15T11:59:57.5Z", "20260115 20260115t115957"),
            ("2026-01-15t11:59:57z", "20260115 20260115t115957"),
            ("2026-01-15 11:59:57,123 denied", "20260115 20260115t115957 denied"),
            ("2026-01-15T11:59:57+02:00", "20260115 20260115t115957"),
            ("from 2026-01-15T11:59 to 2026-01-16", "from 20260115 20260115t1159 to 20260116"),
            ("2026-01-15T11", "20260115 20260115t11"),
            ("2026-01-15", "20260115"),
            ("2026-01-15 in the morning", "20260115 in the morning"),
            ("2026-01-15 1", "20260115 1"),
            ("2026-01-15 11 times", "20260115 11 times"),
            ("2026-01-15T", "2026-01-15T"),
            ("2026-01-15T11:59:57x", "2026-01-15T11:59:57x"),
            ("12026-01-15", "12026-01-15"),
            ("2026-01-155", "2026-01-155"),
            ("CVE-2026-0115", "CVE-2026-0115"),
            ("2026-01", "2026-01"),
            ("2026-01-15-x", "20260115-x"),
        ] {
            assert_eq!(indexed(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_time_of_day_stands_for_all_that_begins_with_it() {
        for (text, expected) in [
            ("2026-01-15T11", true),
            ("2026-01-15T11:59", true),
            ("2026-01-15", false),
            ("x", false),
            ("", false),
            ("éééééééét1", false),
        ] {
            assert_eq!(ends_with_time(&indexed(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_uuid_is_recognised_by_its_beginning() {
        assert_eq!(beginning_of_uuid("4be49362-6b").as_deref(), Some("4be493626b"));
        assert_eq!(beginning_of_uuid("4be49362-6b0f-4a5b-9bd9-").as_deref(), Some("4be493626b0f4a5b9bd9"));
        for other in ["4be49362", "4be4936-6b", "4be49362-6b0g", "4be49362-6b0f1", "a-b-c-d-e-f", ""] {
            assert_eq!(beginning_of_uuid(other), None, "{other}");
        }
    }

    #[test]
    fn a_time_is_recognised_by_its_beginning() {
        for (text, expected) in [
            ("2026-", Some("2026")),
            ("2026-0", Some("20260")),
            ("2026-01-", Some("202601")),
            ("2026-01-15", Some("20260115")),
            ("2026-01-15T", Some("20260115t")),
            ("2026-01-15t1", Some("20260115t1")),
            ("2026-01-15T11:59:5", Some("20260115t11595")),
            ("2026-01-14/2026-01-15T1", Some("20260114/20260115t1")),
            ("é:4be49362-6b", Some("é:4be493626b")),
            ("é4be49362-6b", None),
            ("2026", None),
            ("2026-0115", None),
            ("2026-01-15T11:59:57.5", None),
            ("CVE-2026", None),
            ("éé-é", None),
        ] {
            assert_eq!(beginning(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_of_a_text_is_changed(text in prop_oneof![any::<String>(), "[-0-9T: é]{0,40}"]) {
            let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic() && !c.eq_ignore_ascii_case(&'t')).collect::<String>();
            prop_assert_eq!(letters(&indexed(&text)).replace(['Z', 'z'], ""), letters(&text).replace(['Z', 'z'], ""));
        }
    }
}
