//! The vulnerability that a rule or a title names.

/// The first id of a vulnerability in these texts, each tried in order: `CVE-`,
/// the year and a number of at least four digits, upper case.
pub(super) fn first_in(texts: &[Option<&str>]) -> Option<String> {
    texts.iter().copied().flatten().find_map(id_in)
}

/// The first one in a text.
fn id_in(text: &str) -> Option<String> {
    // Long titles are written by attackers: the start is enough.
    let text = crate::text::cut(text, 1_024);
    // In most there is not even a `cve`: letters are looked at once.
    text.as_bytes().windows(4).enumerate().filter(|(_, word)| word.eq_ignore_ascii_case(b"cve-")).find_map(|(at, _)| {
        let is_inside = text.get(..at)?.chars().next_back().is_some_and(char::is_alphanumeric);
        let (year, rest) = text.get(at + 4..)?.split_once('-')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let is_year = year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
        (!is_inside && is_year && (4..=19).contains(&digits))
            .then(|| format!("CVE-{year}-{}", rest.get(..digits).unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_as_people_write_it_and_nothing_else_is() {
        for (text, id) in [
            ("Exploit - CVE-2021-44228 Log4Shell", Some("CVE-2021-44228")),
            ("[cve-2023-1234567], seen again", Some("CVE-2023-1234567")),
            ("CVE-x CVE-2020-0601", Some("CVE-2020-0601")),
            ("ü CVE-2020-0601ü", Some("CVE-2020-0601")),
            ("CVE-2021-442", None),
            ("CVE-21-44228", None),
            ("XCVE-2021-44228", None),
            ("CVE-", None),
            ("", None),
        ] {
            assert_eq!(id_in(text).as_deref(), id, "{text}");
        }
        assert_eq!(first_in(&[None, Some("no"), Some("CVE-2020-0601")]).as_deref(), Some("CVE-2020-0601"));
    }
}
