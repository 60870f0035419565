//! The rule that a session shows who it is before it does anything.

use crate::acl::Identity;

/// Schemes that can be asked for.
const SCHEMES: [&str; 4] = ["ip", "digest", "sasl", "x509"];

/// Schemes of which a session has to have shown one. None by default, and then everyone may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequiredSchemes(u8);

impl RequiredSchemes {
    /// Any of `names`; the first that is no scheme that can be shown, if there is one.
    pub fn any_of<'a>(
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<RequiredSchemes, &'a str> {
        let mut required = RequiredSchemes(0);
        for name in names {
            let bit = SCHEMES.iter().position(|&scheme| scheme == name);
            required.0 |= 1 << bit.ok_or(name)?;
        }
        Ok(required)
    }

    /// Whether `scheme` is one of them.
    pub fn contains(self, scheme: &str) -> bool {
        let bit = SCHEMES.iter().position(|&known| known == scheme);
        bit.is_some_and(|bit| self.0 & (1 << bit) != 0)
    }

    /// Whether a session with these identities may do something.
    pub fn are_met_by(self, identities: &[Identity]) -> bool {
        let shown = |identity: &Identity| self.contains(&identity.scheme);
        self.0 == 0 || identities.iter().any(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_them_is_enough() {
        let identity = |scheme: &'static str| Identity {
            scheme: scheme.into(),
            id: "x".into(),
        };
        let required = RequiredSchemes::any_of(["sasl", "x509"]).unwrap();
        assert!(required.contains("sasl") && !required.contains("ip"));
        assert!(!required.are_met_by(&[identity("ip"), identity("super")]));
        assert!(required.are_met_by(&[identity("ip"), identity("x509")]));
        assert!(RequiredSchemes::default().are_met_by(&[]));
        assert_eq!(RequiredSchemes::any_of(["sasl", "world"]), Err("world"));
    }
}
