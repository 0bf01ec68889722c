//! The command line from outside: what it says and the exit code, for
//! everything that needs no connector.

#![allow(clippy::expect_used, reason = "a test that cannot be set up must fail")]

use std::path::Path;

use assert_cmd::Command;

/// Runs host-harness in an empty directory and gives exit code, standard
/// output and standard error.
fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("host-harness")
        .expect("binary")
        .current_dir(dir)
        .env_remove("HOST_HARNESS_LOG")
        .args(arguments)
        .output()
        .expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("exit code"), text(output.stdout), text(output.stderr))
}

/// What must be refused as wrong usage: the message.
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(dir, arguments);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    stderr
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

const POLL: [&str; 7] = ["poll", "--connector", "connector.wasm", "--instance", "acme", "--state", "state"];

fn poll<'a>(more: &[&'a str]) -> Vec<&'a str> {
    POLL.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn a_missing_connector_is_named_and_leaves_no_state_behind() {
    let dir = temporary();
    insta::assert_snapshot!(refused(dir.path(), &poll(&[])), @r"
    error: cannot read connector.wasm: No such file or directory (os error 2)
    help: name the .wasm file of a connector that this user can read
    ");
    assert!(!dir.path().join("state").exists());
}

#[test]
fn the_connectors_of_a_host_that_never_ran_are_not_made_up() {
    let dir = temporary();
    insta::assert_snapshot!(refused(dir.path(), &["connectors", "list", "--state", "state"]), @r"
    error: there are no connectors' records in state
    help: name the state directory of a host that has been started once
    ");
    assert!(!dir.path().join("state").exists());
    let toml = "[host]\nstate = \"elsewhere\"\nconnectors = \"connectors\"\n";
    std::fs::write(dir.path().join("conductor.toml"), toml).expect("file");
    let error = refused(dir.path(), &["connectors", "release", "--all", "--config", "conductor.toml"]);
    assert!(error.contains("elsewhere"), "{error}");
    let error = refused(dir.path(), &["connectors", "release", "--state", "state"]);
    assert!(error.contains("<WHICH|--all>"), "{error}");
    let error = refused(dir.path(), &["connectors", "confirm", "acme"]);
    assert!(error.contains("--state") && error.contains("--config"), "{error}");
}

#[test]
fn a_check_without_anything_to_check_names_both_ways_to_say_it() {
    let dir = temporary();
    let error = refused(dir.path(), &["check"]);
    assert!(error.contains("<--connector <FILE>|--config <FILE>>"), "{error}");
}

#[test]
fn a_file_that_is_no_component_is_named_with_what_it_is() {
    let dir = temporary();
    let refused = |bytes: &[u8]| {
        std::fs::write(dir.path().join("connector.wasm"), bytes).expect("file");
        refused(dir.path(), &["inspect", "connector.wasm"])
    };
    insta::assert_snapshot!(refused(b"PK\x03\x04 and so on"), @r"
    error: connector.wasm: this is not WebAssembly: it does not begin with the bytes of a .wasm file
    help: name the .wasm file of a signal connector
    ");
    insta::assert_snapshot!(refused(b"\0asm\x01\0\0\0"), @r"
    error: connector.wasm: this is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`
    help: name the .wasm file of a signal connector
    ");
    insta::assert_snapshot!(refused(b"\0asm\x0d\0\x01\0"), @r"
    error: connector.wasm: the component does not export witfoo:signal-connector/connector (0.1.x); it exports nothing
    help: name the .wasm file of a signal connector
    ");
    let cut = refused(b"\0asm\x0d\0\x01\0\x01\xff");
    assert!(cut.starts_with("error: connector.wasm: the component is corrupt: "), "{cut}");
    assert!(cut.ends_with("help: copy or build the connector again, whole\n"), "{cut}");
}

#[test]
fn what_may_be_a_secret_is_refused_and_never_shown() {
    let dir = temporary();
    for arguments in [
        poll(&["--secret", "hunter2hunter2"]),
        poll(&["--secret", "api_key=hunter2hunter2"]),
        poll(&["--set", "hunter2hunter2"]),
        poll(&["--proxy", "http://me:hunter2@proxy:3128"]),
    ] {
        let message = refused(dir.path(), &arguments);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn options_that_cannot_be_understood_are_refused() {
    let dir = temporary();
    insta::assert_snapshot!(refused(dir.path(), &poll(&["--out", "-", "--json"])), @r"
    error: --json and --out - would both write to standard output
    help: write the artifacts to a file, or leave --json out
    ");
    insta::assert_snapshot!(refused(dir.path(), &poll(&["--set", "region=us", "region=eu"])), @r#"
    error: the setting "region" is given twice
    help: keep one
    "#);
    insta::assert_snapshot!(refused(dir.path(), &poll(&["--route", "nowhere"])), @r#"error: the route "nowhere" is not of the form HOST=URL, for example api.example.com=http://127.0.0.1:8811"#);
    insta::assert_snapshot!(refused(dir.path(), &poll(&["--clock", "noon"])), @r"
    error: invalid value 'noon' for '--clock <RFC3339>': the 'year' component could not be parsed; write it as in RFC 3339, for example 2026-01-15T12:00:00Z

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(dir.path(), &["--log-level", "loud", "search", "--state", "state"]), @r#"
    error: invalid value 'loud' for '--log-level <LEVEL>': "loud" is no log level; use error, warn, info, debug, trace or off

    For more information, try '--help'.
    "#);
}

#[test]
fn a_level_in_the_environment_that_is_none_is_refused() {
    let output = Command::cargo_bin("host-harness")
        .expect("binary")
        .env("HOST_HARNESS_LOG", "loud")
        .args(["search", "--state", "state"])
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @r#"error: the environment variable HOST_HARNESS_LOG: "loud" is no log level; use error, warn, info, debug, trace or off"#);
}

#[test]
fn a_search_without_state_says_what_to_do() {
    let dir = temporary();
    insta::assert_snapshot!(refused(dir.path(), &["search", "--state", "state", "anything"]), @r"
    error: there is no state in state
    help: name the directory that was given to `poll --state`, or poll first
    ");
}

#[test]
fn a_search_takes_the_state_directory_from_a_configuration_as_the_other_commands_do() {
    let dir = temporary();
    drop(host_harness::store::Store::open(&dir.path().join("kept")).expect("store"));
    let file = dir.path().join("conductor.toml");
    std::fs::write(file, "[host]\nstate = \"kept\"\nconnectors = \"c\"\n").expect("configuration");
    let (code, _, stderr) = run(dir.path(), &["search", "--config", "conductor.toml", "anything"]);
    assert_eq!((code, stderr.contains("no artifacts found")), (0, true), "{stderr}");
    let (code, _, stderr) = run(dir.path(), &["search", "--config", "conductor.toml", "--state", "kept"]);
    assert_eq!((code, stderr.contains("cannot be used with")), (2, true), "{stderr}");
}

#[test]
fn a_search_without_hits_says_so_on_standard_error_and_succeeds() {
    let dir = temporary();
    drop(host_harness::store::Store::open(&dir.path().join("state")).expect("store"));
    for query in ["anything", "NEAR("] {
        let (code, stdout, stderr) = run(dir.path(), &["search", "--state", "state", query]);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", "[INFO] host-harness: no artifacts found\n"));
    }
    let (code, _, stderr) = run(dir.path(), &["search", "--state", "state", "severity:*"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(stderr, @r"
    [INFO] host-harness: no artifacts found
    [WARN] host-harness: the query holds no word that can be looked for: a word has a letter or a digit, and a * stands for the end of one
    ");
}

#[test]
fn a_status_that_cannot_be_asked_for_says_what_is_in_the_way() {
    let dir = temporary();
    // There is nobody at this address, and that is not what is wrong.
    let ask = ["status", "--url", "http://127.0.0.1:9", "--token", "file:/no/such/token"];
    insta::assert_snapshot!(refused(dir.path(), &ask), @r#"
    error: cannot read /no/such/token for the secret "token": No such file or directory (os error 2)
    help: name a file that this user can read
    "#);
    insta::assert_snapshot!(refused(dir.path(), &["status", "--url", "https://conductor.example.com"]), @r"
    error: --url must begin with http://: the host itself does not speak TLS
    help: name the address where the host listens, not that of a proxy in front of it
    ");
}

#[test]
fn a_hyphen_before_a_word_is_told_not_to_leave_it_out() {
    let dir = temporary();
    drop(host_harness::store::Store::open(&dir.path().join("state")).expect("store"));
    for words in [&["powershell", "-enc"][..], &["--", "powershell", "-enc"]] {
        let (code, _, stderr) = run(dir.path(), &[&["search", "--state", "state"][..], words].concat());
        assert_eq!(code, 0);
        insta::allow_duplicates! {
            insta::assert_snapshot!(stderr, @r"
            [WARN] host-harness: -enc is looked for as text; to leave out what has the word, write NOT enc
            [INFO] host-harness: no artifacts found
            ");
        }
    }
}

#[test]
fn a_field_with_a_hyphen_needs_no_dashes_before_it_and_options_may_follow() {
    let dir = temporary();
    drop(host_harness::store::Store::open(&dir.path().join("state")).expect("store"));
    let ask = ["search", "-severity:high", "x", "--state", "state", "--limit", "3"];
    let (code, stdout, stderr) = run(dir.path(), &ask);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", "[INFO] host-harness: no artifacts found\n"));
    insta::assert_snapshot!(refused(dir.path(), &["search", "--state", "state", "x", "--limt", "3"]), @r#"
    error: --limt is no option of `search`; did you mean "--limit"?
    help: to search for it as text, put it into the quotes of the query: '"--limt"'
    "#);
}

#[test]
fn a_damaged_state_is_named_with_what_to_do() {
    let dir = temporary();
    std::fs::create_dir(dir.path().join("state")).expect("directory");
    std::fs::write(dir.path().join("state/state.sqlite"), "damaged ".repeat(1_000)).expect("file");
    std::fs::write(dir.path().join("connector.wasm"), "").expect("file");
    for arguments in [poll(&[]), vec!["search", "--state", "state"]] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused(dir.path(), &arguments), @r"
            error: the database state/state.sqlite is damaged: file is not a database
            help: restore the directory from a backup, or move it away and poll into a new one: the look-back is collected again and artifacts keep their ids
            ");
        }
    }
}

#[test]
fn a_state_in_use_is_refused() {
    let dir = temporary();
    std::fs::write(dir.path().join("connector.wasm"), "").expect("file");
    let _held = host_harness::store::Store::open(&dir.path().join("state")).expect("store");
    let message = refused(dir.path(), &poll(&[])).replace(&std::process::id().to_string(), "PID");
    insta::assert_snapshot!(message, @r"
    error: the state directory state is in use by process PID
    help: wait until the other process has ended, or give each process its own directory
    ");
}

#[test]
fn the_simulator_refuses_what_it_cannot_do() {
    let dir = temporary();
    std::fs::write(dir.path().join("faults.json"), "{\n  \"rules\": [{\"path\": 7}]\n}").expect("file");
    insta::assert_snapshot!(refused(dir.path(), &["simulate", "--api-key", "mars=key"]), @r#"
    error: "mars" is no region; there are us, us2, us3, eu, ca, au, ap
    help: write for example --api-key eu=made-up-key
    "#);
    let message = refused(dir.path(), &["simulate", "--faults", "faults.json"]);
    assert!(message.starts_with("error: the faults in faults.json are not valid: "), "{message}");
    assert!(message.contains("line 2"), "{message}");
    let message = refused(dir.path(), &["simulate", "--faults", "none.json"]);
    assert!(message.starts_with("error: cannot read the faults in none.json: "), "{message}");
    let message = refused(dir.path(), &["simulate", "--rate-limit", "often"]);
    assert!(message.contains("250/60s"), "{message}");
}

#[test]
fn every_command_has_help() {
    let dir = temporary();
    for command in ["inspect", "check", "poll", "search", "simulate"] {
        let (code, stdout, stderr) = run(dir.path(), &[command, "--help"]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{command}");
        assert!(stdout.contains("Examples:"), "{command}");
    }
}

/// Runs a host until its first log line, and gives the stream that this is on.
fn stream_of_log(dir: &Path, sink: &str, more: &[&str]) -> &'static str {
    use std::io::BufRead as _;
    let toml = format!(
        "[host]\nstate = \"state\"\nconnectors = \"connectors\"\nlisten = \"127.0.0.1:0\"\nsink = \"{sink}\"\n"
    );
    std::fs::write(dir.join("conductor.toml"), toml).expect("file");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_host-harness"))
        .current_dir(dir)
        .env_remove("HOST_HARNESS_LOG")
        .args(["run", "--config", "conductor.toml"])
        .args(more)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    let (found, lines) = std::sync::mpsc::channel();
    let read = |stream: Box<dyn std::io::Read + Send>, name: &'static str| {
        let found = found.clone();
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = found.send((name, line));
            }
        })
    };
    let readers = [
        read(Box::new(child.stdout.take().expect("piped")), "stdout"),
        read(Box::new(child.stderr.take().expect("piped")), "stderr"),
    ];
    let first = lines.recv_timeout(std::time::Duration::from_secs(120));
    child.kill().expect("killed");
    child.wait().expect("ended");
    readers.into_iter().for_each(|reader| reader.join().expect("read"));
    let (name, line) = first.expect("a line");
    assert!(line.starts_with("[INFO] host-harness: "), "{line}");
    name
}

#[test]
fn the_log_of_a_host_is_where_the_guides_command_looks_for_it_unless_artifacts_are_there() {
    let dir = temporary();
    assert_eq!(stream_of_log(dir.path(), "none", &[]), "stdout", "`docker logs … | grep` sees nothing else");
    assert_eq!(stream_of_log(dir.path(), "none", &["--log-to", "stderr"]), "stderr");
    assert_eq!(stream_of_log(dir.path(), "none", &["--log-to", "stdout"]), "stdout");
    assert_eq!(stream_of_log(dir.path(), "stdout", &[]), "stderr");
    insta::assert_snapshot!(refused(dir.path(), &["run", "--config", "conductor.toml", "--log-to", "stdout"]), @r"
    error: --log-to stdout would write log lines between the artifacts
    help: log to stderr, or set another sink in [host]
    ");
}

#[test]
fn a_standard_error_that_nobody_reads_changes_nothing() {
    let dir = temporary();
    drop(host_harness::store::Store::open(&dir.path().join("state")).expect("store"));
    // One writes a log line, the other the message of an error.
    for (arguments, expected) in [(["search", "--state", "state"], 0), (["search", "--state", "none"], 2)] {
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(reader);
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_host-harness"))
            .current_dir(dir.path())
            .args(arguments)
            .stderr(writer)
            .status()
            .expect("runs");
        assert_eq!(status.code(), Some(expected), "{arguments:?}");
    }
}
