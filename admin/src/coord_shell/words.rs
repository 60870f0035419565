//! A line as words, and words as options and arguments, in the manner of ZooKeeper's shell: options have one dash, stand
//! anywhere behind the command, and may share a dash where each is one letter.

use super::error::ShellError;

/// The words of a line. A word that begins with a quote ends with the next such quote.
pub(super) fn split(line: &str) -> Result<Vec<String>, ShellError> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => rest[1..]
                .split_once(first)
                .ok_or_else(|| ShellError::Usage(format!("A quote is not closed: {rest}")))?,
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value,
}

/// An option's name without its dash, and whether it takes a value.
pub(super) type OptionSpec = (&'static str, Takes);

/// What stands behind a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    options: Vec<(&'static str, String)>,
    positional: Vec<String>,
}

impl Arguments {
    /// Sorts words into options, which must be among `specs`, and the others.
    pub(super) fn parse(specs: &[OptionSpec], words: &[String]) -> Result<Arguments, ShellError> {
        let mut arguments = Arguments::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = match word.strip_prefix('-') {
                Some("-") => {
                    arguments.positional.extend(words.cloned());
                    break;
                }
                // A negative number is a value.
                Some(name) if !name.is_empty() && word.parse::<f64>().is_err() => name,
                _ => {
                    arguments.positional.push(word.clone());
                    continue;
                }
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            for (spec, attached) in found(specs, name)
                .ok_or_else(|| ShellError::Usage(format!("Unrecognized option: {word}")))?
            {
                let value = match spec.1 {
                    Takes::Nothing => String::new(),
                    Takes::Value => value
                        .or(attached)
                        .map(str::to_owned)
                        .or_else(|| words.next().cloned())
                        .ok_or_else(|| {
                            ShellError::Usage(format!("Missing argument for option: {}", spec.0))
                        })?,
                };
                arguments.options.push((spec.0, value));
            }
        }
        Ok(arguments)
    }

    /// Whether the option is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The option's value; empty if it takes none.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(option, _)| *option == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The option's value as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ShellError> {
        let parse = |value: &str| {
            value.parse().map_err(|_| {
                ShellError::Usage(format!("-{name} argument must be a number, not {value}"))
            })
        };
        self.value(name).map(parse).transpose()
    }

    /// The words that are no options.
    pub(super) fn positional(&self) -> &[String] {
        &self.positional
    }
}

/// The options that a word names: one, or several of one letter each, of which the last may carry its value.
fn found<'a>(specs: &[OptionSpec], name: &'a str) -> Option<Vec<(OptionSpec, Option<&'a str>)>> {
    let spec = |name: &str| specs.iter().find(|(known, _)| *known == name).copied();
    if let Some(spec) = spec(name) {
        return Some(vec![(spec, None)]);
    }
    let mut options = Vec::new();
    for (at, letter) in name.char_indices() {
        let rest = &name[at + letter.len_utf8()..];
        let spec = spec(letter.encode_utf8(&mut [0; 4]))?;
        if spec.1 == Takes::Value {
            options.push((spec, Some(rest).filter(|rest| !rest.is_empty())));
            break;
        }
        options.push((spec, None));
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap()
    }

    fn parse(line: &str) -> Result<Arguments, ShellError> {
        let specs = [
            ("s", Takes::Nothing),
            ("e", Takes::Nothing),
            ("t", Takes::Value),
            ("file", Takes::Value),
        ];
        Arguments::parse(&specs, &words(line))
    }

    #[test]
    fn quotes_keep_blanks_together() {
        assert_eq!(
            words("  create /a 'two words' \"and \t'three\"  x "),
            ["create", "/a", "two words", "and \t'three", "x"]
        );
        assert_eq!(words("set /a it's"), ["set", "/a", "it's"]);
        assert_eq!(words("set /a ''"), ["set", "/a", ""]);
        assert!(words(" \t ").is_empty());
        assert!(split("set /a 'x").is_err());
    }

    #[test]
    fn options_stand_anywhere_and_share_a_dash() {
        for line in [
            "-s -e -t 100 /a",
            "/a -se -t100",
            "-t=100 /a -es",
            "-set100 /a",
        ] {
            let arguments = parse(line).unwrap();
            assert!(arguments.has("s") && arguments.has("e"), "{line}");
            assert_eq!(arguments.number("t").unwrap(), Some(100), "{line}");
            assert_eq!(arguments.positional(), ["/a"], "{line}");
        }
        assert_eq!(parse("-file f").unwrap().value("file"), Some("f"));
        assert_eq!(
            parse("/a -5 -- -s").unwrap().positional(),
            ["/a", "-5", "-s"]
        );
    }

    #[test]
    fn mistakes_are_named() {
        let message = |line| parse(line).unwrap_err().to_string();
        assert_eq!(message("-sx /a"), "Unrecognized option: -sx");
        assert_eq!(message("/a -t"), "Missing argument for option: t");
        assert_eq!(
            parse("-t soon")
                .unwrap()
                .number::<u64>("t")
                .unwrap_err()
                .to_string(),
            "-t argument must be a number, not soon"
        );
    }
}
