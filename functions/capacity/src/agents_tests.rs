use super::*;
use crate::fleet::{Registration, host, register, set_state};
use eventplane_local::store::EmbeddedStore;

const NOW: Millis = Millis(1_000_000);
const HASH: &str = "aa";

fn id() -> HostId {
    HostId::parse("host-1").expect("a host id")
}

fn given(until: Millis) -> Agent {
    give_token(None, None, HASH, until, false).expect("nobody has enrolled")
}

fn enrolled() -> Agent {
    let agent = enrol(Some(&given(NOW)), HASH, "key-1", NOW).expect("a good token");
    agent.expect("it is new")
}

fn code<T: std::fmt::Debug>(refused: Result<T, Reason>) -> String {
    refused.expect_err("refused").code
}

#[test]
fn a_token_enrols_one_key_once_and_until_its_end() {
    let agent = given(NOW);
    assert_eq!(code(enrol(None, HASH, "key-1", NOW)), "InvalidEnrolmentToken");
    assert_eq!(code(enrol(Some(&agent), "bb", "key-1", NOW)), "InvalidEnrolmentToken");
    let late = enrol(Some(&agent), HASH, "key-1", NOW.plus(1_000));
    assert!(late.as_ref().is_err_and(|why| why.message.contains("until 1 s ago")), "{late:?}");
    assert_eq!(code(late), "InvalidEnrolmentToken");

    let has = enrolled();
    assert_eq!((has.public_key.as_deref(), has.enrolled_at), (Some("key-1"), Some(NOW)));
    // The answer may have been lost, and asked for again after the token's end.
    assert_eq!(enrol(Some(&has), HASH, "key-1", NOW.plus(9_000)), Ok(None));
    assert_eq!(code(enrol(Some(&has), HASH, "key-2", NOW)), "EnrolmentTokenUsed");
    let moved = change_key(&id(), &has, ("key-1", None), "key-2").expect("by its own key");
    let moved = moved.expect("another key");
    assert_eq!(code(enrol(Some(&moved), HASH, "key-1", NOW)), "EnrolmentTokenUsed");
}

#[test]
fn a_newer_token_takes_the_place_of_one_that_is_not_used() {
    let newer = give_token(Some(&given(NOW)), None, "bb", NOW, false).expect("nobody enrolled");
    assert_eq!(code(enrol(Some(&newer), HASH, "key-1", NOW)), "InvalidEnrolmentToken");
    assert!(enrol(Some(&newer), "bb", "key-1", NOW).is_ok());
}

#[test]
fn who_is_enrolled_is_replaced_only_on_purpose_and_shut_out_only_then() {
    let speaks = begin_session(&id(), &enrolled(), None, "s-1").expect("the first").expect("new");
    let refused = give_token(Some(&speaks), None, "bb", NOW, false);
    assert_eq!(code(refused), "IncorrectHostState");
    let token = give_token(Some(&speaks), None, "bb", NOW, true).expect("on purpose");
    assert_eq!((&token.public_key, &token.session), (&speaks.public_key, &speaks.session));
    let next = enrol(Some(&token), "bb", "key-2", NOW).expect("a good token").expect("new");
    assert_eq!((next.public_key.as_deref(), next.session), (Some("key-2"), None));

    let revoked = revoke(&id(), Some(&speaks)).expect("it has a key").expect("it was good");
    assert!(give_token(Some(&revoked), None, "bb", NOW, false).is_ok());
}

#[test]
fn a_session_follows_the_one_that_it_names_and_no_other() {
    let first = begin_session(&id(), &enrolled(), None, "s-1").expect("the first").expect("new");
    assert_eq!(begin_session(&id(), &first, None, "s-1"), Ok(None), "the answer was lost");
    assert_eq!(begin_session(&id(), &first, Some("s-0"), "s-1"), Ok(None));
    for previous in [None, Some("s-0")] {
        assert_eq!(code(begin_session(&id(), &first, previous, "s-2")), "HostFenced");
    }
    let second = begin_session(&id(), &first, Some("s-1"), "s-2").expect("it knows of it");
    let second = second.expect("new");
    assert_eq!(second.session.as_deref(), Some("s-2"));
    assert_eq!(code(begin_session(&id(), &second, Some("s-1"), "s-3")), "HostFenced");
    assert_eq!(code(begin_session(&id(), &enrolled(), Some("s-1"), "s-2")), "HostFenced");
}

