//! SASL DIGEST-MD5 (RFC 2831) from the server's side, as ZooKeeper's clients speak it: authentication only, once per
//! connection. What is random comes from the shell.

use std::fmt::Write as _;

use bytes::Bytes;
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// Bytes of randomness behind a nonce.
pub const NONCE_LEN: usize = 16;

/// The longest token of a client, in bytes; the RFC's own bound.
const TOKEN_MAX_LEN: usize = 4096;

/// What every ZooKeeper client takes its server for.
const REALM: &str = "zk-sasl-md5";
const URI: &str = "zookeeper/zk-sasl-md5";

/// One client's authentication.
#[derive(Debug)]
pub struct Exchange {
    realm: &'static str,
    uri: &'static str,
    nonce: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Challenged,
    Over,
}

/// What comes of a client's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The client has to answer this.
    Challenge(Bytes),
    /// The client is `user`, and learns by the token that the server knows the password too.
    Authenticated {
        /// Who it is.
        user: String,
        /// What to send.
        token: Bytes,
    },
}

/// Why a client is not let in. It is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// It speaks when it is not its turn: before the challenge, or after its answer.
    #[error("a token that was not asked for")]
    Unexpected,
    /// Its token is too long, or no list of directives.
    #[error("a malformed token")]
    Malformed,
    /// It answers another challenge, or asks for what is not served.
    #[error("an answer to another challenge")]
    OtherChallenge,
    /// There is no such user, or the password is wrong.
    #[error("an unknown user or a wrong password")]
    WrongPassword,
}

impl Exchange {
    /// Of a connection that has not begun it.
    pub fn new(nonce: [u8; NONCE_LEN]) -> Exchange {
        Exchange {
            realm: REALM,
            uri: URI,
            nonce: hex(&nonce),
            state: State::Fresh,
        }
    }

    /// Takes the client's next token: nothing at first, then its answer to the challenge. `password_of` knows the users.
    pub fn step<'a>(
        &mut self,
        token: &[u8],
        password_of: impl FnOnce(&str) -> Option<&'a str>,
    ) -> Result<Step, SaslError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Fresh if token.is_empty() => {
                self.state = State::Challenged;
                Ok(Step::Challenge(self.challenge().into()))
            }
            State::Challenged => self.answered(token, password_of),
            State::Fresh | State::Over => Err(SaslError::Unexpected),
        }
    }

    fn challenge(&self) -> String {
        format!(
            "realm=\"{}\",nonce=\"{}\",qop=\"auth\",charset=utf-8,algorithm=md5-sess",
            self.realm, self.nonce
        )
    }

    fn answered<'a>(
        &self,
        token: &[u8],
        password_of: impl FnOnce(&str) -> Option<&'a str>,
    ) -> Result<Step, SaslError> {
        let answer = Answer::parse(token)?;
        let is =
            |shown: &Option<Vec<u8>>, expected: &str| shown.as_deref() == Some(expected.as_bytes());
        let optional =
            |shown: &Option<Vec<u8>>, expected: &str| shown.is_none() || is(shown, expected);
        if !is(&answer.nonce, &self.nonce)
            || !is(&answer.nc, "00000001")
            || !is(&answer.uri, self.uri)
            || !is(&answer.realm, self.realm)
            || !optional(&answer.qop, "auth")
            || !optional(&answer.charset, "utf-8")
        {
            return Err(SaslError::OtherChallenge);
        }
        let (Some(user), Some(cnonce), Some(shown)) =
            (&answer.user, &answer.cnonce, &answer.response)
        else {
            return Err(SaslError::Malformed);
        };
        let user = String::from_utf8(user.clone()).map_err(|_| SaslError::Malformed)?;
        let password = password_of(&user);
        // An unknown user takes as long as a wrong password.
        let secret = self.secret(&user, password.unwrap_or_default(), cnonce, &answer.authzid);
        let expected = self.response(&secret, cnonce, "AUTHENTICATE:");
        let right = bool::from(expected.as_bytes().ct_eq(shown)) & password.is_some();
        if !right {
            return Err(SaslError::WrongPassword);
        }
        let token = format!("rspauth={}", self.response(&secret, cnonce, ":"));
        Ok(Step::Authenticated {
            user,
            token: token.into(),
        })
    }

    /// The digest of the RFC's A1.
    fn secret(
        &self,
        user: &str,
        password: &str,
        cnonce: &[u8],
        authzid: &Option<Vec<u8>>,
    ) -> String {
        let mut known = Md5::new();
        for (at, part) in [user, self.realm, password].into_iter().enumerate() {
            if at > 0 {
                known.update(b":");
            }
            known.update(latin_1(part));
        }
        let mut session = Md5::new();
        session.update(known.finalize());
        session.update(b":");
        session.update(&self.nonce);
        session.update(b":");
        session.update(cnonce);
        if let Some(authzid) = authzid {
            session.update(b":");
            session.update(authzid);
        }
        hex(&session.finalize())
    }

    /// What the client has to show, or what shows that it is the server, by what stands in front of the address.
    fn response(&self, secret: &str, cnonce: &[u8], method: &str) -> String {
        let mut addressed = Md5::new();
        addressed.update(method);
        addressed.update(self.uri);
        let mut response = Md5::new();
        response.update(secret);
        response.update(b":");
        response.update(&self.nonce);
        response.update(b":00000001:");
        response.update(cnonce);
        response.update(b":auth:");
        response.update(hex(&addressed.finalize()));
        hex(&response.finalize())
    }
}

