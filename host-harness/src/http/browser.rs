//! The page for browsers.
//!
//! What: `/`, a page that shows the status of all instances and searches the artifacts, and the two files it needs. They
//! are part of the program and hold nothing of anybody's; what is shown the page asks of `/status` and `/artifacts`, under their rules.
//! Why no token for the files: a browser that is given an address sends none. The page asks for it and keeps it in memory.
//! Why so strict a policy: everything that is shown was written by vendors, by connectors or by who sent somebody an
//! alert. The page makes text of it and nothing else; should it ever fail to, no other script runs, nothing is sent elsewhere, and
//! no other page can hold it in a frame.
//! Not guaranteed: that browsers without `light-dark` in their styles (before 2024) show its colours.

use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};

use super::pages::{Answer, answer};

/// What the page may do: run its own script, use its own style, and ask its own host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The file at a path, if there is one.
pub(super) fn file(path: &str) -> Option<Answer> {
    let (kind, body) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("browser/page.html")),
        "/page.css" => ("text/css; charset=utf-8", include_str!("browser/page.css")),
        "/page.js" => ("text/javascript; charset=utf-8", include_str!("browser/page.js")),
        _ => return None,
    };
    let mut answer = answer(StatusCode::OK, kind, body.to_owned());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    Some(answer)
}

#[cfg(test)]
mod tests {
    const PAGE: &str = include_str!("browser/page.html");
    const STYLE: &str = include_str!("browser/page.css");
    const SCRIPT: &str = include_str!("browser/page.js");

    #[test]
    fn the_page_makes_text_of_what_it_shows_and_nothing_else() {
        // What would take a text for markup or for a script.
        let ways = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "Function(",
            "srcdoc",
            ".href",
            ".src",
        ];
        for way in ways {
            assert!(!SCRIPT.contains(way), "{way}");
        }
        // The policy forbids what stands within the page itself.
        for within in ["<style", "style=", "onclick", "onload", "javascript:", "http:", "https:", "//"] {
            assert!(!PAGE.contains(within), "{within}");
        }
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script src=\"page.js\"").count());
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }

    #[test]
    fn what_the_page_looks_for_is_what_the_documents_say_the_status_has() {
        let documented = include_str!("../../../docs/operating.md");
        // Names of several words are only those of the status.
        let words = SCRIPT.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        let names: std::collections::BTreeSet<&str> = words
            .filter(|word| {
                word.trim_matches('_').contains('_')
                    && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
            })
            .collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            assert!(documented.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn every_element_that_the_script_asks_for_is_on_the_page() {
        let ids: Vec<&str> = SCRIPT.split("at(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(ids.len() > 10);
        for id in ids {
            assert!(PAGE.contains(&format!("id=\"{id}\"")), "{id}");
        }
    }
}
