//! What the pages say: the tests that they name exist, and the limits are those of the code.

use std::fs;
use std::path::{Path, PathBuf};

use host_harness::sandbox::Limits;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The rows of a page's tables, cell by cell.
fn rows(page: &str) -> Vec<Vec<String>> {
    page.lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// All Rust sources of the repository as one text.
fn sources() -> String {
    fn add(directory: PathBuf, text: &mut String) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    for directory in ["src", "tests", "host-harness", "examples"] {
        add(root().join(directory), &mut text);
    }
    text
}

/// Whether a name in a table is that of a test, or the path of files with tests.
fn is_proof(name: &str, sources: &str) -> bool {
    if name.contains('/') { root().join(name).exists() } else { sources.contains(&format!("fn {name}(")) }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let (readme, all, sources) = (page("README.md"), page("docs/promises.md"), sources());
    let few = rows(readme.split("## What is promised").nth(1).unwrap().split("\n## ").next().unwrap());
    let all = rows(&all);
    assert!(few.len() > 10 && all.len() > 40, "the tables were found");
    let is_head = |row: &&Vec<String>| row[0] == "promise" || row[0].starts_with("--");
    for row in few.iter().chain(&all).filter(|row| !is_head(row)) {
        let names = quoted(&row[1]);
        assert!(!names.is_empty(), "no test holds: {}", row[0]);
        for name in names {
            assert!(is_proof(name, &sources), "{name}, which is to hold: {}", row[0]);
        }
    }
}

#[test]
fn the_rules_for_alerts_ask_for_metrics_and_states_that_exist() {
    let (rules, page) = (page("docs/signal-client.rules.yml"), page("docs/operating.md"));
    let words = |text: &str| -> Vec<String> {
        text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).map(str::to_owned).collect()
    };
    let asked = words(&rules).into_iter().filter(|word| word.starts_with("signal_client_")).collect::<Vec<_>>();
    assert!(asked.len() > 8, "{asked:?}");
    for metric in asked {
        assert!(page.contains(&format!("| `{metric}")), "{metric} is not in the table of metrics");
    }
    let matched = rules.replace("state=~\"", "state=\"").replace("state!=\"", "state=\"");
    let states: Vec<&str> = matched
        .split("state=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .flat_map(|all| all.split('|'))
        .collect();
    assert_eq!(states.len(), 12);
    for state in states {
        assert!(page.contains(&format!("`{state}`")), "{state} is no state");
    }
}

#[test]
fn the_unit_starts_with_the_machine_and_whatever_is_wrong_with_one_tenant() {
    let page = page("docs/operating.md");
    let unit = page.split("    [Unit]").nth(1).unwrap().split("\n\nThen ").next().unwrap();
    assert!(!unit.contains("ExecStartPre"), "a check fails of one tenant's slip: {unit}");
    for line in ["After=network-online.target", "User=host-harness", "WantedBy=multi-user.target"] {
        assert!(unit.lines().any(|given| given.trim() == line), "{line}: {unit}");
    }
}

#[test]
fn the_page_of_the_sandbox_lists_every_limit_with_its_default_and_all_with_a_test_that_exists() {
    let (page, sources) = (page("docs/sandbox.md"), sources());
    let limits = page.split("## Limits").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = rows(limits);
    let shown: Vec<(&str, String)> =
        rows.iter().skip(2).map(|row| (quoted(&row[1])[0], row[2].replace('\u{a0}', " "))).collect();
    assert_eq!(shown, Limits::default().table());
    assert_all_tried(&rows, &sources);

    let refused = page.split("## What is refused").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = self::rows(refused);
    assert!(rows.len() > 20, "the table was found");
    assert_all_tried(&rows, &sources);
}

/// Fails unless the last cell of every row names tests that exist.
fn assert_all_tried(rows: &[Vec<String>], sources: &str) {
    for row in rows.iter().skip(2) {
        let names = quoted(row.last().unwrap());
        assert!(!names.is_empty(), "no test tries: {}", row[0]);
        for name in names {
            assert!(is_proof(name, sources), "{name}, which is to try: {}", row[0]);
        }
    }
}

/// The codes that the host's errors have, by what stands in the bodies of `fn code`.
fn codes() -> Vec<String> {
    let sources = sources();
    let mut codes = Vec::new();
    for body in sources.split("fn code(").skip(1) {
        let body = body.split("\n    }\n").next().unwrap();
        for arm in body.split("=> \"").skip(1) {
            let code = arm.split('"').next().unwrap();
            if code.contains('-') && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
                codes.push(code.to_owned());
            }
        }
    }
    codes
}

#[test]
fn every_code_that_an_operator_can_meet_is_on_a_page_that_says_what_to_do() {
    let pages = page("docs/operating.md") + &page("docs/hot-loading.md");
    let codes = codes();
    assert!(codes.len() > 60, "{codes:?}");
    let is_told = |code: &String| {
        let family = code.split('-').next().unwrap();
        pages.contains(&format!("`{code}`")) || pages.contains(&format!("`{family}-…`"))
    };
    // Those of the simulator are for whoever writes tests.
    let simulator = ["bad-rate-limit", "profile-json", "profile-value", "unknown-handle", "unusable-json"];
    let missing: Vec<_> = codes.iter().filter(|code| !is_told(code) && !simulator.contains(&code.as_str())).collect();
    assert!(missing.is_empty(), "no page tells of {missing:?}");
}