/// As the RFC wants names and passwords: in ISO 8859-1 if they have no other characters.
fn latin_1(text: &str) -> Vec<u8> {
    let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    bytes.unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The directives of a client's answer.
#[derive(Debug, Default)]
struct Answer {
    user: Option<Vec<u8>>,
    realm: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    cnonce: Option<Vec<u8>>,
    nc: Option<Vec<u8>>,
    qop: Option<Vec<u8>>,
    uri: Option<Vec<u8>>,
    response: Option<Vec<u8>>,
    charset: Option<Vec<u8>>,
    authzid: Option<Vec<u8>>,
}

impl Answer {
    /// Each directive once; those that are not known are passed over, as the RFC says.
    fn parse(token: &[u8]) -> Result<Answer, SaslError> {
        if token.len() > TOKEN_MAX_LEN {
            return Err(SaslError::Malformed);
        }
        let mut answer = Answer::default();
        let mut rest = token;
        loop {
            rest = rest.trim_ascii_start();
            // An empty element of the list says nothing.
            if let Some((b',', behind)) = rest.split_first() {
                rest = behind;
                continue;
            }
            if rest.is_empty() {
                return Ok(answer);
            }
            let equals = rest.iter().position(|&byte| byte == b'=');
            let equals = equals.ok_or(SaslError::Malformed)?;
            let name = rest[..equals].trim_ascii();
            let value;
            (value, rest) = parse_value(rest[equals + 1..].trim_ascii_start())?;
            let place = match name {
                b"username" => &mut answer.user,
                b"realm" => &mut answer.realm,
                b"nonce" => &mut answer.nonce,
                b"cnonce" => &mut answer.cnonce,
                b"nc" => &mut answer.nc,
                b"qop" => &mut answer.qop,
                b"digest-uri" => &mut answer.uri,
                b"response" => &mut answer.response,
                b"charset" => &mut answer.charset,
                b"authzid" => &mut answer.authzid,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(SaslError::Malformed);
            }
        }
    }
}

/// A word or a quoted text, and what stands behind it.
fn parse_value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), SaslError> {
    let Some((b'"', mut rest)) = text.split_first() else {
        let end = text.iter().position(|&byte| byte == b',');
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        return Ok((word.trim_ascii_end().to_vec(), rest));
    };
    let mut value = Vec::new();
    loop {
        let (&byte, behind) = rest.split_first().ok_or(SaslError::Malformed)?;
        rest = behind;
        match byte {
            b'"' => break,
            b'\\' => {
                let (&escaped, behind) = rest.split_first().ok_or(SaslError::Malformed)?;
                value.push(escaped);
                rest = behind;
            }
            byte => value.push(byte),
        }
    }
    let rest = rest.trim_ascii_start();
    match rest.first() {
        None | Some(b',') => Ok((value, rest)),
        Some(_) => Err(SaslError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The RFC's example, section 4.
    const ANSWER: &str = "charset=utf-8,username=\"chris\",realm=\"elwood.innosoft.com\",nonce=\"OA6MG9tEQGm2hh\",\
        nc=00000001,cnonce=\"OA6MHXh6VqTrRk\",digest-uri=\"imap/elwood.innosoft.com\",\
        response=d388dad90d4bbd760a152321f2143af7,qop=auth";

    fn challenged() -> Exchange {
        Exchange {
            realm: "elwood.innosoft.com",
            uri: "imap/elwood.innosoft.com",
            nonce: "OA6MG9tEQGm2hh".to_owned(),
            state: State::Challenged,
        }
    }

    fn answer(token: &str) -> Result<Step, SaslError> {
        let password_of = |user: &str| (user == "chris").then_some("secret");
        challenged().step(token.as_bytes(), password_of)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let authenticated = Step::Authenticated {
            user: "chris".to_owned(),
            token: Bytes::from_static(b"rspauth=ea40f60335c427b5527b84dbabcdfffd"),
        };
        assert_eq!(answer(ANSWER), Ok(authenticated.clone()));
        let spaced = format!(
            " ,, {} , x-unknown=\"a\\\"b\" ,",
            ANSWER.replace(',', " , ")
        );
        assert_eq!(answer(&spaced), Ok(authenticated));
    }

    #[test]
    fn the_challenge_comes_first_and_once() {
        let mut exchange = Exchange::new([7; NONCE_LEN]);
        let Ok(Step::Challenge(challenge)) = exchange.step(b"", |_| None) else {
            panic!("a challenge")
        };
        assert_eq!(
            challenge,
            "realm=\"zk-sasl-md5\",nonce=\"07070707070707070707070707070707\",qop=\"auth\",charset=utf-8,algorithm=md5-sess"
        );
        assert!(exchange.step(b"", |_| None).is_err());
        assert_eq!(exchange.step(b"", |_| None), Err(SaslError::Unexpected));
        let mut eager = Exchange::new([7; NONCE_LEN]);
        assert_eq!(eager.step(b"x", |_| None), Err(SaslError::Unexpected));
        assert_eq!(eager.step(b"", |_| None), Err(SaslError::Unexpected));
    }

    #[test]
    fn an_answer_counts_once() {
        let password_of = |_: &str| Some("secret");
        let mut exchange = challenged();
        assert!(exchange.step(ANSWER.as_bytes(), password_of).is_ok());
        let again = exchange.step(ANSWER.as_bytes(), password_of);
        assert_eq!(again, Err(SaslError::Unexpected));
    }

    #[test]
    fn who_does_not_know_the_password_is_refused() {
        for (from, to) in [
            ("d388", "d389"),
            ("response=d388dad90d4bbd760a152321f2143af7", "response=\"\""),
            ("chris", "chrid"),
            ("OA6MHXh6VqTrRk", "OA6MHXh6VqTrRl"),
            ("qop=auth", "authzid=\"root\",qop=auth"),
        ] {
            let wrong = answer(&ANSWER.replace(from, to));
            assert_eq!(wrong, Err(SaslError::WrongPassword), "{to}");
        }
        // A user without a password does not exist: an empty one lets nobody in.
        let nobody = challenged().step(ANSWER.as_bytes(), |_| None);
        assert_eq!(nobody, Err(SaslError::WrongPassword));
    }

    #[test]
    fn an_answer_to_something_else_is_refused() {
        for (from, to) in [
            ("OA6MG9tEQGm2hh", "OA6MG9tEQGm2hi"),
            ("00000001", "00000002"),
            ("imap/", "zookeeper/"),
            ("realm=\"elwood.innosoft.com\",", ""),
            ("qop=auth", "qop=auth-int"),
            ("charset=utf-8", "charset=ascii"),
        ] {
            let other = answer(&ANSWER.replace(from, to));
            assert_eq!(other, Err(SaslError::OtherChallenge), "{to}");
        }
        for token in [
            "username",
            "username=\"chris",
            "username=\"chris\\",
            "username=\"chris\"x",
            "nc=00000001,nc=00000001",
            &ANSWER.replace("username=\"chris\",", ""),
            &ANSWER.replace(",cnonce=\"OA6MHXh6VqTrRk\"", ""),
            &format!("{ANSWER},x={}", "x".repeat(TOKEN_MAX_LEN)),
        ] {
            assert!(matches!(
                answer(token),
                Err(SaslError::Malformed | SaslError::OtherChallenge)
            ));
        }
    }

    #[test]
    fn names_beyond_latin_1_stay_in_utf_8() {
        assert_eq!(latin_1("Jürgen"), b"J\xfcrgen");
        assert_eq!(latin_1("Łukasz"), "Łukasz".as_bytes());
    }
}
