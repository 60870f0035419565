use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Settings as a file holds them, one `key=value` to a line, sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Sets `key`, over an older value.
    pub fn set(&mut self, key: impl Into<String>, value: impl ToString) {
        self.0.insert(key.into(), value.to_string());
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All settings, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Takes over every setting of `other`.
    pub fn extend(&mut self, other: &Properties) {
        self.0.extend(other.0.clone());
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        self.iter().fold(String::new(), |mut text, (key, value)| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{key}={value}");
            text
        })
    }

    /// Reads such a file; `#` begins a comment line.
    ///
    /// # Errors
    /// When the file cannot be read, or a line holds no `=`.
    pub fn load(path: &Path) -> Result<Properties> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut properties = Properties::default();
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let Some((key, value)) = line.split_once('=') else {
                bail!("{}: '{line}' is not key=value", path.display());
            };
            properties.set(key.trim(), value.trim());
        }
        Ok(properties)
    }
}

impl<K: Into<String>, V: ToString> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(settings: I) -> Self {
        let mut properties = Properties::default();
        for (key, value) in settings {
            properties.set(key, value);
        }
        properties
    }
}
