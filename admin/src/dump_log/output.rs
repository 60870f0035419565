//! What is printed: one line at a time, as text or as JSON, and at the end what does not fit together.

use std::io::{BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i64),
    Is(bool),
    Text(String),
    List(Vec<String>),
    /// Printed as far as it is UTF-8; in JSON whole, as `{"base64": …}` where it is not.
    Bytes(Vec<u8>),
    /// JSON that stands for itself.
    Json(String),
    /// `OptionalLong`, as Java prints one.
    Optional(Option<i64>),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Is(is) => is.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(items) => format!("[{}]", items.join(",")),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Json(json) => json.clone(),
            Self::Optional(None) => "OptionalLong.empty".to_owned(),
            Self::Optional(Some(number)) => format!("OptionalLong[{number}]"),
        }
    }

    fn into_json(self) -> String {
        let json: serde_json::Value = match self {
            Self::Number(number) => number.into(),
            Self::Is(is) => is.into(),
            Self::Text(text) => text.into(),
            Self::List(items) => items.into(),
            Self::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(error) => serde_json::json!({ "base64": STANDARD.encode(error.as_bytes()) }),
            },
            Self::Json(json) => return json,
            Self::Optional(number) => number.into(),
        };
        json.to_string()
    }
}

/// One thing that was found in a file.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    kind: &'static str,
    fields: Vec<(&'static str, Value)>,
    /// What the line is in text instead of its fields.
    sentence: Option<String>,
    /// What stands before the fields in text.
    prefix: &'static str,
    /// What stands after them.
    suffix: &'static str,
}

impl Line {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            fields: Vec::new(),
            sentence: None,
            prefix: "",
            suffix: "",
        }
    }

    pub(crate) fn prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = prefix;
        self
    }

    pub(crate) fn suffix(mut self, suffix: &'static str) -> Self {
        self.suffix = suffix;
        self
    }

    pub(crate) fn sentence(mut self, sentence: String) -> Self {
        self.sentence = Some(sentence);
        self
    }

    pub(crate) fn field(mut self, name: &'static str, value: Value) -> Self {
        self.fields.push((name, value));
        self
    }

    pub(crate) fn number(self, name: &'static str, value: impl Into<i64>) -> Self {
        self.field(name, Value::Number(value.into()))
    }

    pub(crate) fn is(self, name: &'static str, value: bool) -> Self {
        self.field(name, Value::Is(value))
    }

    pub(crate) fn string(self, name: &'static str, value: impl Into<String>) -> Self {
        self.field(name, Value::Text(value.into()))
    }

    fn text(&self) -> String {
        match &self.sentence {
            Some(sentence) => sentence.clone(),
            None => {
                let fields = self.fields.iter();
                let fields: Vec<_> = fields
                    .map(|(name, value)| format!("{name}: {}", value.text()))
                    .collect();
                format!("{}{}{}", self.prefix, fields.join(" "), self.suffix)
            }
        }
    }

    /// With the fields in their order.
    fn into_json(self, file: &str) -> String {
        let beside = [("file", file), ("kind", self.kind)];
        let beside = beside.map(|(name, value)| (name, serde_json::Value::from(value).to_string()));
        let fields = self.fields.into_iter();
        let fields = fields.map(|(name, value)| (name, value.into_json()));
        let members: Vec<String> = beside
            .into_iter()
            .chain(fields)
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

/// How lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Where lines go.
pub(crate) struct Output<W: Write = BufWriter<StdoutLock<'static>>> {
    format: Format,
    file: String,
    out: W,
}

impl Output {
    pub(crate) fn to_stdout(format: Format) -> Self {
        Self::to(BufWriter::new(std::io::stdout().lock()), format)
    }
}

impl<W: Write> Output<W> {
    pub(crate) fn to(out: W, format: Format) -> Self {
        Self {
            format,
            file: String::new(),
            out,
        }
    }

    /// Says which file comes now.
    pub(crate) fn begin(&mut self, file: &Path) {
        self.file = file.display().to_string();
        if self.format == Format::Text {
            self.write(&format!("Dumping {}", self.file));
        }
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, line: Line) {
        let text = match self.format {
            Format::Text => line.text(),
            Format::Json => line.into_json(&self.file),
        };
        self.write(&text);
    }

    /// A reader that has seen enough, as `head` does, is no error.
    fn write(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    pub(crate) fn flush(&mut self) {
        let _ = self.out.flush();
    }
}

/// What is wrong with a file, as far as it is told at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// An entry of an offset index that leads to another batch.
    Mismatch,
    /// An entry of a time index whose batch has another timestamp.
    TimestampMismatch,
    /// An entry of a time index that does not rise.
    OutOfOrder,
    /// An entry of a time index whose offset ends no batch.
    OffsetNotFound,
    /// A record whose offset does not follow the one before.
    NonConsecutive,
}

