//! Members added and taken away while clients write.

use std::time::Duration;

use zookeeper_client::{Acls, Client, CreateMode, EnsembleUpdate, Error, EventType};

use crate::harness::{DEADLINE, Ensemble, Mode, SESSION_TIMEOUT, SUPER_DIGEST, eventually};
use crate::load::Load;

fn prepared(voters: u16) -> Ensemble {
    Ensemble::of(voters)
        .set("reconfigEnabled=true")
        .set(&format!(
            "DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"
        ))
        .prepare()
}

/// On the leader, which is the last to go when it is asked to remove another.
async fn super_user(ensemble: &Ensemble) -> Client {
    Client::connector()
        .with_session_timeout(SESSION_TIMEOUT)
        .with_auth("digest", b"super:test")
        .connect(&ensemble.address(ensemble.await_leader()).to_string())
        .await
        .unwrap()
}

/// Joins and leaves in one change; gives back the configuration that came of it.
async fn change(client: &Client, joining: &[&str], leaving: &[&str]) -> Result<String, Error> {
    let update = EnsembleUpdate::Incremental {
        joinings: joining.iter().copied(),
        leavings: leaving.iter().copied(),
    };
    let (config, _) = client.update_ensemble(update, None).await?;
    Ok(String::from_utf8(config).expect("a configuration is text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_added_and_removed_under_load() {
    let mut ensemble = prepared(3);
    for member in 1..=3 {
        ensemble.spawn(member);
    }
    ensemble.await_leader();
    for member in 1..=3 {
        ensemble.await_serving(member);
    }
    let load = Load::start(&ensemble).await;
    let anyone = ensemble.client().await;
    let leaving = ensemble.a_follower();
    assert_eq!(
        change(&anyone, &[], &[&leaving.to_string()])
            .await
            .unwrap_err(),
        Error::NoAuth
    );

    let root = super_user(&ensemble).await;
    let (_, _, watcher) = anyone.get_and_watch_config().await.unwrap();
    let joining = ensemble.add();
    ensemble.spawn(joining);
    let line = format!("server.{joining}={}", ensemble.spec(joining));
    let config = change(&root, &[&line], &[]).await.unwrap();
    assert!(config.contains(&line), "{config}");
    let event = tokio::time::timeout(DEADLINE, watcher.changed())
        .await
        .unwrap();
    assert_eq!(event.event_type, EventType::NodeDataChanged);
    assert_eq!(ensemble.await_serving(joining), Mode::Follower);
    load.goes_on().await;

    let config = change(&root, &[], &[&leaving.to_string()]).await.unwrap();
    assert!(!config.contains(&format!("server.{leaving}=")), "{config}");
    load.goes_on().await;
    ensemble.kill(leaving);
    // The new one counts: with it, one of the old may go.
    let victim = ensemble.await_leader();
    ensemble.kill(victim);
    load.goes_on().await;
    ensemble.start(victim);
    // It still has the list with the one that has left.
    assert!(ensemble.has_said(victim, "the server list of the configuration is not that"));
    load.stop().await.is_on_every_member(&ensemble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_hands_over() {
    let mut ensemble = prepared(3);
    for member in 1..=3 {
        ensemble.spawn(member);
    }
    let leader = ensemble.await_leader();
    for member in 1..=3 {
        ensemble.await_serving(member);
    }
    let load = Load::start(&ensemble).await;
    let root = super_user(&ensemble).await;
    // Its answer may be lost with the leader.
    match change(&root, &[], &[&leader.to_string()]).await {
        Ok(_) | Err(Error::ConnectionLoss | Error::Custom(_)) => {}
        Err(error) => panic!("{error}"),
    }
    let others: Vec<u16> = (1..=3).filter(|&member| member != leader).collect();
    ensemble.await_leader_of(&others);
    load.goes_on().await;
    ensemble.kill(leader);
    load.goes_on().await;
    let (config, _) = ensemble
        .client_of(others[0])
        .await
        .get_config()
        .await
        .unwrap();
    let config = String::from_utf8(config).unwrap();
    assert!(!config.contains(&format!("server.{leader}=")), "{config}");
    load.stop().await.is_on_every_member(&ensemble).await;
}

/// With read-only mode too: what it has would be old for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_removed_answers_no_reads() {
    let mut ensemble = Ensemble::of(4)
        .set("reconfigEnabled=true")
        .set("readonlymode.enabled=true")
        .set(&format!(
            "DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"
        ))
        .prepare();
    for member in 1..=4 {
        ensemble.spawn(member);
    }
    let leader = ensemble.await_leader();
    let follower = ensemble.a_follower();
    for member in 1..=4 {
        ensemble.await_serving(member);
    }
    let mut others = (1..=4).filter(|member| ![leader, follower].contains(member));
    let remaining = ensemble.client_of(others.next().unwrap()).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    remaining.create("/k", b"old", &open).await.unwrap();
    for removed in [follower, leader] {
        let client = ensemble.client_of(removed).await;
        let root = super_user(&ensemble).await;
        // Its answer may be lost with the leader.
        match change(&root, &[], &[&removed.to_string()]).await {
            Ok(_) | Err(Error::ConnectionLoss | Error::Custom(_)) => {}
            Err(error) => panic!("{error}"),
        }
        eventually("the removed member to know", || async {
            ensemble
                .has_said(removed, "this server was removed from the ensemble")
                .then_some(())
        })
        .await;
        let new = format!("without {removed}");
        eventually("a write", || async {
            let write = remaining.set_data("/k", new.as_bytes(), None);
            write.await.ok()
        })
        .await;
        // The client goes on looking for a server that takes it. A leader that has to go may be elected once more before the
        // change is at its end, and then what it says is not old.
        let read = tokio::time::timeout(Duration::from_secs(3), client.get_data("/k")).await;
        if let Ok(Ok((data, _))) = read {
            assert_eq!(data, new.as_bytes());
        }
        eventually("the removed member to serve nobody", || async {
            ensemble.mode(removed).is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_participant_that_is_not_there_is_refused_and_none_of_it_is_shown() {
    let mut ensemble = Ensemble::of(3)
        .set("reconfigEnabled=true")
        .set("initLimit=1")
        .set(&format!(
            "DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"
        ))
        .prepare();
    for member in 1..=3 {
        ensemble.spawn(member);
    }
    ensemble.await_leader();
    let root = super_user(&ensemble).await;
    let (before, _) = root.get_config().await.unwrap();
    let joining = ensemble.add();
    let line = format!("server.{joining}={}", ensemble.spec(joining));
    let refused = change(&root, &[&line], &[]).await.unwrap_err();
    // NewConfigNoQuorum, which this client has no name for.
    assert_eq!(refused, Error::UnexpectedErrorCode(-13));
    assert_eq!(root.get_config().await.unwrap().0, before);
    // As an observer it may come later.
    let line = line.replace("participant", "observer");
    assert!(line.contains("observer"), "{line}");
    let config = change(&root, &[&line], &[]).await.unwrap();
    assert!(config.contains(&line), "{config}");
    ensemble.spawn(joining);
    assert_eq!(ensemble.await_serving(joining), Mode::Observer);
    // It is told to have a vote when it has one: then one of the others may go for good.
    let line = line.replace("observer", "participant");
    change(&root, &[&line], &[]).await.unwrap();
    assert_eq!(ensemble.await_serving(joining), Mode::Follower);
    let follower = ensemble.a_follower();
    ensemble.kill(follower);
    let config = change(&root, &[], &[&follower.to_string()]).await.unwrap();
    assert!(!config.contains(&format!("server.{follower}=")), "{config}");
}
