//! Files and sockets, tried with the standard library alone.

use crate::common::host::guest;
use crate::hostile::stage::{Stage, hostile};
use serde_json::json;

/// Whether a text stands in bytes.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_opens_files_or_sockets_is_refused_by_its_imports_before_it_runs() {
    let stage = Stage::new().await;
    let component = std::fs::read(guest("intruder_guest")).unwrap();
    for import in
        ["wasi:filesystem/preopens@0.2", "wasi:sockets/tcp-create-socket@0.2", "wasi:sockets/udp-create-socket@0.2"]
    {
        assert!(holds(&component, import), "the component does not reach for what this test is about: {import}");
    }
    let error = stage.load(component.clone()).await.expect_err("it is loaded");
    assert_eq!(error.code(), "component-forbidden-import");
    assert!(error.to_string().contains("wasi:filesystem/"), "{error}");

    // It is the imports and not the component: without those of files, it is refused for the sockets.
    let renamed = replaced(&component, "wasi:filesystem/", "wasi:filesystex/");
    let error = stage.load(renamed).await.expect_err("it is loaded");
    assert_eq!(error.code(), "component-forbidden-import");
    stage.assert_clean();
}

/// The bytes with one text in place of another of the same length.
fn replaced(bytes: &[u8], text: &str, other: &str) -> Vec<u8> {
    assert_eq!(text.len(), other.len());
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - text.len() {
        if bytes[at..].starts_with(text.as_bytes()) {
            bytes[at..at + text.len()].copy_from_slice(other.as_bytes());
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_only_looks_like_one_that_may_be_imported_is_refused_as_well() {
    let stage = Stage::new().await;
    let component = std::fs::read(guest("intruder_guest")).unwrap();
    // Files under another name that is on the list, or nearly: what decides is what the host links.
    for other in ["wasi:clocks/wall-clock", "wasi:cli/environment/", "wasi:filesystem\0preopens"] {
        let renamed = replaced(&component, "wasi:filesystem/preope", &format!("{other:x<22.22}"));
        let error = stage.load(renamed).await.expect_err("it is loaded");
        assert!(error.code().starts_with("component-"), "{other}: {error}");
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_without_such_imports_finds_no_directory_and_no_program() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let aftermath = stage.poll(&connector, "look", "").await;
    let seen = &aftermath.artifacts[0]["message"];
    assert_eq!((&seen["directory"], &seen["program"]), (&json!("/"), &json!(false)), "{seen:#}");
    assert_eq!((&seen["environment"], &seen["arguments"]), (&json!([]), &json!([])));
    stage.assert_clean();
}
