//! What gateways and commands do to the keys of one store, at moments that the test chooses.

use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::follow::Rules;
use super::schedule::PUBLISH_AHEAD;
use super::*;
use crate::keyset::{EncryptionKey, Sealer};
use crate::store::Store;

/// A configuration with a store in the folder, and these lines besides.
fn config(folder: &Path, store: &str, tokens: &str) -> Config {
    let file = folder.join("tollgate.toml");
    let url = folder.join("tollgate.db");
    let text = format!("[store]\nurl = \"sqlite://{}\"\n{store}\n[tokens]\n{tokens}\n", url.display());
    std::fs::write(&file, text).unwrap();
    crate::config::load(&file).unwrap().config
}

fn encryption_key(folder: &Path, name: &str) -> String {
    let text = EncryptionKey::generate().unwrap();
    std::fs::write(folder.join(name), text.expose_secret()).unwrap();
    format!("{{ file = \"{name}\" }}")
}

async fn open(config: &Config) -> Arc<dyn Store> {
    store::open(&config.store).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_gateways_of_a_store_have_one_refresh_key_and_nobody_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let key = encryption_key(folder.path(), "key");
    let config = Arc::new(config(folder.path(), &format!("encryption_key = {key}"), ""));
    let store = open(&config).await;
    load(&config, &*store).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let config = Arc::clone(&config);
        tasks.push(tokio::spawn(async move {
            let store = open(&config).await;
            refresh_key(&config, &*store).await.unwrap()
        }));
    }
    let mut keys = Vec::new();
    for task in tasks {
        keys.push(*task.await.unwrap().expose_secret());
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 1);
    assert_ne!(keys[0], [0; 32]);

    let kept = store.keys().await.unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|key| config.sealer.seal_of(&key.material) == Seal::Current));
    let shown = existing(&config).await.unwrap();
    assert_eq!(shown.len(), 1, "it is no signing key: {shown:?}");
    assert!(load(&config, &*store).await.unwrap().set.jwks().to_string().contains(&shown[0].kid));
    let survey = store::survey(&config.store).await.unwrap();
    assert!(survey.contains("1 signing key") && !survey.contains("signing keys"), "{survey}");

    // Neither a damaged one nor a lost encryption key makes another.
    let without = Config { sealer: Sealer::default(), ..(*config).clone() };
    assert!(matches!(refresh_key(&without, &*store).await, Err(StartError::Sealed(_))));
    let refresh = kept.iter().find(|key| !key.signs_tokens()).unwrap();
    assert!(store.replace_material(&refresh.kid, &refresh.material, &"YQ==".into()).await.unwrap());
    assert!(matches!(refresh_key(&config, &*store).await, Err(StartError::RefreshKey { .. })));
    assert_eq!(store.keys().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_gateways_to_which_a_rotation_is_due_one_makes_the_successor() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "", "rotate_every = \"1h\"");
    let store = open(&config).await;
    load(&config, &*store).await.unwrap();
    let first = store.keys().await.unwrap().pop().unwrap();
    let due = first.active_from.plus(std::time::Duration::from_secs(3600));
    let rules = Arc::new(Rules::new(&config));

    let early = UnixSeconds(due.0 - PUBLISH_AHEAD.as_secs() - 1);
    rotation::rotate_if_due(&rules, std::slice::from_ref(&first), &*store, early).await.unwrap();
    assert_eq!(store.keys().await.unwrap().len(), 1);

    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (rules, store, first) = (Arc::clone(&rules), open(&config).await, first.clone());
        let now = early.plus(std::time::Duration::from_secs(1));
        tasks.push(tokio::spawn(async move { rotation::rotate_if_due(&rules, &[first], &*store, now).await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let kept = store.keys().await.unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[1].active_from, due);
    // Nor does anybody when it is made.
    rotation::rotate_if_due(&rules, &kept, &*store, due).await.unwrap();
    assert_eq!(store.keys().await.unwrap().len(), 2);
    // A gateway that was off for long gives everybody the time to learn of it all the same.
    let late = due.plus(std::time::Duration::from_secs(100_000));
    rotation::rotate_if_due(&rules, &kept, &*store, late).await.unwrap();
    assert_eq!(store.keys().await.unwrap()[2].active_from, late.plus(PUBLISH_AHEAD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_was_withdrawn_takes_nobodys_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "", "");
    let store = open(&config).await;
    load(&config, &*store).await.unwrap();
    let next = rotate(&config, Some(PUBLISH_AHEAD)).await.unwrap();
    let soon = UnixSeconds::now().plus(std::time::Duration::from_secs(60));
    for _ in 0..2 {
        rotation::bring_forward(&*store, &next.kid, soon).await.unwrap();
    }
    assert_eq!(store.keys().await.unwrap()[1].active_from, soon);
    assert!(store.remove_key(&next.kid).await.unwrap());
    let gone = rotation::bring_forward(&*store, &next.kid, soon).await;
    assert!(matches!(gone, Err(RotationError::NoSuchKey { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_algorithm_is_published_before_it_signs() {
    let folder = tempfile::tempdir().unwrap();
    let before = config(folder.path(), "", "");
    let store = open(&before).await;
    let old = load(&before, &*store).await.unwrap();
    let old_kid = old.signers.key(UnixSeconds::now()).kid().to_owned();

    let after = config(folder.path(), "", "algorithm = \"EdDSA\"");
    let new = load(&after, &*store).await.unwrap();
    let kept = store.keys().await.unwrap();
    let first = kept.iter().find(|key| key.algorithm == "EdDSA").unwrap();
    assert!(first.active_from >= first.created_at.plus(PUBLISH_AHEAD), "{first:?}");
    let moment_before = UnixSeconds(first.active_from.0 - 1);
    assert_eq!(new.signers.key(moment_before).kid(), old_kid);
    assert_eq!(new.signers.key(first.active_from).kid(), first.kid);
    let published = new.set.jwks().to_string();
    assert!(published.contains(&old_kid) && published.contains(&first.kid), "{published}");
    // What signs is what commands sign with, too.
    let roles =
        |own: Vec<OwnKey>| own.into_iter().map(|key| (key.kid, matches!(key.role, KeyRole::Signs(_)))).collect();
    let shown: Vec<(String, bool)> = roles(existing(&after).await.unwrap());
    assert_eq!(shown, [(old_kid.clone(), true), (first.kid.clone(), false)]);

    // A gateway with the old setting goes on with its key, and one more with the new one makes no other.
    let still = load(&before, &*store).await.unwrap();
    assert_eq!(still.signers.key(UnixSeconds(u64::MAX / 2)).kid(), old_kid);
    load(&after, &*store).await.unwrap();
    assert_eq!(store.keys().await.unwrap().len(), kept.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_prepares_a_change_of_the_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let before = config(folder.path(), "", "");
    let store = open(&before).await;
    let after = config(folder.path(), "", "algorithm = \"EdDSA\"");
    let none = rotate(&after, None).await;
    assert!(matches!(none, Err(RotationError::NoKey { .. })), "{none:?}");
    load(&before, &*store).await.unwrap();
    let prepared = rotate(&after, Some(PUBLISH_AHEAD)).await.unwrap();
    assert_eq!((prepared.algorithm.as_str(), prepared.is_brought_forward), ("EdDSA", false));
    let again = rotate(&after, Some(PUBLISH_AHEAD)).await;
    assert!(matches!(again, Err(RotationError::Pending { .. })), "{again:?}");
    let hurried = rotate(&after, None).await.unwrap();
    assert!(hurried.is_brought_forward && hurried.kid == prepared.kid && hurried.signs_from < prepared.signs_from);
    // The one that stands in for it stays until everybody knows it.
    let standing_in = store.keys().await.unwrap().into_iter().find(|key| key.algorithm == "ES256").unwrap();
    let too_soon = retire(&after, &standing_in.kid, When::AfterLastToken).await;
    assert!(matches!(too_soon, Err(RotationError::StandsIn { .. })), "{too_soon:?}");
    // Withdrawn, it leaves everything as it was.
    let (retired, _) = retire(&after, &prepared.kid, When::AfterLastToken).await.unwrap();
    assert!(matches!(retired, Retired::Withdrawn), "{retired:?}");
    assert_eq!(store.keys().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_encryption_key_is_itself_replaced_in_two_steps() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (encryption_key(folder.path(), "old"), encryption_key(folder.path(), "new"));
    let plain = config(folder.path(), "", "");
    let store = open(&plain).await;
    load(&plain, &*store).await.unwrap();
    let kid = store.keys().await.unwrap()[0].kid.clone();
    for line in [
        format!("encryption_key = {old}"),
        format!("encryption_key = {old}\nprevious_encryption_keys = [{new}]"),
        format!("encryption_key = {new}\nprevious_encryption_keys = [{old}]"),
        format!("encryption_key = {new}"),
    ] {
        let config = config(folder.path(), &line, "");
        let keys = load(&config, &*store).await.unwrap();
        assert_eq!(keys.signers.key(UnixSeconds::now()).kid(), kid, "{line}");
        let kept = store.keys().await.unwrap();
        assert_eq!((kept.len(), config.sealer.seal_of(&kept[0].material)), (1, Seal::Current), "{line}");
    }
    let lost = config(folder.path(), &format!("encryption_key = {old}"), "");
    let error = load(&lost, &*store).await.unwrap_err();
    assert!(error.to_string().contains("`store.previous_encryption_keys`"), "{error}");
    assert_eq!(store.keys().await.unwrap().len(), 1, "no other key may be made");
}
