//! Files that are not what they should be: the output, the state directory, the connector.
//!
//! Each is named with what to do, nothing of it is changed, and nothing is asked of the vendor.

use std::fs;
use std::path::Path;

use crate::common::desk::{Desk, GOOD, good};
use crate::common::host::connector;
use insta::assert_snapshot;

#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_is_asked() {
    let desk = Desk::new();
    fs::create_dir(desk.path("directory")).unwrap();
    assert_snapshot!(desk.refused_by("poll", &good(&["--out", "directory"])), @r#"
    [WARN] rapid7-insightidr: a route sends what is meant for us.api.insight.rapid7.com to SIMULATOR instance="acme"
    error: cannot open directory for the artifacts: Is a directory (os error 21)
    help: give a file in a directory that exists and that this user can write to, or standard output (--out -, sink = "stdout")
    "#);
    assert_snapshot!(desk.refused_by("poll", &good(&["--out", "no/such/directory/out.jsonl"])), @r#"
    [WARN] rapid7-insightidr: a route sends what is meant for us.api.insight.rapid7.com to SIMULATOR instance="acme"
    error: cannot open no/such/directory/out.jsonl for the artifacts: No such file or directory (os error 2)
    help: give a file in a directory that exists and that this user can write to, or standard output (--out -, sink = "stdout")
    "#);
}

// ---- the state directory ------------------------------------------------------------------

/// A state directory that one good poll has filled.
fn filled() -> Desk {
    let desk = Desk::new();
    assert_eq!(desk.ask("poll", &GOOD).code, 0);
    desk.stage.simulator.reset_counters();
    desk
}

#[test]
fn a_damaged_database_is_named_and_left_as_it_is() {
    let desk = filled();
    let damaged = desk.write("state/state.sqlite", "not a database ".repeat(1_000));
    assert_snapshot!(desk.refused_by("poll", &GOOD), @r"
    error: the database state/state.sqlite is damaged: file is not a database
    help: restore the directory from a backup, or move it away and poll into a new one: the look-back is collected again and artifacts keep their ids
    ");
    assert_eq!(fs::read(damaged).unwrap(), "not a database ".repeat(1_000).as_bytes(), "nothing was changed");
}

#[test]
fn a_state_directory_that_is_a_file_is_named() {
    let desk = Desk::new();
    desk.write("state", "");
    assert_snapshot!(desk.refused_by("poll", &GOOD), @r"
    error: cannot create the state directory state: File exists (os error 17)
    help: give a directory that this user can write to
    ");
}

#[test]
fn a_database_of_something_else_is_named() {
    let desk = filled();
    // The application id of the database's header.
    set(&desk.path("state/state.sqlite"), 68, 0x0BAD_CAFE);
    assert_snapshot!(desk.refused_by("poll", &GOOD), @r"
    error: state/state.sqlite is a database, but not one of host-harness
    help: give an empty or new directory; nothing was changed in this one
    ");
}

#[test]
fn a_database_of_a_newer_program_is_named_and_left_as_it_is() {
    let desk = filled();
    let database = desk.path("state/state.sqlite");
    // The user version of the database's header.
    set(&database, 60, 99);
    let before = fs::read(&database).unwrap();
    assert_snapshot!(desk.refused_by("poll", &GOOD), @r"
    error: state/state.sqlite has schema version 99; this program knows versions up to 8
    help: use the newer host-harness that wrote it, or another directory; nothing was changed
    ");
    assert_eq!(fs::read(&database).unwrap(), before, "nothing was changed");
}

/// Writes a number into a database's header, where its log has been folded in.
fn set(database: &Path, at: usize, number: u32) {
    let mut bytes = fs::read(database).unwrap();
    assert_eq!(&bytes[..16], b"SQLite format 3\0");
    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    fs::write(database, bytes).unwrap();
}

#[test]
fn a_state_directory_in_use_is_refused_and_names_the_process() {
    let desk = filled();
    let held = host_harness::store::Store::open(&desk.path("state")).unwrap();
    let said = desk.refused_by("poll", &GOOD).replace(&std::process::id().to_string(), "PID");
    assert_snapshot!(said, @r"
    error: the state directory state is in use by process PID
    help: wait until the other process has ended, or give each process its own directory
    ");
    drop(held);
    // A process that another test is just starting has what was open here for a moment longer.
    let goes_on = (0..50).any(|_| desk.ask("poll", &GOOD).code == 0);
    assert!(goes_on, "as soon as it is free it goes on");
}

// ---- the component ----------------------------------------------------------------------------

/// What is said of a file that is to be the connector, by every command that loads one.
fn said_of(desk: &Desk, file: &str) -> String {
    let inspected = desk.run(&["inspect", file]);
    let checked = desk.run(&[&["check", "--connector", file][..], &GOOD].concat());
    let state = ["--instance", "acme", "--state", "state"];
    let polled = desk.run(&[&["poll", "--connector", file][..], &state, &GOOD].concat());
    for told in [&inspected, &checked, &polled] {
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{}", told.stderr);
        assert_eq!(told.stderr, inspected.stderr);
    }
    assert_eq!(desk.stage.simulator.request_count(), 0);
    inspected.stderr
}

#[test]
fn a_connector_that_is_not_there_or_no_file_is_named() {
    let desk = Desk::new();
    assert_snapshot!(said_of(&desk, "missing.wasm"), @r"
    error: cannot read missing.wasm: No such file or directory (os error 2)
    help: name the .wasm file of a connector that this user can read
    ");
    fs::create_dir(desk.path("directory.wasm")).unwrap();
    assert_snapshot!(said_of(&desk, "directory.wasm"), @r"
    error: cannot read directory.wasm: it is a directory
    help: name the .wasm file of a connector that this user can read
    ");
    desk.write("empty.wasm", "");
    assert_snapshot!(said_of(&desk, "empty.wasm"), @r"
    error: empty.wasm: this is not WebAssembly: it does not begin with the bytes of a .wasm file
    help: name the .wasm file of a signal connector
    ");
}

#[test]
fn a_connector_cut_off_anywhere_is_corrupt() {
    let desk = Desk::new();
    let whole = fs::read(connector()).unwrap();
    for length in [9, 100, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        desk.write("cut.wasm", &whole[..length]);
        let told = desk.run(&["inspect", "cut.wasm"]);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "cut at {length}: {}", told.stderr);
        let (first, rest) = told.stderr.split_once('\n').unwrap();
        assert!(first.starts_with("error: cut.wasm: the component is corrupt: "), "cut at {length}: {first}");
        assert_eq!(rest, "help: copy or build the connector again, whole\n", "cut at {length}");
    }
}

#[test]
fn a_component_of_another_world_says_what_it_is() {
    let desk = Desk::new();
    let write = |name: &str, text: &str| desk.write(name, wat::parse_str(text).unwrap());
    write("command.wasm", r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#);
    assert_snapshot!(said_of(&desk, "command.wasm"), @r"
    error: command.wasm: the component does not export witfoo:signal-connector/connector (0.1.x); it exports wasi:cli/run@0.2.0
    help: name the .wasm file of a signal connector
    ");
    write("sockets.wasm", r#"(component (import "wasi:sockets/tcp@0.2.0" (instance)))"#);
    let said = said_of(&desk, "sockets.wasm");
    assert!(
        said.starts_with(
            "error: sockets.wasm: the component imports wasi:sockets/tcp@0.2.0, which connectors do not get"
        )
    );
    assert!(said.ends_with("help: do not use this connector; report it to whoever maintains it\n"), "{said}");
    write(
        "later.wasm",
        r#"(component (instance $i) (export "witfoo:signal-connector/connector@0.2.0" (instance $i)))"#,
    );
    assert_snapshot!(said_of(&desk, "later.wasm"), @r"
    error: later.wasm: the component is made for witfoo:signal-connector/connector@0.2.0; this host accepts witfoo:signal-connector 0.1.x
    help: use a version of the connector that was built for this host, or a host of its time
    ");
    write("module.wasm", "(module)");
    assert_snapshot!(said_of(&desk, "module.wasm"), @r"
    error: module.wasm: this is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`
    help: name the .wasm file of a signal connector
    ");
}
