//! A connector that turns hostile with a new version.

use crate::hostile::component::describing;
use crate::hostile::stage::{Stage, hostile};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_turns_hostile_ruins_no_checkpoint_and_the_old_one_goes_on() {
    let stage = Stage::new().await;
    let good = hostile(&stage).await;
    let bad = stage.load(describing("turned")).await.unwrap();
    assert_ne!(good.digest(), bad.digest());

    let options = || stage.options("tenant", "poll:honest", "");
    let first = stage.poll_tenant(&good.tenant(options()).await.unwrap()).await;
    assert_eq!((first.code(), first.checkpoint.as_deref()), ("ok", Some([1].as_slice())));

    let turned = stage.poll_tenant(&bad.tenant(options()).await.unwrap()).await;
    assert_eq!((turned.code(), turned.checkpoint.as_deref()), ("bad-batch", Some([1].as_slice())));

    let again = stage.poll_tenant(&good.tenant(options()).await.unwrap()).await;
    assert_eq!((again.code(), again.checkpoint.as_deref()), ("ok", Some([1, 1].as_slice())));
    assert_eq!((again.cycle.new, again.cycle.repeated), (1, 0), "it went on from where it was");
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_a_connector_calls_unreadable_is_kept() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let tenant = async |behaviour: &str| connector.tenant(stage.options("one", behaviour, "")).await.unwrap();
    stage.poll_tenant(&tenant("poll:honest").await).await;
    let unreadable = stage.poll_tenant(&tenant("poll:unreadable").await).await;
    assert_eq!((unreadable.code(), unreadable.checkpoint.as_deref()), ("checkpoint-unreadable", Some([1].as_slice())));
    stage.assert_clean();
}
