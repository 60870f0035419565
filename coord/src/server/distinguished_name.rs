//! The subject of a certificate in RFC 2253's form, letter for letter as Java prints it: ACLs hold it as an id.

use std::fmt::Write as _;

/// DER's tags, as far as they are needed.
mod tag {
    pub(super) const OID: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    pub(super) const VERSION: u8 = 0xa0;
    /// UTF8String, PrintableString, T61String, IA5String, GeneralString, UniversalString, BMPString.
    pub(super) const STRINGS: [u8; 7] = [0x0c, 0x13, 0x14, 0x16, 0x1b, 0x1c, 0x1e];
}

/// Attribute types that have a name in RFC 2253; others stand as numbers.
const NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
];

/// The subject of a certificate in DER; `None` if the bytes are no certificate.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let mut certificate = Der(certificate).expect(tag::SEQUENCE)?;
    let mut signed = certificate.expect(tag::SEQUENCE)?;
    if signed.0.first() == Some(&tag::VERSION) {
        signed.next()?;
    }
    // The serial number, the signature's algorithm, the issuer and the time of validity.
    for _ in 0..4 {
        signed.next()?;
    }
    name(signed.expect(tag::SEQUENCE)?)
}

/// The last part comes first.
fn name(mut name: Der<'_>) -> Option<String> {
    let mut parts = Vec::new();
    while !name.0.is_empty() {
        let mut part = name.expect(tag::SET)?;
        let mut text = String::new();
        while !part.0.is_empty() {
            if !text.is_empty() {
                text.push('+');
            }
            attribute(part.expect(tag::SEQUENCE)?, &mut text)?;
        }
        parts.push(text);
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(mut attribute: Der<'_>, text: &mut String) -> Option<()> {
    let kind = attribute.expect(tag::OID)?.0;
    let whole = attribute.0;
    let (tag, value) = attribute.next()?;
    match NAMES.iter().find(|(oid, _)| *oid == kind) {
        Some((_, name)) if tag::STRINGS.contains(&tag) => {
            let _ = write!(text, "{name}=");
            escape(&String::from_utf8_lossy(value.0), text);
        }
        named => {
            match named {
                Some((_, name)) => text.push_str(name),
                None => number(kind, text)?,
            }
            text.push_str("=#");
            for byte in &whole[..whole.len() - attribute.0.len()] {
                let _ = write!(text, "{byte:02x}");
            }
        }
    }
    Some(())
}

fn escape(value: &str, text: &mut String) {
    let inner = value.trim_matches(' ');
    let lead = value.len() - value.trim_start_matches(' ').len();
    for (at, c) in value.char_indices() {
        let outside = at < lead || at >= lead + inner.len();
        if c == '\0' {
            text.push_str("\\00");
            continue;
        }
        if outside || ",=+<>#;\"\\".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
}

/// An object identifier with dots.
fn number(oid: &[u8], text: &mut String) -> Option<()> {
    let mut arcs = Vec::new();
    let mut arc: u64 = 0;
    for &byte in oid {
        arc = arc.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            arcs.push(arc);
            arc = 0;
        }
    }
    let (&first, rest) = arcs.split_first()?;
    let root = (first / 40).min(2);
    let _ = write!(text, "{root}.{}", first - root * 40);
    for arc in rest {
        let _ = write!(text, ".{arc}");
    }
    Some(())
}

/// Bytes of DER that are left to read.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content.
    fn next(&mut self) -> Option<(u8, Der<'a>)> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let mut len = usize::from(first);
        if first & 0x80 != 0 {
            let bytes = usize::from(first & 0x7f);
            if !(1..=4).contains(&bytes) || rest.len() < bytes {
                return None;
            }
            let (len_bytes, behind) = rest.split_at(bytes);
            len = len_bytes
                .iter()
                .fold(0, |len, &byte| len << 8 | usize::from(byte));
            rest = behind;
        }
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, Der(content)))
    }

    /// The next element's content, if it has this tag.
    fn expect(&mut self, expected: u8) -> Option<Der<'a>> {
        let (tag, content) = self.next()?;
        (tag == expected).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of `X500Principal.getName` of OpenJDK 17 for the bytes.
    #[test]
    fn names_are_as_java_prints_them() {
        for (der, expected) in [
            (
                "3081b4310b3009060355040513023132310a3008060355040c1301743114301206092a864886f70d0109011605614062\
                 2e633111300f060a0992268993f22c64010113017531123010060a0992268993f22c64011916026463310a3008060355\
                 040913017a310a30080603550408130179310a30080603550407130178310b3009060355040613024445311430080603\
                 55040a1301623008060355040b130161311530130603550403130c6b617a6f6f20636c69656e74",
                "CN=kazoo client,O=b+OU=a,C=DE,L=x,ST=y,STREET=z,DC=dc,UID=u,1.2.840.113549.1.9.1=#16056140622e63,\
                 2.5.4.12=#130174,2.5.4.5=#13023132",
            ),
            (
                "30153113301106035504030c0a23612c3d2b3c3e3b225c",
                r#"CN=\#a\,\=\+\<\>\;\"\\"#,
            ),
            (
                "30133111300f06035504030c084ac3bc7267656e00",
                "CN=Jürgen\\00",
            ),
            ("300f310d300b06035504030c0420612020", "CN=\\ a\\ \\ "),
            ("300d310b3009060355040302020061", "CN=#02020061"),
            ("3000", ""),
        ] {
            let der: Vec<u8> = (0..der.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&der[at..at + 2], 16).unwrap())
                .collect();
            let content = Der(&der).expect(tag::SEQUENCE).unwrap();
            assert_eq!(name(content).as_deref(), Some(expected));
            for cut in 0..der.len() {
                assert!(
                    Der(&der[..cut])
                        .expect(tag::SEQUENCE)
                        .and_then(name)
                        .is_none()
                );
            }
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_subject() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 2, 0x30, 0],
        ] {
            assert_eq!(subject(bytes), None);
        }
    }
}
