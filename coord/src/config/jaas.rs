//! The part of a JAAS login file that names the users of SASL DIGEST-MD5:
//!
//! ```text
//! Server {
//!     org.apache.zookeeper.server.auth.DigestLoginModule required
//!     user_super="secret"
//!     user_bob="hunter2";
//! };
//! ```

use std::collections::BTreeMap;

/// What stands before the name of a user.
const USER: &str = "user_";

/// Why a JAAS file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JaasError {
    #[error("line {line}: a quoted value has no end")]
    OpenQuote { line: usize },
    #[error("a comment has no end")]
    OpenComment,
    #[error("line {line}: {found:?} stands where {expected} is expected")]
    Unexpected {
        line: usize,
        found: String,
        expected: &'static str,
    },
}

/// The users of `section` with their passwords; none if there is no such section.
pub(super) fn users(text: &str, section: &str) -> Result<BTreeMap<String, String>, JaasError> {
    let mut tokens = Tokens {
        rest: text,
        line: 1,
    };
    let mut users = BTreeMap::new();
    while let Some(name) = tokens.next()? {
        tokens.expect("{")?;
        loop {
            let token = tokens.some("}")?;
            if token == "}" {
                break;
            }
            // A login module: its class, its flag, then options up to a semicolon.
            tokens.some("required")?;
            loop {
                let option = tokens.some(";")?;
                if option == ";" {
                    break;
                }
                tokens.expect("=")?;
                let value = tokens.some("a value")?;
                if name == section
                    && let Some(user) = option.strip_prefix(USER)
                {
                    users.insert(user.to_owned(), value);
                }
            }
        }
        tokens.expect(";")?;
    }
    Ok(users)
}

struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl Tokens<'_> {
    fn some(&mut self, expected: &'static str) -> Result<String, JaasError> {
        let token = self.next()?;
        token.ok_or(JaasError::Unexpected {
            line: self.line,
            found: String::new(),
            expected,
        })
    }

    fn expect(&mut self, expected: &'static str) -> Result<(), JaasError> {
        let found = self.some(expected)?;
        if found == expected {
            return Ok(());
        }
        Err(JaasError::Unexpected {
            line: self.line,
            found,
            expected,
        })
    }

    fn advance(&mut self, len: usize) {
        let (passed, rest) = self.rest.split_at(len);
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }

    /// Passes over white space and comments.
    fn skip(&mut self) -> Result<(), JaasError> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.advance(blank);
            if self.rest.starts_with("//") || self.rest.starts_with('#') {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.advance(end);
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").ok_or(JaasError::OpenComment)?;
                self.advance(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    /// The next word, sign or quoted value without its quotes.
    fn next(&mut self) -> Result<Option<String>, JaasError> {
        self.skip()?;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        if first == '"' {
            return self.quoted().map(Some);
        }
        let len = if "{};=".contains(first) {
            1
        } else {
            let ends = |c: char| c.is_whitespace() || "{};=\"".contains(c);
            self.rest.find(ends).unwrap_or(self.rest.len())
        };
        let token = self.rest[..len].to_owned();
        self.advance(len);
        Ok(Some(token))
    }

    fn quoted(&mut self) -> Result<String, JaasError> {
        let line = self.line;
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.advance(at + 1);
                    return Ok(value);
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        Err(JaasError::OpenQuote { line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_one_section() {
        let text = r#"
            // who may log in
            Server {
                org.apache.zookeeper.server.auth.DigestLoginModule required
                user_super="sec;ret" /* first
                of two */ user_bob = "a \"b\" \\ c";
            };
            # another server's
            QuorumServer { x.Module optional user_eve="e" debug=true; y.Module sufficient; };
        "#;
        let users = |section| super::users(text, section).unwrap();
        let expected = [("super", "sec;ret"), ("bob", r#"a "b" \ c"#)];
        let expected = expected.map(|(user, password)| (user.to_owned(), password.to_owned()));
        assert_eq!(users("Server"), BTreeMap::from(expected));
        assert_eq!(users("QuorumServer").len(), 1);
        assert!(users("Client").is_empty());
        assert!(super::users("", "Server").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_login_file_is_refused_with_its_line() {
        for text in [
            "Server",
            "Server {",
            "Server { a",
            "Server { a required",
            "Server { a required; }",
        ] {
            assert!(
                matches!(users(text, "Server"), Err(JaasError::Unexpected { .. })),
                "{text}"
            );
        }
        assert_eq!(
            users("Server {\n m required\n user_a=\"b; };", "Server"),
            Err(JaasError::OpenQuote { line: 3 })
        );
        assert_eq!(users("/* ", "Server"), Err(JaasError::OpenComment));
        let error = users("Server {\n m required user_a; };", "Server").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: \";\" stands where = is expected"
        );
    }
}
