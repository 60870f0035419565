//! Who may do what: digest identities, ACLs, and the ensemble's own configuration.

use zookeeper_client::{
    Acl, Acls, AuthId, AuthUser, Client, CreateMode, EnsembleUpdate, Error, Permission,
};

use super::{PERSISTENT, on_one_and_on_three};
use crate::harness::{Ensemble, SESSION_TIMEOUT};

on_one_and_on_three!(access);

async fn access(ensemble: &Ensemble) {
    let ada = Client::connector()
        .with_session_timeout(SESSION_TIMEOUT)
        .with_auth("digest", b"ada:lovelace")
        .connect(&ensemble.connect_string())
        .await
        .unwrap();
    let anyone = ensemble.client().await;
    identities_are_listed(&ada, &anyone).await;
    a_creators_node_is_closed_to_others(&ada, &anyone).await;
    permissions_are_told_apart(&ada, &anyone).await;
    if ensemble.members().count() > 1 {
        the_ensemble_is_told_and_not_changed_unless_enabled(&anyone).await;
    }
    an_unknown_scheme_ends_the_session(ensemble).await;
}

async fn identities_are_listed(ada: &Client, anyone: &Client) {
    let users = ada.list_auth_users().await.unwrap();
    assert!(users.contains(&AuthUser::new("digest", "ada")), "{users:?}");
    let users = anyone.list_auth_users().await.unwrap();
    assert_eq!(users, [AuthUser::new("ip", "127.0.0.1")]);
}

async fn a_creators_node_is_closed_to_others(ada: &Client, anyone: &Client) {
    let creators = CreateMode::Persistent.with_acls(Acls::creator_all());
    let nobodys = anyone.create("/nobodys", b"", &creators).await.unwrap_err();
    assert_eq!(nobodys, Error::InvalidAcl);
    ada.create("/diary", b"dear", &creators).await.unwrap();
    anyone.sync("/").await.unwrap();
    assert_eq!(anyone.get_data("/diary").await.unwrap_err(), Error::NoAuth);
    assert_eq!(
        anyone.list_children("/diary").await.unwrap_err(),
        Error::NoAuth
    );
    assert_eq!(
        anyone.set_data("/diary", b"", None).await.unwrap_err(),
        Error::NoAuth
    );
    assert_eq!(
        anyone
            .create("/diary/page", b"", &PERSISTENT)
            .await
            .unwrap_err(),
        Error::NoAuth
    );
    let exists = anyone.check_stat("/diary").await.unwrap_err();
    assert_eq!(exists, Error::NoAuth, "that it is there is a secret too");
    assert_eq!(ada.get_data("/diary").await.unwrap().0, b"dear");
    let (acls, _) = ada.get_acl("/diary").await.unwrap();
    assert_eq!(
        (acls.len(), acls[0].scheme(), acls[0].permission()),
        (1, "digest", Permission::ALL)
    );
    assert!(acls[0].id().starts_with("ada:"), "{acls:?}");
    // Identities are added to those that the session has.
    anyone.auth("digest", b"ada:lovelace").await.unwrap();
    assert_eq!(anyone.get_data("/diary").await.unwrap().0, b"dear");
}

async fn permissions_are_told_apart(ada: &Client, anyone: &Client) {
    let open = [
        Acl::new(Permission::READ | Permission::CREATE, AuthId::anyone()),
        Acl::new(Permission::ALL, AuthId::new("digest", "grace:not-a-digest")),
    ];
    ada.create("/board", b"", &PERSISTENT).await.unwrap();
    let stat = ada.set_acl("/board", &open, Some(0)).await.unwrap();
    assert_eq!(stat.aversion, 1);
    assert_eq!(
        ada.set_acl("/board", &open, Some(0)).await.unwrap_err(),
        Error::NoAuth
    );
    anyone.sync("/").await.unwrap();
    anyone.get_data("/board").await.unwrap();
    anyone
        .create("/board/note", b"", &PERSISTENT)
        .await
        .unwrap();
    assert_eq!(
        anyone.set_data("/board", b"", None).await.unwrap_err(),
        Error::NoAuth
    );
    assert_eq!(
        anyone.delete("/board/note", None).await.unwrap_err(),
        Error::NoAuth
    );
}

async fn the_ensemble_is_told_and_not_changed_unless_enabled(anyone: &Client) {
    let (config, _) = anyone.get_config().await.unwrap();
    let config = String::from_utf8_lossy(&config);
    assert!(
        config.contains("server.2=") && config.contains("version="),
        "{config}"
    );
    let update = EnsembleUpdate::Incremental {
        joinings: vec!["server.9=127.0.0.1:1:2:observer;127.0.0.1:3"].into_iter(),
        leavings: vec![].into_iter(),
    };
    let error = anyone.update_ensemble(update, None).await.unwrap_err();
    assert_eq!(error, Error::ReconfigDisabled);
}

async fn an_unknown_scheme_ends_the_session(ensemble: &Ensemble) {
    let client = ensemble.client().await;
    assert_eq!(
        client.auth("gregorian", b"x").await.unwrap_err(),
        Error::AuthFailed
    );
}