impl Finding {
    /// In the order in which they are told.
    const ALL: [Self; 5] = [
        Self::Mismatch,
        Self::TimestampMismatch,
        Self::OutOfOrder,
        Self::OffsetNotFound,
        Self::NonConsecutive,
    ];

    fn heading(self, file: &Path) -> String {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let file = file.display();
        match self {
            Self::Mismatch => format!("Mismatches in :{file}"),
            Self::TimestampMismatch => format!("Found timestamp mismatch in :{file}"),
            Self::OutOfOrder => format!("Found out of order timestamp in :{file}"),
            Self::OffsetNotFound => {
                "The following indexed offsets are not found in the log.".to_owned()
            }
            Self::NonConsecutive => format!("Non-consecutive offsets in {file}"),
        }
    }

    fn line(self, (first, second): (i64, i64)) -> String {
        match self {
            Self::Mismatch => format!("  Index offset: {first}, log offset: {second}"),
            Self::TimestampMismatch => {
                format!("  Index timestamp: {first}, log timestamp: {second}")
            }
            Self::OutOfOrder => {
                format!("  Index timestamp: {first}, Previously indexed timestamp: {second}")
            }
            Self::OffsetNotFound => {
                format!("Indexed offset: {first}, found log offset: {second}")
            }
            Self::NonConsecutive => format!("  {first} is followed by {second}"),
        }
    }

    /// Kafka tells some of them last first.
    fn is_told_backwards(self) -> bool {
        matches!(self, Self::Mismatch | Self::NonConsecutive)
    }
}

/// All that does not fit together.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<(Finding, PathBuf, (i64, i64))>,
}

impl Findings {
    pub(crate) fn add(&mut self, finding: Finding, file: &Path, pair: (i64, i64)) {
        self.found.push((finding, file.to_owned(), pair));
    }

    /// The lines on standard error.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for finding in Finding::ALL {
            let mut files: Vec<&Path> = Vec::new();
            let of_kind = || self.found.iter().filter(|(kind, ..)| *kind == finding);
            for (_, file, _) in of_kind() {
                if files.last() != Some(&file.as_path()) {
                    files.push(file);
                }
            }
            for file in files {
                lines.push(finding.heading(file));
                let pairs = of_kind().filter(|(_, of, _)| of == file);
                let mut told: Vec<_> = pairs.map(|(_, _, pair)| finding.line(*pair)).collect();
                if finding.is_told_backwards() {
                    told.reverse();
                }
                lines.append(&mut told);
            }
        }
        lines
    }

    pub(crate) fn print(&self) {
        for line in self.lines() {
            eprintln!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_text_or_json() {
        let line = Line::new("record")
            .prefix("| ")
            .number("offset", 7)
            .is("isvalid", true)
            .field("headerKeys", Value::List(vec!["a".into(), "b".into()]))
            .field("deleteHorizonMs", Value::Optional(None))
            .field("key", Value::Bytes(vec![0xff]))
            .field("payload", Value::Bytes(b"v".to_vec()));
        assert_eq!(
            line.text(),
            "| offset: 7 isvalid: true headerKeys: [a,b] deleteHorizonMs: OptionalLong.empty key: \u{fffd} payload: v"
        );
        assert_eq!(
            line.into_json("0.log"),
            r#"{"file":"0.log","kind":"record","offset":7,"isvalid":true,"headerKeys":["a","b"],"deleteHorizonMs":null,"key":{"base64":"/w=="},"payload":"v"}"#
        );
    }

    #[test]
    fn findings_are_told_by_kind_and_file() {
        let mut findings = Findings::default();
        let (one, two) = (Path::new("/1.index"), Path::new("/2.index"));
        findings.add(Finding::NonConsecutive, two, (5, 7));
        findings.add(Finding::Mismatch, one, (1, 2));
        findings.add(Finding::Mismatch, one, (3, 4));
        findings.add(Finding::OffsetNotFound, two, (8, -1));
        assert_eq!(
            findings.lines(),
            [
                "Mismatches in :/1.index",
                "  Index offset: 3, log offset: 4",
                "  Index offset: 1, log offset: 2",
                "The following indexed offsets are not found in the log.",
                "Indexed offset: 8, found log offset: -1",
                "Non-consecutive offsets in /2.index",
                "  5 is followed by 7",
            ]
        );
    }
}
