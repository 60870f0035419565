//! SASL within a session: the client's tokens, and who it is at the end.

use bytes::Bytes;
use coord_core::OpError;
use coord_core::acl::{Identity, super_user};
use coord_core::digest_md5::{Exchange, Step};
use coord_core::request::Request;

use crate::config::Auth;

/// One connection's authentication; it begins with the client's first token.
#[derive(Debug, Default)]
pub(super) struct Sasl(Option<Exchange>);

impl Sasl {
    /// Looks at a token, and says what becomes of it. A server that has no users answers nothing to it, as ZooKeeper
    /// does, so that a client which would like to authenticate goes on without.
    pub(super) fn step(&mut self, token: Option<Bytes>, auth: &Auth) -> Request {
        if auth.sasl_users.is_empty() {
            return nothing();
        }
        let exchange = self.0.get_or_insert_with(|| Exchange::new(rand::random()));
        let token = token.unwrap_or_default();
        let password_of = |user: &str| auth.sasl_users.get(user).map(String::as_str);
        match exchange.step(&token, password_of) {
            Ok(Step::Challenge(token)) => Request::Sasl {
                token: Some(token),
                identities: Vec::new(),
            },
            Ok(Step::Authenticated { user, token }) => Request::Sasl {
                token: Some(token),
                identities: identities(user, auth),
            },
            Err(error) => {
                tracing::debug!("a client is not authenticated by SASL: {error}");
                refused(auth)
            }
        }
    }
}

fn nothing() -> Request {
    Request::Sasl {
        token: None,
        identities: Vec::new(),
    }
}

fn identities(user: String, auth: &Auth) -> Vec<Identity> {
    let is_super = auth.sasl_super_users.contains(&user);
    let mut identities = vec![Identity {
        scheme: "sasl".into(),
        id: user.into(),
    }];
    if is_super {
        identities.push(super_user());
    }
    identities
}

fn refused(auth: &Auth) -> Request {
    let required = auth.required_schemes.contains("sasl");
    if auth.allow_sasl_failed_clients && !required {
        return nothing();
    }
    Request::Refused {
        error: if required {
            OpError::SaslRequired
        } else {
            OpError::AuthFailed
        },
        close: true,
    }
}