#[test]
fn a_key_is_changed_by_the_key_and_the_session_that_speak() {
    let agent = begin_session(&id(), &enrolled(), None, "s-1").expect("the first").expect("new");
    let changed = change_key(&id(), &agent, ("key-1", Some("s-1")), "key-2").expect("it speaks");
    let changed = changed.expect("another key");
    assert_eq!(changed, Agent { public_key: Some("key-2".to_owned()), ..agent.clone() });
    assert_eq!(change_key(&id(), &changed, ("key-2", Some("s-1")), "key-2"), Ok(None));
    for signed in [("key-1", Some("s-1")), ("key-2", Some("s-0")), ("key-2", None)] {
        assert_eq!(code(change_key(&id(), &changed, signed, "key-3")), "HostFenced");
    }
    let revoked = revoke(&id(), Some(&changed)).expect("it has a key").expect("it was good");
    let refused = change_key(&id(), &revoked, ("key-2", Some("s-1")), "key-3");
    assert_eq!(code(refused), "HostFenced");
}

#[test]
fn revoking_ends_the_key_and_the_token_that_waits() {
    assert_eq!(code(revoke(&id(), None)), "InvalidHostKey.NotFound");
    let waits = revoke(&id(), Some(&given(NOW))).expect("a token").expect("it was good");
    assert_eq!((waits.token.clone(), waits.is_revoked), (None, false));
    assert_eq!(code(enrol(Some(&waits), HASH, "key-1", NOW)), "InvalidEnrolmentToken");
    let revoked = revoke(&id(), Some(&enrolled())).expect("a key").expect("it was good");
    assert!(revoked.is_revoked && revoked.public_key.is_some());
    assert_eq!(revoke(&id(), Some(&revoked)), Ok(None));
}

#[tokio::test]
async fn of_two_that_change_an_agent_at_once_the_second_sees_what_the_first_did() {
    let store = EmbeddedStore::in_memory(&[crate::TABLE]).expect("a store in memory");
    let begin = async |session: &'static str| {
        let agent = |agent: Option<&Agent>| agent.cloned().expect("enrolled");
        let decided =
            |of: Option<&Agent>, _: Option<&Host>| begin_session(&id(), &agent(of), None, session);
        change(&store, &id(), decided).await.expect("no fault")
    };
    let enrolled = change(&store, &id(), |_, _| Ok(Some(enrolled()))).await.expect("no fault");
    assert!(enrolled.is_ok());
    let (one, two) = tokio::join!(begin("s-1"), begin("s-2"));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");

    // What is written under another's feet is not written.
    let stale = given(NOW).write(&id(), None);
    assert!(!store.try_transact(vec![stale]).await.expect("no fault"));
    let item = store.get(&agent_key(&id())).await.expect("no fault");
    let stands = Agent::read(item.as_ref()).expect("an agent").expect("it is there");
    assert_eq!(stands, one.or(two).expect("one of them"));
}

#[tokio::test]
async fn a_host_that_was_simulated_is_marked_when_its_agent_enrols() {
    let store = EmbeddedStore::in_memory(&[crate::TABLE]).expect("a store in memory");
    let registration = Registration {
        zone: "a".to_owned(),
        rack: "r".to_owned(),
        vcpus: 4,
        memory_mib: 4096,
        network_mbps: 1_000,
        gpus: None,
        is_enrolled: false,
    };
    register(&store, &id(), &registration).await.expect("no fault").expect("registered");
    let write = async |agent: Agent| {
        let changed = change(&store, &id(), |_, _| Ok(Some(agent.clone()))).await;
        changed.expect("no fault").expect("written")
    };
    write(given(NOW)).await;
    let found = async || host(&store, &id()).await.expect("no fault").expect("registered");
    assert!(!found().await.is_enrolled, "a token is only a promise");
    write(enrolled()).await;
    assert!(found().await.is_enrolled);
    // What else is done with a host leaves the mark.
    set_state(&store, &id(), HostState::Draining).await.expect("no fault").expect("there");
    let larger = Registration { vcpus: 8, ..registration };
    let host = register(&store, &id(), &larger).await.expect("no fault").expect("registered");
    assert!(host.is_enrolled && host.total.vcpus == 8, "{host:?}");
}
