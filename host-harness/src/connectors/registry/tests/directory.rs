//! What is wrong with the directory itself, and how often that is told.

use super::*;

#[cfg(unix)]
#[test]
fn what_is_no_file_is_told_once_and_again_when_it_was_over_in_between() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new();
    let log = || crate::log::captured(|| runtime.block_on(world.scan()));
    let link = world.directory().join("link.wasm");
    let make = || std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let told = "[WARN] host-harness: in the directory of connectors link.wasm is a link to what is not there; it is passed over\n";
    make();
    assert_eq!(log(), "", "it may be on its way");
    assert_eq!(log(), told);
    assert_eq!(log() + &log(), "");
    fs::create_dir(world.directory().join("folder.wasm")).unwrap();
    let folder = "[WARN] host-harness: in the directory of connectors folder.wasm is no file; it is passed over\n";
    assert_eq!(log() + &log() + &log(), folder, "the other one was told");
    fs::remove_file(&link).unwrap();
    assert_eq!(log() + &log(), "");
    make();
    assert_eq!(log() + &log() + &log(), told);
}
